//! The wire that plays a conversation: whenever the engine reads, what it has written must be what the file expects,
//! and then the client goes on.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qpsmtpd::session::services::Clock;
use qpsmtpd::session::wire::{Heard, Wire};

use super::script::{Expect, Script, Step};

/// How the packets of a conversation arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the file says.
    AsWritten,
    /// One byte at a time.
    Bytes,
    /// All at once, as far as nobody waits.
    Joined,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::AsWritten, Mode::Bytes, Mode::Joined];

    pub fn words(self) -> &'static str {
        match self {
            Mode::AsWritten => "as written",
            Mode::Bytes => "one byte at a time",
            Mode::Joined => "in one packet",
        }
    }
}

/// What has happened so far, by hooks and writes; shared with the plugins.
pub type Events = Arc<Mutex<Vec<String>>>;

/// The wire; clones are the same wire.
#[derive(Clone)]
pub struct Player(Arc<Mutex<State>>);

struct State {
    file: String,
    steps: Vec<(usize, Step)>,
    mode: Mode,
    chunk: Option<usize>,
    clock: Clock,
    events: Events,
    at: usize,
    input: VecDeque<u8>,
    expected: VecDeque<(usize, Expect)>,
    output: Vec<u8>,
    writes: usize,
    leaving: bool,
    /// The engine has been told that the session is over.
    over: bool,
    failure: Option<String>,
    transcript: String,
    utf8: bool,
}

impl Player {
    pub fn new(script: &Script, mode: Mode, events: Events) -> Player {
        Player(Arc::new(Mutex::new(State {
            file: script.file.clone(),
            steps: script.steps.clone(),
            mode,
            chunk: script.chunk,
            clock: Clock::default(),
            events,
            at: 0,
            input: VecDeque::new(),
            expected: VecDeque::new(),
            output: Vec::new(),
            writes: 0,
            leaving: false,
            over: false,
            failure: None,
            transcript: String::new(),
            utf8: script.takes.utf8,
        })))
    }

    /// The clock on which `pass` acts.
    pub fn clock(&self) -> Clock {
        self.state().clock.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session is over: what is wrong, if anything.
    pub fn finish(&self) -> Result<(), String> {
        let mut state = self.state();
        state.collect();
        state.compare(false);
        let (at, over) = (state.at, state.over);
        match state.steps.get(at).cloned() {
            Some((_, Step::Closed)) if at + 1 == state.steps.len() => {}
            None if over => {}
            None => {
                let last = state.steps.last().map_or(0, |(line, _)| *line);
                state.fail(last, "the server closed the connection");
            }
            Some((line, _)) => state.fail(line, "the server closed the connection before this line"),
        }
        match &state.failure {
            Some(why) => Err(format!("{why}\n{}", state.transcript)),
            None => Ok(()),
        }
    }
}

impl State {
    fn fail(&mut self, line: usize, why: &str) {
        let place = format!("{}:{line}: {why}", self.file);
        self.failure.get_or_insert(place);
        self.over = true;
    }

    /// Takes the replies that are due.
    fn collect(&mut self) {
        while let Some((line, Step::Server(expect))) = self.steps.get(self.at) {
            self.expected.push_back((*line, expect.clone()));
            self.at += 1;
        }
    }

    /// Takes what the client says, in a joined conversation up to the next silence.
    fn load(&mut self) {
        while let Some((line, step)) = self.steps.get(self.at).cloned() {
            match step {
                Step::Client(bytes) => {
                    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                        let line = &line[..line.len().min(200)];
                        let _ = writeln!(self.transcript, "    C: {}", line.escape_ascii());
                    }
                    self.input.extend(bytes);
                }
                Step::Server(expect) if self.mode == Mode::Joined => self.expected.push_back((line, expect)),
                _ => return,
            }
            self.at += 1;
        }
    }

    /// What has been written must be what is expected; `partly`, if more is still to be said.
    fn compare(&mut self, partly: bool) {
        let output = std::mem::take(&mut self.output);
        for line in output.split_inclusive(|byte| *byte == b'\n') {
            let _ = writeln!(self.transcript, "    S: {}", line.escape_ascii());
        }
        let mut lines: VecDeque<&[u8]> = match well_formed(&output, self.utf8) {
            Ok(lines) => lines.into(),
            Err(why) => return self.fail(self.here(), &why),
        };
        while let Some((line, expect)) = self.expected.pop_front() {
            let Some(first) = lines.pop_front() else {
                if partly {
                    self.expected.push_front((line, expect));
                    break;
                }
                return self.fail(
                    line,
                    &format!("expected `{}`, but nothing more was said", words(&expect)),
                );
            };
            let good = match &expect {
                Expect::Line(pattern) => pattern.matches(first),
                Expect::Code(code) => {
                    let mut last = first;
                    while last.get(3) == Some(&b'-') {
                        last = lines.pop_front().unwrap_or_default();
                    }
                    last.starts_with(code.as_bytes())
                }
            };
            if !good {
                let why = format!(
                    "expected `{}`\n          got `{}`",
                    words(&expect),
                    first.escape_ascii()
                );
                return self.fail(line, &why);
            }
        }
        if let Some(more) = lines.front() {
            self.fail(self.here(), &format!("unexpected reply `{}`", more.escape_ascii()));
        }
        let batch = self.mode == Mode::AsWritten && output.len() < 16 * 1024;
        if batch && self.writes > 1 {
            self.fail(self.here(), &format!("the replies left in {} writes", self.writes));
        }
        self.writes = 0;
    }

