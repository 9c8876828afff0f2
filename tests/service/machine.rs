//! A container in which a living systemd is the first process, with the daemon installed as the README says.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use nix::unistd::Uid;

use crate::place::project;
use crate::process::eventually;
use crate::programs::{missing, need};

/// Where programs lie in there.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// A container; it ends when this is dropped, or dies.
pub struct Machine {
    boot: Child,
    /// Its first process, as the machine outside counts.
    first: u32,
}

impl Machine {
    /// Boots one; none if programs are missing that it takes, or we are not root.
    pub fn boot() -> Option<Machine> {
        for name in ["systemctl", "journalctl", "unshare", "nsenter", "busybox"] {
            need(name)?;
        }
        if !Uid::effective().is_root() {
            missing("root, who can make containers,");
            return None;
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_qpsmtpd")).parent().expect("a directory");
        let mut boot = Command::new(project().join("tests/service/boot.sh"));
        boot.arg(project()).arg(programs);
        let mut boot = boot
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("boot.sh");
        let mut line = String::new();
        let told = BufReader::new(boot.stdout.as_mut().expect("a pipe")).read_line(&mut line);
        told.expect("a line");
        let first = line.trim().parse().expect("a number");
        let machine = Machine { boot, first };
        eventually("systemd", || {
            let name = std::fs::read_to_string(format!("/proc/{first}/comm"));
            name.expect("boot.sh goes on").trim() == "systemd"
        });
        eventually("the system is up", || {
            let mut asked = machine.command("systemctl is-active basic.target");
            let answer = asked.stderr(Stdio::null()).output().expect("nsenter");
            answer.stdout == b"active\n"
        });
        Some(machine)
    }

    /// Boots one and installs the daemon, as the README says.
    pub fn with_daemon() -> Option<Machine> {
        let machine = Machine::boot()?;
        // The outer machine's user may come and go with other tests.
        machine.sh("sed -i /^smtpd:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow");
        let readme = std::fs::read_to_string(project().join("README.md")).expect("README.md");
        let useradd = readme.lines().find(|line| line.trim().starts_with("useradd "));
        machine.sh(useradd.expect("a line with useradd"));
        machine.sh("PROGRAMS=/programs /src/bin/service/install /opt/qpsmtpd");
        machine.set("me", "mx.example.com");
        machine.set("rcpthosts", "example.com");
        machine.set("IP", "0");
        machine.set("port", "25");
        machine.set("plugins", "rcpt_ok\nqueue/maildir ./Maildir");
        machine.sh("cd /opt/qpsmtpd && bin/qpsmtpctl check");
        Some(machine)
    }

    /// A shell in there with these words.
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.first.to_string(),
            "--all",
            "env",
            "-i",
            PATH,
            "sh",
            "-c",
            words,
        ]);
        command.stdin(Stdio::null());
        command
    }

    /// What becomes of these words of the shell.
    pub fn try_sh(&self, words: &str) -> Output {
        self.command(words).output().expect("nsenter")
    }

    /// What the shell prints.
    ///
    /// # Panics
    /// If it fails; with the log.
    #[track_caller]
    pub fn sh(&self, words: &str) -> String {
        let output = self.try_sh(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let journal = || text(&self.try_sh("journalctl --no-pager -n 100").stdout);
        assert!(output.status.success(), "{words}:\n{out}\n{err}\n{}", journal());
        out
    }

    /// Writes a file of the configuration.
    pub fn set(&self, name: &str, text: &str) {
        self.sh(&format!("printf '%s\\n' '{text}' >/opt/qpsmtpd/config/{name}"));
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        let value = self.sh(&format!("systemctl show {unit} -p {name} --value"));
        value.trim().to_owned()
    }

    /// Checks properties of a unit.
    #[track_caller]
    pub fn expect(&self, unit: &str, wanted: &[(&str, &str)]) {
        for (name, value) in wanted {
            let found = self.property(unit, name);
            assert_eq!(&found, value, "{name}: {}", self.journal(unit, ""));
        }
    }

    /// The log of a unit: the words alone, of records that these further words of journalctl choose.
    pub fn journal(&self, unit: &str, which: &str) -> String {
        // what has been written until now is in it then
        self.sh(&format!(
            "journalctl --sync && journalctl --no-pager -q -o cat -u {unit} {which}"
        ))
    }

    /// Waits until the log of a unit has these words.
    pub fn logged(&self, unit: &str, words: &str) {
        eventually(words, || self.journal(unit, "").contains(words));
    }

    /// How many messages have arrived.
    pub fn messages(&self) -> usize {
        self.sh("ls /opt/qpsmtpd/Maildir/new").lines().count()
    }

    /// A client at a port in there.
    pub fn connect(&self, port: u16) -> Talk {
        let mut command = self.command(&format!("exec busybox nc 127.0.0.1 {port}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = command.spawn().expect("nsenter");
        Talk {
            out: client.stdin.take(),
            lines: BufReader::new(client.stdout.take().expect("a pipe")),
            client,
        }
    }

    /// Sends a message.
    #[track_caller]
    pub fn send(&self, port: u16, greeting: &str) {
        let mut client = self.connect(port);
        client.expect("220", "");
        client.begin(greeting);
        client.expect("250", "Subject: x\r\n\r\nText.\r\n.");
        client.expect("221", "QUIT");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        let ended = self.boot.wait();
        let ended = ended.is_ok_and(|status| status.success());
        assert!(ended || std::thread::panicking(), "something is left of the container");
    }
}

/// A conversation over a connection in the container.
pub struct Talk {
    client: Child,
    out: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Talk {
    /// Says something, or nothing, and checks the code of the answer.
    #[track_caller]
    pub fn expect(&mut self, code: &str, line: &str) {
        if !line.is_empty() {
            let told = self
                .out
                .as_mut()
                .expect("a pipe")
                .write_all(format!("{line}\r\n").as_bytes());
            told.expect("a connection");
        }
        loop {
            let mut reply = String::new();
            self.lines.read_line(&mut reply).expect("a line");
            assert!(reply.starts_with(code), "{line}: {reply:?}");
            if reply.as_bytes().get(3) != Some(&b'-') {
                return;
            }
        }
    }

    /// Begins a message, up to its text.
    #[track_caller]
    pub fn begin(&mut self, greeting: &str) {
        self.expect("250", greeting);
        self.expect("250", "MAIL FROM:<sender@example.net>");
        self.expect("250", "RCPT TO:<user@example.com>");
        self.expect("354", "DATA");
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.out.take());
        // the container may have been dropped before, and it with it
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
