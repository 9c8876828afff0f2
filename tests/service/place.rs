//! A service directory, as an installation has it, and programs run in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Client, Site};
use crate::process::eventually;

/// The root of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
pub fn text_of(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A site with `run`, `log/` and `bin/`, listening on a free port of 127.0.0.1.
pub struct Place {
    /// The site whose directory it is.
    pub site: Site,
    name: String,
}

impl Place {
    /// A fresh one; its directory is called `name`.
    pub fn new(name: &str) -> Self {
        let place = Self {
            site: Site::empty(),
            name: name.into(),
        };
        for folder in ["log", "bin", "config", "plugins"] {
            std::fs::create_dir_all(place.path().join(folder)).expect("a folder");
        }
        for file in [
            "run",
            "log/run",
            "log/watch",
            "log/show_message",
            "log/summarize",
            "log/tools.sh",
            "plugins/registry.txt",
        ] {
            std::fs::copy(project().join(file), place.path().join(file)).expect(file);
        }
        for program in [
            env!("CARGO_BIN_EXE_qpsmtpd-prefork"),
            env!("CARGO_BIN_EXE_qpsmtpd"),
            env!("CARGO_BIN_EXE_qpsmtpctl"),
        ] {
            let name = Path::new(program).file_name().expect("a name");
            std::os::unix::fs::symlink(program, place.path().join("bin").join(name)).expect("link");
        }
        for (name, text) in [
            ("IP", "127.0.0.1\n"),
            ("port", "0\n"),
            ("me", "mx.example.com\n"),
            ("rcpthosts", "example.com\n"),
            ("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n"),
            ("loglevel", "6\n"),
            ("spool_dir", "tmp\n"),
        ] {
            place.config(name, text);
        }
        place
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.site.path().join(&self.name)
    }

    /// Writes a file of its configuration.
    pub fn config(&self, name: &str, text: &str) {
        std::fs::write(self.path().join("config").join(name), text).expect("write");
    }

    /// Makes what a process that does not start as root cannot make for itself.
    pub fn folders_for_all(&self) {
        for folder in ["tmp", "Maildir"] {
            let path = self.path().join(folder);
            std::fs::create_dir(&path).expect("a folder");
            let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(path, all).expect("permissions");
        }
    }

    /// How many messages have arrived.
    pub fn messages(&self) -> usize {
        let entries = std::fs::read_dir(self.path().join("Maildir/new"));
        entries.map_or(0, |entries| entries.count())
    }

    /// The log as log/run writes it, or nothing yet.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log/main/current")).unwrap_or_default()
    }

    /// Waits until the log has a line that contains `words`, beginning with line `from`; tells which line that is.
    pub fn logged(&self, words: &str, from: usize) -> usize {
        let find = || self.log().lines().skip(from).position(|line| line.contains(words));
        eventually(words, || find().is_some());
        from + find().expect("it was there")
    }

    /// Where the daemon listens that has logged so at or after line `from`.
    pub fn address(&self, from: usize) -> SocketAddr {
        self.logged(" ready", from);
        let line = self.logged(" listening on ", from);
        let log = self.log();
        let address = log.lines().nth(line).and_then(|line| line.rsplit(' ').next());
        address.and_then(|text| text.parse().ok()).expect("an address")
    }
}

/// A client at an address, greeted with 220.
pub fn client(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    assert_eq!(client.reply().0, 220);
    client
}

/// What a shell makes of these words.
pub fn shell(words: &str) -> Output {
    Command::new("sh").args(["-c", words]).output().expect("run")
}

/// Runs a command; its standard output.
///
/// # Panics
/// If it fails.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out
}

/// Whether a process is there.
pub fn lives(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// A process that is ended with all of its session when this is dropped, whatever the test came to.
pub struct Ended(pub std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}
