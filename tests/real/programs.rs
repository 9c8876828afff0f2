//! Finding and running the programs of others.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::PATIENCE;

/// A program that may be missing.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Where its libraries lie, if not where the system looks.
    libraries: Option<PathBuf>,
    /// Where its modules of Python lie, if not where Python looks.
    python: Option<PathBuf>,
}

impl Program {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another program that lies beside it.
    pub fn sibling(&self, name: &str) -> Program {
        Program {
            path: self.path.with_file_name(name),
            ..self.clone()
        }
    }

    /// A command with this program.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null());
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some(python) = &self.python {
            command.env("PYTHONPATH", python);
        }
        command
    }
}

/// The program of this name, from PATH or from what was unpacked.
///
/// None, loudly, if it is missing; then the test is over.
///
/// # Panics
/// If it is missing and must not be.
pub fn need(name: &str) -> Option<Program> {
    let unpacked = |name| target().join("real").join(name).join("usr");
    let [postfix, exim, fail2ban] = ["postfix", "exim", "fail2ban"].map(unpacked);
    let [haproxy, stunnel] = ["haproxy", "stunnel4"].map(unpacked);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend([postfix.join("sbin"), exim.join("sbin"), fail2ban.join("bin")]);
    places.extend([haproxy.join("sbin"), stunnel.join("bin")]);
    // where servers lie, and what PATH of a user need not have
    places.extend(["/usr/sbin".into(), "/sbin".into()]);
    let found = places.iter().map(|place| place.join(name)).find(|path| path.is_file());
    let Some(path) = found else {
        missing(name);
        return None;
    };
    let libraries = path.starts_with(&postfix).then(|| postfix.join("lib/postfix"));
    Some(Program {
        python: path
            .starts_with(&fail2ban)
            .then(|| fail2ban.join("lib/python3/dist-packages")),
        path,
        libraries,
    })
}

/// A Python that has this module; else as [`need`].
pub fn need_python(module: &str) -> Option<Program> {
    for name in ["python3", "/usr/bin/python3"] {
        let program = Program {
            path: name.into(),
            libraries: None,
            python: None,
        };
        let mut command = program.command();
        command.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return Some(program);
        }
    }
    missing(&format!("python3 with {module}"));
    None
}

/// Says that something is missing.
///
/// # Panics
/// If it must not be.
pub fn missing(what: &str) {
    let required = std::env::var_os("QPSMTPD_REQUIRE_REAL").is_some_and(|value| value == "1");
    assert!(!required, "{what} is missing; .ci/real-programs gets it");
    eprintln!("SKIPPED: {what} is missing; .ci/real-programs gets it");
}

/// The directory of build results.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("a directory above")
}

/// Runs a command to its end.
///
/// # Panics
/// If it fails.
pub fn succeed(command: &mut Command) {
    let output = command.output().expect("start");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
}

/// A server of others that listens on a port it is told; killed when this is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts the command that `command` makes for a free port and waits until it listens there. Another program may
    /// take the port in between: then another one is tried.
    pub fn start(command: impl Fn(SocketAddr) -> Command) -> Self {
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
            let address = listener.local_addr().expect("address");
            drop(listener);
            let child = command(address).spawn().expect("start");
            let mut server = Self { child, address };
            if server.listens() {
                return server;
            }
        }
        panic!("the server does not start");
    }

    fn listens(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
