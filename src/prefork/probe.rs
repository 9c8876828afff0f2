//! A trial load in a child process, so that a configuration or a plugin that crashes or hangs while it is loaded
//! cannot hurt the master.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::signals::Held;
use super::start::load_soundly;
use super::{Load, Purpose, sys};

/// How long loading may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of the faults is heard.
const MOST: usize = 256 * 1024;
/// The child's only byte if all is well with it; faults are text and never hold it.
pub(super) const SOUND: u8 = 0;

/// A trial that is going on.
pub(super) struct Probe {
    child: Pid,
    pipe: UnixStream,
    words: Vec<u8>,
    deadline: Instant,
    /// What is tried, and what it means to hear nothing.
    names: [&'static str; 2],
}

impl Probe {
    /// Begins a trial; `token` shows when there is something to hear. The child ends inside this function.
    pub(super) fn start(load: Load<'_>, registry: &Registry, token: Token) -> io::Result<Probe> {
        let (pipe, far_end) = UnixStream::pair()?;
        // In the child signals stay held: its handlers are the master's, and would speak to the master.
        let held = Held::all()?;
        let Some(child) = sys::fork()? else {
            let outcome = load_soundly(load, Purpose::Trial);
            let words = outcome.map_or_else(String::into_bytes, |_| vec![SOUND]);
            let told = (&far_end).write_all(&words);
            std::process::exit(i32::from(told.is_err()));
        };
        drop(held);
        Probe::of(child, pipe, ["loading", "loading crashed"], registry, token)
    }

    /// A trial that goes on in a child, which closes its end of the pipe when it is over. The names are what is tried,
    /// and what it means to hear nothing.
    pub(super) fn of(
        child: Pid,
        pipe: UnixStream,
        names: [&'static str; 2],
        registry: &Registry,
        token: Token,
    ) -> io::Result<Probe> {
        pipe.set_nonblocking(true)?;
        registry.register(&mut SourceFd(&pipe.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Probe {
            child,
            pipe,
            words: Vec::new(),
            deadline: Instant::now() + PATIENCE,
            names,
        })
    }

    /// The process in which it goes on.
    pub(super) fn child(&self) -> Pid {
        self.child
    }

    /// Ends it; not in a Drop: workers inherit this value and drop it, too.
    pub(super) fn kill(&self) {
        let _ = kill(self.child, Signal::SIGKILL);
    }

    /// When the trial has lasted too long.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What came of the trial, or none as long as it goes on: the faults, if there are any.
    pub(super) fn outcome(&mut self) -> Option<Result<(), String>> {
        let mut bytes = [0; 4096];
        loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) if self.words.len() < MOST => self.words.extend_from_slice(&bytes[..n]),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < self.deadline => return None,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // It has not closed its end, so it still runs and its id is its own.
                    self.kill();
                    let seconds = PATIENCE.as_secs();
                    return Some(Err(format!("{} took longer than {seconds} s", self.names[0])));
                }
                Err(_) => break,
            }
        }
        Some(match self.words.as_slice() {
            [SOUND] => Ok(()),
            [] => Err(self.names[1].to_owned()),
            words => Err(String::from_utf8_lossy(words).into_owned()),
        })
    }
}
