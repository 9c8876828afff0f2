//! Starting the toy and talking to it.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;

use socket2::{Domain, Protocol, Socket, Type};

use crate::process::{PATIENCE, Process};
use crate::toy::OPTIONS;

pub struct Daemon {
    // Dropped, and so ended, before its directory is.
    process: Process,
    pub addresses: Vec<SocketAddr>,
    pub directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts it with these options and waits until it is ready.
    pub fn start(options: &str) -> Self {
        let mut daemon = Self::launch(options);
        daemon.addresses = daemon.ready();
        daemon
    }

    /// Starts it and waits for nothing.
    pub fn launch(options: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        make_readable(directory.path());
        let place = directory.path().display();
        let options = options.replace("$DIR", &place.to_string());
        let listen = if options.contains("listen=") {
            ""
        } else {
            "listen=127.0.0.1"
        };
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(OPTIONS, format!("dir={place} {listen} {options}"));
        // some panic on purpose, and on a busy machine it takes long to find out where
        command.env("RUST_BACKTRACE", "0");
        let (process, addresses) = (Process::start(&mut command), Vec::new());
        Self {
            process,
            addresses,
            directory,
        }
    }

    /// So many clients at once, of whom nobody leaves before all have been answered: how many were greeted, and how
    /// many were told that they are too many.
    pub fn stampede(&self, clients: usize) -> (usize, usize) {
        let all_answered = Barrier::new(clients);
        let visit = || {
            let mut client = self.connect();
            let line = client.read();
            all_answered.wait();
            let greeted = line.starts_with("hello");
            assert!(greeted || line.starts_with("too many, "), "{line:?}");
            greeted
        };
        let greeted = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(visit)).collect();
            let answers = clients.into_iter().map(|client| client.join().expect("a client"));
            answers.filter(|greeted| *greeted).count()
        });
        (greeted, clients - greeted)
    }

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

/// Lets the user that root becomes look into a directory.
pub fn make_readable(directory: &Path) {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("permissions");
}

/// A client of the toy.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Connects from one of the machine's addresses.
    pub fn connect_from(ip: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("socket");
        socket.bind(&SocketAddr::new(ip, 0).into()).expect("bind");
        socket.connect_timeout(&address.into(), PATIENCE).expect("connect");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The next line; empty at the end.
    pub fn read(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line in time");
        line.trim_end().to_string()
    }

    /// Says a line and reads the answer.
    pub fn say(&mut self, line: &str) -> String {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .expect("write");
        self.read()
    }

    /// The numbers of the greeting: process, generation, sessions of this address.
    pub fn greeting(&mut self) -> (i32, u32, u32) {
        let line = self.read();
        let words: Vec<&str> = line.split(' ').collect();
        let [_, pid, generation, same] = words[..] else {
            panic!("not greeted but {line:?}")
        };
        (
            pid.parse().expect("pid"),
            generation.parse().expect("number"),
            same.parse().expect("number"),
        )
    }
}
