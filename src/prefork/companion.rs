//! The companion: a process beside the workers that shows what the daemon does to those who ask by HTTP or the like,
//! so that nothing of that runs in the master. It has no rights but its listener and a line to the master, over which
//! it may look and change nothing.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::confine::{Confinement, Programs, confine};
use super::signals::Held;
use super::{Log, Service, sys, title};

/// One that dies is replaced, but not more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// The companion as the master knows it.
pub(super) struct Companion {
    listener: TcpListener,
    pid: Option<Pid>,
    /// When it was last started.
    born: Option<Instant>,
}

/// What it begins with.
pub(super) struct Newborn {
    listener: TcpListener,
    line: UnixStream,
    held: Held,
}

impl Companion {
    pub(super) fn new(listener: TcpListener) -> Companion {
        Companion {
            listener,
            pid: None,
            born: None,
        }
    }

    /// The socket at which it answers.
    pub(super) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// When it is to be started.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.pid {
            Some(_) => None,
            None => Some(self.born.map_or_else(Instant::now, |born| born + PAUSE)),
        }
    }

    /// Makes the process: in the parent the master's end of its line, in the child what it begins with.
    pub(super) fn bear(&mut self) -> io::Result<Result<UnixStream, Newborn>> {
        self.born = Some(Instant::now());
        let (ours, line) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let listener = self.listener.try_clone()?;
        let held = Held::all()?;
        match sys::fork()? {
            None => Ok(Err(Newborn { listener, line, held })),
            child => {
                self.pid = child;
                Ok(Ok(ours))
            }
        }
    }

    /// Takes note of its death.
    pub(super) fn bury(&mut self, dead: &[Pid]) {
        self.pid = self.pid.filter(|pid| !dead.contains(pid));
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        if let Some(pid) = self.pid.take() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// The life of the companion; returns its exit code. Ends when the master does.
pub(super) fn live(newborn: Newborn, service: &Arc<dyn Service>, log: Log<'_>) -> u8 {
    let Newborn { listener, line, held } = newborn;
    drop(held);
    title::title(format_args!("qpsmtpd status page"));
    let walls = service.confinement();
    let cell = Confinement {
        read: Vec::new(),
        write: Vec::new(),
        programs: Programs::None,
        ..walls
    };
    confine(&cell, log);
    match service.console() {
        Some(console) => console.show(listener, line),
        None => 0,
    }
}
