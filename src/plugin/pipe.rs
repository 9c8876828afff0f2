//! Files and pipes that plugins write to without waiting for ever for whoever reads them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Opens a file to append to it. A pipe that nobody reads from is an error, and not waited for.
///
/// # Errors
/// Those of the system.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path)
}

/// The standard input of a program as a file for [`write_in_time`].
///
/// # Errors
/// Those of the system.
pub fn input_of(child: &mut Child) -> io::Result<File> {
    let pipe = child.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
    unblock(&pipe)?;
    Ok(File::from(OwnedFd::from(pipe)))
}

/// Writes all of it into a file, or into a pipe whose reader takes it in time.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::TimedOut`] if nobody has read.
pub fn write_in_time(mut file: &File, mut bytes: &[u8], wait: Duration) -> io::Result<()> {
    let mut deadline = None;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + wait);
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads from the pipe"));
                }
                let mut pipe = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                // rounded up, so that it does not spin through the last part of a millisecond
                let step = left + Duration::from_millis(1);
                match poll(&mut pipe, PollTimeout::try_from(step).unwrap_or(PollTimeout::ZERO)) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(why) => return Err(why.into()),
                }
            }
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Lets reading and writing return at once.
pub(super) fn unblock(pipe: &impl AsFd) -> io::Result<()> {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
