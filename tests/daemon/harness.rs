//! A site (a directory with a configuration), a daemon that serves it, and a client that speaks SMTP.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use socket2::{Domain, Protocol, Socket, Type};

use crate::process::{PATIENCE, Process};

/// A fresh directory with a configuration that accepts mail for example.com into ./Maildir.
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// The usual configuration.
    pub fn new() -> Self {
        let site = Self::empty();
        std::fs::create_dir(site.path().join("config")).expect("config");
        site.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");
        site.config("rcpthosts", "example.com\n");
        site.config("me", "mx.example.com\n").config("loglevel", "6\n");
        site
    }

    /// A directory with nothing in it, which the user who serves can look into.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let readable = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), readable).expect("permissions");
        Self { directory }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file of the configuration.
    pub fn config(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.path().join("config").join(name), text).expect("write");
        self
    }

    /// One of the programs, to be run in this directory and to find nothing outside it.
    pub fn program(&self, name: &str) -> Command {
        let file = match name {
            "qpsmtpd-prefork" => env!("CARGO_BIN_EXE_qpsmtpd-prefork"),
            "qpsmtpd-forkserver" => env!("CARGO_BIN_EXE_qpsmtpd-forkserver"),
            "qpsmtpd" => env!("CARGO_BIN_EXE_qpsmtpd"),
            "qpsmtpctl" => env!("CARGO_BIN_EXE_qpsmtpctl"),
            other => panic!("there is no program {other}"),
        };
        let mut command = Command::new(file);
        command.current_dir(self.path()).env_clear().env("HOME", self.path());
        command.env("PATH", "/usr/bin:/bin");
        command
    }

    /// The messages in ./Maildir/new.
    pub fn messages(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path().join("Maildir/new")) else {
            return Vec::new();
        };
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("a message");
        entries.map(|entry| read(entry.expect("an entry").path())).collect()
    }
}

/// A daemon that serves a site.
pub struct Daemon {
    // Dropped, and so ended, before its directory is.
    process: Process,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// What it serves.
    pub site: Site,
}

impl Daemon {
    /// qpsmtpd-prefork with these options for the usual site, and one listener on 127.0.0.1.
    pub fn start(options: &[&str]) -> Self {
        Self::serve(Site::new(), &[&["--listen-address", "127.0.0.1:0"], options].concat())
    }

    /// qpsmtpd-prefork with these options for a site.
    pub fn serve(site: Site, options: &[&str]) -> Self {
        let mut command = site.program("qpsmtpd-prefork");
        Self::run(site, command.arg("--no-rdns").args(options))
    }

    /// Any program that becomes a daemon.
    pub fn run(site: Site, command: &mut Command) -> Self {
        let process = Process::start(command);
        let addresses = process.ready();
        Self {
            process,
            addresses,
            site,
        }
    }

    /// A client, greeted with 220.
    pub fn client(&self) -> Client {
        let mut client = self.connect();
        assert_eq!(client.reply().0, 220);
        client
    }

    /// A client that has read nothing yet.
    pub fn connect(&self) -> Client {
        Client::connect(self.addresses[0])
    }
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Delivers one message with this subject to user@example.com; whether it got its 250.
pub fn deliver(address: SocketAddr, subject: &str) -> bool {
    let talk = || -> io::Result<bool> {
        let mut client = Client::try_connect(address)?;
        let text = format!("Subject: {subject}\r\n\r\nText.\r\n.");
        let lines = [
            "EHLO x.example.net",
            "MAIL FROM:<a@example.net>",
            "RCPT TO:<user@example.com>",
            "DATA",
            &text,
        ];
        let mut sound = client.try_reply()?.0 == 220;
        for line in lines {
            sound = sound && matches!(client.try_say(line)?.0, 250 | 354);
        }
        Ok(sound)
    };
    talk().unwrap_or(false)
}

/// A client that speaks SMTP.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects from whatever address the system chooses.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("connect")
    }

    /// Connects, or says why not.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect_timeout(&address, PATIENCE)?))
    }

    /// Connects from one of the machine's addresses.
    pub fn connect_from(ip: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
        let socket = socket.expect("socket");
        socket.bind(&SocketAddr::new(ip, 0).into()).expect("bind");
        socket.connect_timeout(&address.into(), PATIENCE).expect("connect");
        Self::over(socket.into())
    }

    /// Connects to a unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connect");
        // what a client does with it is the same for both kinds
        Self::over(TcpStream::from(OwnedFd::from(stream)))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Code and text of the next reply, lines joined by `\n`; 0 if the connection has ended.
    pub fn reply(&mut self) -> (u16, String) {
        self.try_reply().expect("a reply in time")
    }

    /// The next reply, or what has become of the connection.
    pub fn try_reply(&mut self) -> io::Result<(u16, String)> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok((0, text));
            }
            let line = line
                .strip_suffix("\r\n")
                .unwrap_or_else(|| panic!("no CRLF ends {line:?}"));
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok((line[..3].parse().expect("a code"), text));
            }
            text.push('\n');
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).expect("send");
    }

    /// Sends a command and returns the reply, or what has become of the connection.
    pub fn try_say(&mut self, line: &str) -> io::Result<(u16, String)> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.try_reply()
    }

    /// Sends a command and returns the code of the reply.
    pub fn say(&mut self, line: &str) -> u16 {
        self.try_say(line).expect("a reply").0
    }

    /// Sends a command and expects this code.
    pub fn expect(&mut self, code: u16, line: &str) -> &mut Self {
        let reply = self.try_say(line).expect("a reply");
        assert_eq!(reply.0, code, "{line}: {}", reply.1);
        self
    }

    /// Goes as far as the 354, for a message to user@example.com.
    pub fn begin_message(&mut self) -> &mut Self {
        self.expect(250, "EHLO client.example.net");
        self.expect(250, "MAIL FROM:<sender@example.net>");
        self.expect(250, "RCPT TO:<user@example.com>").expect(354, "DATA")
    }

    /// Sends a message with this subject; returns the code of the answer to it.
    pub fn message(&mut self, subject: &str) -> u16 {
        self.begin_message();
        self.say(&format!("Subject: {subject}\r\n\r\nText.\r\n."))
    }

    /// Whether the server has closed, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            // It closed while something we had sent was on its way.
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
