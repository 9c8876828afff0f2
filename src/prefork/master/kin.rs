//! Other masters whose workers are on the same scoreboard, before this one or after it. Each clears up after its own
//! workers; when it dies before it could, this one does: its workers end by themselves, and then their seats are free.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::{Level, Log, sys};
use super::Master;

/// Tells the death of one of them.
pub(super) const KIN: Token = Token(usize::MAX - 5);

/// Processes that are none of our children, whose end matters.
#[derive(Default)]
pub(super) struct Kin(Vec<Relative>);

struct Relative {
    pid: u32,
    /// Readable when it has ended.
    end: OwnedFd,
    /// A master whose place this one has taken.
    former: bool,
}

impl Relative {
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }
}

impl Master {
    /// Watches the masters of workers that are not ours, or if they are dead those workers, and clears the rows of
    /// those that are dead as well. To be called when one of them has ended, and when there may be new ones.
    pub(super) fn watch_kin(&mut self, log: Log<'_>) {
        let registry = self.poll.registry();
        self.kin.0.retain(|relative| {
            let ended = relative.has_ended();
            if ended {
                let _ = registry.deregister(&mut SourceFd(&relative.end.as_raw_fd()));
            }
            !ended
        });
        let rows: Vec<usize> = self.crew.board().foreign_rows().collect();
        for row in rows {
            let seen = &self.crew.board().rows()[row];
            let (master, worker) = (seen.master(), seen.pid());
            // its master may have cleared it, or died before there was a worker
            if master == 0 || self.lives(master, log) || worker != 0 && self.lives(worker, log) {
                continue;
            }
            log(
                Level::Warning,
                &format!("worker {worker} of the dead master {master} is gone, its seats are free"),
            );
            self.crew.board().clear(row);
        }
    }

    /// Whether a process lives; then its end will be told.
    fn lives(&mut self, pid: u32, log: Log<'_>) -> bool {
        if self.kin.0.iter().any(|relative| relative.pid == pid) {
            return true;
        }
        let end = match sys::watch_process(pid) {
            Ok(Some(end)) => end,
            Ok(None) => return false,
            Err(e) => {
                log(Level::Warning, &format!("cannot watch process {pid}: {e}"));
                return true;
            }
        };
        let former = false;
        let relative = Relative { pid, end, former };
        if relative.has_ended() {
            return false;
        }
        let fd = relative.end.as_raw_fd();
        let registered = self
            .poll
            .registry()
            .register(&mut SourceFd(&fd), KIN, Interest::READABLE);
        if let Err(e) = registered {
            log(Level::Warning, &format!("cannot watch process {pid}: {e}"));
        }
        self.kin.0.push(relative);
        true
    }

    /// Takes note of the master whose place this one has taken: it ends with its last session, or with this one.
    pub(super) fn remember_former(&mut self, pid: u32, log: Log<'_>) {
        if self.lives(pid, log) {
            let known = self.kin.0.iter_mut().filter(|relative| relative.pid == pid);
            known.for_each(|relative| relative.former = true);
        }
    }

    /// Passes the end on to the masters whose places this one has taken: whoever ends the service means them as well.
    pub(super) fn end_former(&self, signal: Signal) {
        for relative in self.kin.0.iter().filter(|relative| relative.former) {
            // it may have ended by itself
            let _ = kill(Pid::from_raw(relative.pid.cast_signed()), signal);
        }
    }

    /// Whether one of them still has sessions.
    pub(super) fn has_former(&self) -> bool {
        self.kin.0.iter().any(|relative| relative.former)
    }

    /// Makes the worker of a row look at its seats; if it is not ours, its master does.
    pub(super) fn wake_row(&mut self, row: usize) {
        let master = self.crew.board().rows()[row].master();
        if master == std::process::id() {
            self.crew.wake(row);
        } else if self.kin.0.iter().any(|relative| relative.pid == master) {
            let _ = kill(Pid::from_raw(master.cast_signed()), Signal::SIGHUP);
        }
    }
}