    fn here(&self) -> usize {
        let step = self.steps.get(self.at).or(self.steps.last());
        step.map_or(0, |(line, _)| *line)
    }

    fn read(&mut self, buffer: &mut [u8], busy: bool) -> Heard {
        loop {
            if self.failure.is_some() {
                return Heard::End;
            }
            if !self.input.is_empty() {
                return self.give(buffer);
            }
            self.collect();
            let leaves = self.leaving && !busy;
            self.compare(leaves);
            if leaves {
                self.over = true;
                return Heard::Leaving;
            }
            self.load();
            if !self.input.is_empty() {
                continue;
            }
            let Some((line, step)) = self.steps.get(self.at).cloned() else {
                self.over = true;
                return Heard::End;
            };
            if matches!(step, Step::Closed) {
                self.fail(line, "the server still listens");
                return Heard::End;
            }
            self.at += 1;
            self.over = !matches!(step, Step::Pass(_) | Step::Leave { now: false });
            match step {
                Step::Wait => return Heard::TimedOut,
                Step::Hangup => return Heard::End,
                Step::Leave { now: true } => return Heard::Leaving,
                Step::Leave { now: false } => self.leaving = true,
                Step::Pass(seconds) => self.clock.pass(Duration::from_secs(seconds)),
                Step::Client(_) | Step::Server(_) | Step::Closed => {}
            }
        }
    }

    fn give(&mut self, buffer: &mut [u8]) -> Heard {
        let piece = match self.mode {
            Mode::Bytes => 1,
            _ => self.chunk.unwrap_or(usize::MAX),
        };
        let count = piece.min(self.input.len()).min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(self.input.drain(..count)) {
            *place = byte;
        }
        Heard::Bytes(count)
    }
}

fn words(expect: &Expect) -> String {
    match expect {
        Expect::Code(code) => code.clone(),
        Expect::Line(pattern) => pattern.words(),
    }
}

/// The lines of the replies, if all of them are as RFC 5321 4.2 and RFC 2034 want them.
/// `utf8` if they may be in UTF-8 (RFC 6531 3.7.4).
pub fn well_formed(output: &[u8], utf8: bool) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    let mut open: Option<&[u8]> = None;
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        let why = |why: &str| format!("{why} in reply `{}`", line.escape_ascii());
        let text = line.strip_suffix(b"\r\n").ok_or_else(|| why("no CRLF"))?;
        if line.len() > 512 {
            return Err(why("more than 512 octets"));
        }
        let printable = |c: char| matches!(c, ' '..='~') || (utf8 && !c.is_ascii() && !c.is_control());
        if !std::str::from_utf8(text).is_ok_and(|text| text.chars().all(printable)) {
            return Err(why("a character that is not printable ASCII"));
        }
        let code = text.get(..3).filter(|code| code.iter().all(u8::is_ascii_digit));
        let (Some(code), Some(b' ' | b'-')) = (code, text.get(3)) else {
            return Err(why("no code"));
        };
        if open.is_some_and(|open| open != code) {
            return Err(why("another code"));
        }
        let greeting =
            code == b"220" || (code == b"250" && (open.is_some() || text[4..].starts_with(b"mx.example.org Hi")));
        let status = std::str::from_utf8(&text[4..]).unwrap_or_default().split(' ').next();
        let has = status.is_some_and(|status| {
            status.starts_with(&format!("{}.", code[0] as char)) && status.matches('.').count() == 2
        });
        if !has && !greeting && code[0] != b'3' {
            return Err(why("no enhanced status code"));
        }
        open = (text[3] == b'-').then_some(code);
        lines.push(text);
    }
    match open {
        None => Ok(lines),
        Some(_) => Err("the last reply has no last line".to_owned()),
    }
}

impl Wire for Player {
    fn read(&mut self, buffer: &mut [u8], _: Instant, busy: bool) -> io::Result<Heard> {
        Ok(self.state().read(buffer, busy))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        let mut state = self.state();
        state.output.extend_from_slice(bytes);
        state.writes += 1;
        let code = bytes.get(..3).unwrap_or_default();
        let event = format!(">{}", String::from_utf8_lossy(code));
        state.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(())
    }
}
