//! A terminal that is drawn page by page and gives its keys one by one; it is put back as it was however it ends: by a
//! key, a signal, an error or a panic.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::low_level::pipe;

use super::view::Line;

/// Another screen than that of the shell, and no cursor.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";
/// A size for terminals that do not tell theirs.
const USUAL: (usize, usize) = (80, 24);

/// Whether the terminal is to be put back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Tab,
    Up,
    Down,
    PageUp,
    PageDown,
    /// Ctrl-C and its kin: all that means to go.
    Leave,
}

/// What ends a wait.
pub(super) enum Woken {
    Keys(Vec<Key>),
    /// The time has come, or the size has changed.
    Redraw,
    /// A signal wants the program to end, or the terminal has gone.
    End,
}

/// The terminal of this process.
pub(super) struct Terminal {
    before: Termios,
    /// Gets a byte when the size has changed.
    resized: UnixStream,
    /// Gets a byte when the program is to end.
    ended: UnixStream,
}

impl Terminal {
    /// Takes the terminal, if standard input and output are one.
    pub(super) fn take() -> io::Result<Option<Terminal>> {
        let (input, output) = (io::stdin(), io::stdout());
        if !input.is_terminal() || !output.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let terminal = Terminal {
            before: before.clone(),
            resized: told(&[SIGWINCH])?,
            ended: told(&[SIGHUP, SIGINT, SIGTERM])?,
        };
        TAKEN.store(true, SeqCst);
        let (usual, shared) = (std::panic::take_hook(), Mutex::new(before.clone()));
        std::panic::set_hook(Box::new(move |panic| {
            if let Ok(before) = shared.lock() {
                put_back(&before);
            }
            usual(panic);
        }));
        let mut raw = before;
        cfmakeraw(&mut raw);
        tcsetattr(&input, SetArg::TCSADRAIN, &raw)?;
        io::stdout().write_all(BEGIN.as_bytes())?;
        Ok(Some(terminal))
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = terminal_size::terminal_size();
        size.map_or(USUAL, |(width, height)| (width.0.into(), height.0.into()))
    }

    /// Puts a page in the place of the last one.
    pub(super) fn draw(&self, page: &[Line]) -> io::Result<()> {
        let (width, height) = self.size();
        let mut drawn = String::from("\x1b[H");
        for (number, line) in page.iter().take(height).enumerate() {
            drawn.push_str(if number == 0 { "" } else { "\r\n" });
            match line.head {
                true => drawn.push_str(&format!("\x1b[7m{:<width$.width$}\x1b[0m", line.text)),
                false => drawn.push_str(&format!("{:.width$}\x1b[K", line.text)),
            }
        }
        drawn.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(drawn.as_bytes())?;
        out.flush()
    }

    /// Waits for keys, until `due` at most.
    pub(super) fn wait(&self, due: Instant) -> io::Result<Woken> {
        let input = io::stdin();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [
            readable(input.as_fd()),
            readable(self.resized.as_fd()),
            readable(self.ended.as_fd()),
        ];
        let left = due.saturating_duration_since(Instant::now());
        // rounded up: waking too early would only mean to wait again
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, left) {
            Err(Errno::EINTR) => return Ok(Woken::Redraw),
            other => other?,
        };
        let [keys, resized, ended] = fds.map(|fd| fd.any() == Some(true));
        if ended {
            return Ok(Woken::End);
        }
        if resized {
            let _ = (&self.resized).read(&mut [0; 64]);
        }
        if !keys {
            return Ok(Woken::Redraw);
        }
        let mut bytes = [0; 256];
        match nix::unistd::read(&input, &mut bytes) {
            Ok(0) => Ok(Woken::End),
            Ok(count) => Ok(Woken::Keys(keys_of(&bytes[..count]))),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(Woken::Redraw),
            // the terminal has gone
            Err(_) => Ok(Woken::End),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        put_back(&self.before);
    }
}

fn put_back(before: &Termios) {
    if TAKEN.swap(false, SeqCst) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(END.as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
    }
}

/// A stream that gets a byte at each of these signals.
fn told(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// The keys that a terminal has sent. An escape that begins no known key is one: the key Esc.
fn keys_of(mut bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 6] = [
        (b"\x1b[A", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOA", Key::Up),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
    ];
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        let known = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence));
        if let Some((sequence, key)) = known {
            keys.push(*key);
            bytes = &bytes[sequence.len()..];
            continue;
        }
        bytes = match first {
            0x1b if matches!(rest, [b'[' | b'O', ..]) => after_sequence(&rest[1..]),
            _ => rest,
        };
        match first {
            // Ctrl-C, Ctrl-D, Ctrl-\
            3 | 4 | 28 => keys.push(Key::Leave),
            0x1b if bytes.len() == rest.len() => keys.push(Key::Leave),
            b'\t' => keys.push(Key::Tab),
            32..127 => keys.push(Key::Letter(char::from(*first))),
            _ => {}
        }
    }
    keys
}

/// What follows a sequence of which nothing is known: it ends with a letter or `~`.
fn after_sequence(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, 0x40..0x7f));
    end.map_or(&[], |end| &bytes[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let letter = Key::Letter;
        assert_eq!(
            keys_of(b"q\x1b[A\x1bOBs\t\x1b[6~"),
            [letter('q'), Key::Up, Key::Down, letter('s'), Key::Tab, Key::PageDown]
        );
        assert_eq!(keys_of(b"\x03"), [Key::Leave]);
        assert_eq!(keys_of(b"\x1b"), [Key::Leave]);
        // F5, and something with numbers: nothing that is known, and not the letters in it
        assert_eq!(keys_of(b"\x1b[15~r"), [letter('r')]);
        assert_eq!(keys_of(b"\x1b[1;5C"), []);
        assert_eq!(keys_of(b"\x1b[1;"), []);
        assert_eq!(keys_of("\u{e9}".as_bytes()), []);
    }
}
