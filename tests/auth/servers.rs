//! Servers of others, each with a folder and ports of its own; ended, with all they have started, when they are dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, getuid};

use crate::harness::Site;
use crate::process::PATIENCE;

/// A running server.
pub struct Server {
    child: Child,
    site: Site,
    /// Ports that were free, for it to listen on.
    pub ports: [u16; 2],
}

impl Server {
    /// Starts what `command` makes for a folder and free ports, and waits until it is `ready`. Another program may take
    /// a port in between: then others are tried.
    pub fn start(
        mut command: impl FnMut(&Path, [u16; 2]) -> Command,
        ready: impl Fn(&Path, [u16; 2]) -> bool,
    ) -> Server {
        for _ in 0..5 {
            let site = Site::empty();
            let ports = free_ports();
            let log = std::fs::File::create(site.path().join("log")).expect("a log");
            let mut command = command(site.path(), ports);
            let errors = log.try_clone().expect("a log");
            command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
            let child = command.spawn().expect("start");
            let mut server = Server { child, site, ports };
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline && matches!(server.child.try_wait(), Ok(None)) {
                if ready(server.path(), ports) {
                    return server;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            eprintln!("{}", std::fs::read_to_string(server.file("log")).unwrap_or_default());
        }
        panic!("the server does not start");
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.site.path()
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Ends it, as a crash would.
    pub fn crash(&mut self) {
        // it may have ended by itself
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32);
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.crash();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.file("log")).unwrap_or_default());
        }
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind"));
    listeners
        .each_ref()
        .map(|one| one.local_addr().expect("address").port())
}

/// Whether somebody listens at a port.
pub fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Whether somebody listens at a socket.
pub fn listens_at(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// The user as whom the daemon serves.
pub fn servant() -> User {
    let named = |name| User::from_name(name).ok().flatten();
    let user = match getuid().is_root() {
        true => named("smtpd").or_else(|| named("nobody")),
        false => User::from_uid(getuid()).ok().flatten(),
    };
    user.expect("a user")
}

/// Writes a file that everybody may read.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
}

/// Writes a program.
pub fn script(path: &Path, text: &str) {
    write(path, text);
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
}

/// A certificate for 127.0.0.1 and 127.0.0.2, and its CA, in the folder `ssl` of a directory.
pub fn certificate(folder: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpsmtpctl"));
    command
        .current_dir(folder)
        .args(["cert", "--CN", "127.0.0.1", "--name", "127.0.0.2", "--dir", "ssl"]);
    crate::programs::succeed(&mut command);
}
