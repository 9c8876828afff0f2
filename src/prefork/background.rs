//! What a daemon does about itself: going to the background, its name, its priority, its descriptors.

use std::ffi::CStr;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, PipeWriter, Read, Write, pipe};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::sys;

/// Which of the two processes this is after [`detach`].
pub(super) enum Detached {
    /// The one that was started; it has to end with this exit code.
    Launcher(u8),
    /// The one that lives on.
    Daemon(Launch),
}

/// Lets the launcher go when all is ready.
pub(super) struct Launch(PipeWriter);

/// Forks; the launcher waits for [`Launch::ready`] and otherwise ends as the daemon does, so that
/// whoever started it learns of faults.
pub(super) fn detach() -> io::Result<Detached> {
    let (mut reader, writer) = pipe()?;
    let Some(daemon) = sys::fork()? else {
        drop(reader);
        setsid()?;
        return Ok(Detached::Daemon(Launch(writer)));
    };
    drop(writer);
    let mut word = [0];
    if matches!(reader.read(&mut word), Ok(1)) {
        return Ok(Detached::Launcher(0));
    }
    Ok(Detached::Launcher(match waitpid(daemon, None)? {
        WaitStatus::Exited(_, code) => u8::try_from(code).unwrap_or(1),
        _ => 1,
    }))
}

impl Launch {
    /// Gives up the terminal and lets the launcher end with 0.
    pub(super) fn ready(mut self) -> io::Result<()> {
        give_up_terminal()?;
        self.0.write_all(b"!")
    }
}

/// Lets go of stdin, stdout and stderr; each process of a detached daemon has to.
pub(super) fn give_up_terminal() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(dup2_stderr(&null)?)
}

/// Lets go of stderr if it is the client's socket: inetd and its kin open it for all three, and what is logged would be
/// read as replies.
pub fn keep_stderr_from_client() {
    let socket = |number: u8| {
        let about = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
        about.file_type().is_socket().then(|| (about.dev(), about.ino()))
    };
    if socket(2).is_some_and(|stderr| [socket(0), socket(1)].contains(&Some(stderr)))
        && let Ok(null) = OpenOptions::new().write(true).open("/dev/null")
    {
        // Fails for a bad descriptor only.
        let _ = dup2_stderr(&null);
    }
}

/// Lowers the priority of the master by `steps`, if workers can have theirs back.
///
/// Returns the nice value that workers must restore. Going up again takes a privilege that the daemon
/// gives up, so root allows it beforehand by RLIMIT_NICE.
pub(super) fn renice(steps: i32) -> Option<i32> {
    let before = sys::niceness();
    let ceiling = u64::try_from(20 - before).ok()?;
    let allowed = getrlimit(Resource::RLIMIT_NICE).is_ok_and(|(soft, _)| soft >= ceiling)
        || setrlimit(Resource::RLIMIT_NICE, ceiling, ceiling).is_ok();
    (steps != 0 && allowed && sys::set_niceness(before + steps).is_ok()).then_some(before)
}

/// Writes a line to stderr, if it can be written: mail is received even where the disk of the log is full, or its reader
/// has died.
pub fn tell(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Names this process, as `ps -o comm` and `top` show it.
pub(super) fn name_process(name: &CStr) {
    // Fails for a bad pointer only.
    let _ = nix::sys::prctl::set_name(name);
}

/// Lets nobody else read what this process and its workers leave behind: files they make are theirs alone, and there are
/// no core dumps, which would hold mail and passwords.
pub(super) fn keep_to_ourselves() {
    umask(Mode::from_bits_truncate(0o077));
    // Lowering a limit needs no privilege.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// What a session on a thread may have open at a time: its socket and poll, files, a relay and its poll.
const OPEN_PER_SESSION: u64 = 8;

/// Allows this process and those it forks as many descriptors as so many workers of so many sessions need. Says
/// what is missing.
pub(super) fn allow_descriptors(workers: u32, sessions: u32) -> Result<(), String> {
    let wanted = u64::from(workers).max(u64::from(sessions) * OPEN_PER_SESSION) + 64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| e.to_string())?;
    // Root may go beyond the hard limit.
    if soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    // Where it is too low, forking or accepting will fail in time and say so.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    Err(format!("may open {hard} files, and may need {wanted}"))
}
