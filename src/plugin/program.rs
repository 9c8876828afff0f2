//! Programs that plugins run: fed through pipes, listened to, waited for until a deadline, killed when it passes.
//!
//! No shell is involved, no descriptor of ours gets into the program but those named here and stderr, which is the
//! log. Nothing blocks longer than the patience given, whether or not the program reads what it is fed, and whether or
//! not it can be killed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::pipe::unblock;

/// How much is written to a pipe or read from it at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// How much of what a program says is kept, in bytes.
const MOST_HEARD: usize = 16 * 1024;
/// The longest time between two looks whether the program has ended; nearly always its pipes tell at once.
const STEP: Duration = Duration::from_millis(50);

/// How long a program that has been killed may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// Programs that could not be killed, until they end.
static IMMORTAL: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// The user whose rights this process has.
pub fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A program to be run once.
pub struct Program<'a> {
    command: Command,
    feeds: Vec<(RawFd, Box<dyn Read + 'a>)>,
    ear: Option<RawFd>,
}

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// Its process number.
    pub process: u32,
    /// How it ended.
    pub end: End,
    /// Whether it has read all that it was fed.
    pub fed: bool,
    /// What it said on the descriptor that was listened to.
    pub heard: Vec<u8>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was killed.
    TimedOut,
    /// It took too long and cannot be killed, as it has become another user or waits for a disk: it may go on.
    Immortal,
}

impl<'a> Program<'a> {
    /// A program without arguments, with our environment. It reads nothing and what it writes to stdout is lost.
    pub fn new(path: impl AsRef<OsStr>) -> Program<'a> {
        let mut command = Command::new(path);
        // a group of its own, so that it can be killed with all it has started, and is left alone by Ctrl-C
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Program {
            command,
            feeds: Vec::new(),
            ear: None,
        }
    }

    /// The command, to add arguments and variables.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Gives the program something to read from a descriptor. If there are several, one is written only after the
    /// end of the one before, so that a program sees the last of them whole only if it could see all of them.
    pub fn feed(&mut self, descriptor: RawFd, source: impl Read + 'a) -> &mut Self {
        self.feeds.push((descriptor, Box::new(source)));
        self
    }

    /// Listens to what the program writes to a descriptor.
    pub fn listen(&mut self, descriptor: RawFd) -> &mut Self {
        self.ear = Some(descriptor);
        self
    }

    /// Runs the program to its end, or kills it when the time is over.
    ///
    /// # Errors
    /// It cannot be started, or a source cannot be read; it is killed then before it could see the end of a source.
    pub fn run(mut self, patience: Duration) -> io::Result<Ran> {
        bury();
        let deadline = Instant::now() + patience;
        let mut mappings = Vec::new();
        let mut map = |child_fd, fd: OwnedFd| {
            mappings.push(FdMapping {
                parent_fd: fd,
                child_fd,
            })
        };
        let mut feeder = Feeder::default();
        for (descriptor, source) in self.feeds {
            let (theirs, ours) = io::pipe()?;
            unblock(&ours)?;
            map(descriptor, theirs.into());
            feeder.add(ours, source);
        }
        let mut ear = Ear::default();
        if let Some(descriptor) = self.ear {
            let (ours, theirs) = io::pipe()?;
            unblock(&ours)?;
            map(descriptor, theirs.into());
            ear.pipe = Some(ours);
        }
        self.command.fd_mappings(mappings).map_err(io::Error::other)?;
        let mut child = self.command.spawn()?;
        // with the command go our copies of the program's ends of the pipes
        drop(self.command);
        let process = child.id();
        let status = attend(&mut child, &mut feeder, &mut ear, deadline);
        let end = match status {
            Ok(Some(status)) => Ok(end(status)),
            Ok(None) => kill(child),
            Err(why) => kill(child).and(Err(why)),
        };
        Ok(Ran {
            process,
            end: end?,
            fed: feeder.complete()?,
            heard: ear.heard,
        })
    }
}

