//! Signals as bytes in a pipe, so that they can be waited for beside everything else.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use mio::net::UnixStream;
use nix::sys::signal::{SigSet, SigmaskHow};
use signal_hook::consts::SIGXFSZ;
use signal_hook::{SigId, flag, low_level};

/// The signals that a process wants to hear of. Dropping it ends the hearing; the signals are then
/// ignored.
pub(super) struct Signals {
    /// Readable when a signal has come.
    pub(super) pipe: UnixStream,
    flags: Vec<(i32, Arc<AtomicBool>)>,
    ids: Vec<SigId>,
}

impl Signals {
    /// Begins to listen to `signals`.
    pub(super) fn listen(signals: &[i32]) -> io::Result<Self> {
        let (pipe, far_end) = std::os::unix::net::UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let pipe = UnixStream::from_std(pipe);
        let mut heard = Self {
            pipe,
            flags: Vec::new(),
            ids: Vec::new(),
        };
        for &signal in signals {
            // The flag is set first, because actions run in the order in which they are registered.
            let seen = Arc::new(AtomicBool::new(false));
            heard.ids.push(flag::register(signal, Arc::clone(&seen))?);
            heard.ids.push(low_level::pipe::register(signal, far_end.try_clone()?)?);
            heard.flags.push((signal, seen));
        }
        Ok(heard)
    }

    /// Empties the pipe and says which signals have come, in the order in which they were asked for.
    pub(super) fn take(&mut self) -> Vec<i32> {
        let mut bytes = [0; 256];
        while matches!(self.pipe.read(&mut bytes), Ok(n) if n > 0) {}
        self.flags
            .iter()
            .filter(|(_, seen)| seen.swap(false, SeqCst))
            .map(|(s, _)| *s)
            .collect()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// Writes a byte to `socket`, which must be one, whenever `signal` comes.
pub(super) fn forward(signal: i32, socket: OwnedFd) -> io::Result<()> {
    low_level::pipe::register(signal, socket).map(drop)
}

/// From now on a file that would become longer than this process may make it (RLIMIT_FSIZE) is an error of the call that
/// writes, as a full disk is, and not the end of the process and of all its sessions. It holds for those that are forked,
/// and not for programs that are started.
///
/// # Errors
/// Those of the system.
pub fn outlive_limits_of_files() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// All signals are held back as long as this lives.
pub(super) struct Held(SigSet);

impl Held {
    /// Begins to hold signals back.
    pub(super) fn all() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Can fail for a bad first argument only.
        let _ = self.0.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGURG, SIGWINCH};

    #[test]
    fn tells_which_signals_came_once() {
        let mut signals = Signals::listen(&[SIGWINCH, SIGURG]).unwrap();
        assert!(signals.take().is_empty());
        low_level::raise(SIGURG).unwrap();
        low_level::raise(SIGURG).unwrap();
        assert_eq!(signals.take(), [SIGURG]);
        low_level::raise(SIGURG).unwrap();
        low_level::raise(SIGWINCH).unwrap();
        assert_eq!(signals.take(), [SIGWINCH, SIGURG]);
        assert!(signals.take().is_empty());
    }
}