/// Serves the pipes until the program ends; none if the deadline came first.
fn attend(
    child: &mut Child,
    feeder: &mut Feeder<'_>,
    ear: &mut Ear,
    deadline: Instant,
) -> io::Result<Option<ExitStatus>> {
    let mut step = Duration::from_millis(1);
    loop {
        feeder.push()?;
        ear.pull()?;
        if let Some(status) = child.try_wait()? {
            ear.pull()?;
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let mut pipes = Vec::with_capacity(2);
        pipes.extend(feeder.pipe().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
        pipes.extend(
            ear.pipe
                .as_ref()
                .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
        );
        let wait = left.min(step).max(Duration::from_millis(1));
        match poll(&mut pipes, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => step = (step * 2).min(STEP),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

/// Kills the program with all it has started; says whether it is gone.
fn kill(mut child: Child) -> io::Result<End> {
    // it may have ended meanwhile: then nobody is there to be killed
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let _ = child.kill();
    let deadline = Instant::now() + DYING;
    let mut step = Duration::from_millis(1);
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            immortal().push(child);
            return Ok(End::Immortal);
        }
        std::thread::sleep(step);
        step = (step * 2).min(STEP);
    }
    Ok(End::TimedOut)
}

fn immortal() -> std::sync::MutexGuard<'static, Vec<Child>> {
    IMMORTAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of the ends of programs that could not be killed.
fn bury() {
    immortal().retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// Writes sources into pipes, one after the other.
#[derive(Default)]
struct Feeder<'a> {
    /// Those that are not at their end, in reverse order.
    feeds: Vec<(PipeWriter, Box<dyn Read + 'a>)>,
    /// The far ends of those that are: what they hold, nobody has read.
    far_ends: Vec<File>,
    chunk: Vec<u8>,
    written: usize,
    refused: bool,
}

impl<'a> Feeder<'a> {
    fn add(&mut self, pipe: PipeWriter, source: Box<dyn Read + 'a>) {
        self.feeds.insert(0, (pipe, source));
    }

    fn pipe(&self) -> Option<&PipeWriter> {
        self.feeds.last().map(|(pipe, _)| pipe)
    }

    /// Whether everything has been written, and been read.
    fn complete(&self) -> io::Result<bool> {
        let mut pipes = Vec::with_capacity(self.far_ends.len());
        pipes.extend(
            self.far_ends
                .iter()
                .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)),
        );
        poll(&mut pipes, PollTimeout::ZERO)?;
        let holds = |pipe: &PollFd<'_>| pipe.revents().is_none_or(|found| found.contains(PollFlags::POLLIN));
        Ok(self.feeds.is_empty() && !self.refused && !pipes.iter().any(holds))
    }

    /// Writes as much as the pipes take.
    fn push(&mut self) -> io::Result<()> {
        while let Some((pipe, source)) = self.feeds.last_mut() {
            if self.written == self.chunk.len() {
                self.chunk.resize(CHUNK, 0);
                let read = source.read(&mut self.chunk);
                self.chunk.truncate(*read.as_ref().unwrap_or(&0));
                self.written = 0;
                match read {
                    Ok(0) => {
                        // With this end opened earlier, a program that closes its own would go unnoticed.
                        self.far_ends
                            .push(File::open(format!("/proc/self/fd/{}", pipe.as_raw_fd()))?);
                        self.feeds.pop();
                    }
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
                continue;
            }
            match pipe.write(&self.chunk[self.written..]) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // the program does not want to hear more, nor what would come after it
                Err(_) => {
                    self.refused = true;
                    self.feeds.clear();
                }
            }
        }
        Ok(())
    }
}

/// Keeps what the program says.
#[derive(Default)]
struct Ear {
    pipe: Option<PipeReader>,
    heard: Vec<u8>,
}

impl Ear {
    /// Reads what there is.
    fn pull(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = MOST_HEARD - self.heard.len();
                    self.heard.extend_from_slice(&chunk[..count.min(room)]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Program<'static> {
        let mut program = Program::new("/bin/sh");
        program.command().args(["-c", script]);
        program
    }

    #[test]
    fn feeds_and_listens() {
        let mut program = shell("cat >&6; printf ' ' >&6; cat <&7 >&6; exit 3");
        program.feed(0, &b"one"[..]).feed(7, &b"two"[..]).listen(6);
        let ran = program.run(LONG).unwrap();
        assert_eq!((ran.end, ran.fed), (End::Exit(3), true));
        assert_eq!(ran.heard, b"one two");
    }

    #[test]
    fn more_than_a_pipe_holds() {
        let big = vec![b'x'; 1_000_000];
        let mut program = shell("wc -c >&6; wc -c <&1 >&6");
        program.feed(0, &big[..]).feed(1, &big[..100_000]).listen(6);
        let ran = program.run(LONG).unwrap();
        assert_eq!(
            String::from_utf8(ran.heard)
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["1000000", "100000"]
        );
        let ran = shell("yes >&6").run_listening(Duration::from_secs(1));
        assert_eq!((ran.end, ran.heard.len()), (End::TimedOut, MOST_HEARD));
    }

    impl Program<'_> {
        fn run_listening(mut self, patience: Duration) -> Ran {
            self.listen(6);
            self.run(patience).unwrap()
        }
    }

    #[test]
    fn a_program_need_not_read() {
        let big = vec![b'x'; 1_000_000];
        let mut program = shell("exit 0");
        program.feed(0, &big[..]).feed(1, &b"more"[..]);
        let ran = program.run(LONG).unwrap();
        assert_eq!((ran.end, ran.fed), (End::Exit(0), false));
    }

    #[test]
    fn what_is_left_in_a_pipe_has_not_been_read() {
        for (script, fed) in [
            ("exit 0", false),
            ("cat >/dev/null", false),
            ("cat >/dev/null; head -c 3 <&1 >/dev/null", false),
            ("cat >/dev/null; cat <&1 >/dev/null", true),
            // who knows where the end is need not wait for it
            ("head -c 7 >/dev/null; head -c 8 <&1 >/dev/null", true),
        ] {
            let mut program = shell(script);
            program.feed(0, &b"message"[..]).feed(1, &b"envelope"[..]);
            let ran = program.run(LONG).unwrap();
            assert_eq!((ran.end, ran.fed), (End::Exit(0), fed), "{script}");
        }
    }

    #[test]
    fn who_wants_no_more_of_one_sees_the_end_of_the_other() {
        let big = vec![b'x'; 1_000_000];
        let mut program = shell("exec <&-; cat <&1 >&6; exit 31");
        program.feed(0, &big[..]).feed(1, &b"more"[..]).listen(6);
        let ran = program.run(LONG).unwrap();
        assert_eq!((ran.end, ran.fed, ran.heard), (End::Exit(31), false, Vec::new()));
    }

    #[test]
    fn what_comes_later_is_not_seen_early() {
        // nothing of the second feed is there before the first has been read to its end
        let big = vec![b'x'; 200_000];
        let mut program = shell("head -c 10 >/dev/null; timeout 0.1 head -c 1 <&1 >&6; cat >/dev/null; cat <&1 >&6");
        program.feed(0, &big[..]).feed(1, &b"envelope"[..]).listen(6);
        assert_eq!(program.run(LONG).unwrap().heard, b"envelope");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let mut program = shell("sleep 1000 & echo $! >&6; wait");
        program.feed(0, &b"x"[..]).listen(6);
        let ran = program.run(Duration::from_secs(1)).unwrap();
        assert_eq!(ran.end, End::TimedOut);
        let grandchild = String::from_utf8(ran.heard).unwrap();
        let stat = format!("/proc/{}/stat", grandchild.trim());
        let deadline = Instant::now() + LONG;
        // gone, or dead and waiting for init to notice
        let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while alive() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn signals_and_failures() {
        assert_eq!(shell("kill -9 $$").run(LONG).unwrap().end, End::Signal(9));
        assert!(Program::new("/nonexistent").run(LONG).is_err());
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let mut program = shell("cat");
        program.feed(0, Broken);
        assert_eq!(program.run(LONG).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
