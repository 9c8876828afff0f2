//! Buffers around the wire: lines in, batches of replies out.
//!
//! One input buffer is used for the whole session and grows only while a message comes in; replies gather in the
//! output buffer and leave in one write before the session waits for the client, so that a pipelined batch is
//! answered in one packet (RFC 2920).

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use memchr::memchr;

use super::input::{Input, LARGE, SMALL};
use super::tls::{Encrypt, Tls};
use super::wire::{Heard, Wire};

/// Room for the replies of most sessions, so that it does not grow step by step.
const FIRST_OUTPUT: usize = 256;
/// Replies are sent when so much has gathered, also within a batch.
const OUTPUT: usize = 16 * 1024;

/// What came of waiting for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEvent {
    /// A line is in the caller's buffer, without its end.
    Line,
    /// The line was longer than allowed; it has been read and thrown away.
    TooLong,
    /// The client closed, or the connection broke.
    End,
    /// Nothing in time.
    TimedOut,
    /// The daemon is ending.
    Leaving,
}

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Whether a client has said something before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Nothing came.
    Silent,
    /// Bytes are waiting.
    Talking,
    /// The client has closed its side.
    Closed,
}

/// A wire with its buffers and deadlines.
pub struct Channel {
    wire: Box<dyn Wire>,
    input: Input,
    output: Vec<u8>,
    /// Longest wait for the client to read or write.
    patience: Duration,
    /// When the session must be over.
    ends: Instant,
    busy: bool,
    /// The client does not take what it is sent.
    broken: bool,
}

impl Channel {
    /// Wraps a wire; `patience` is the longest single wait, `ends` the end of the session.
    pub fn new(wire: Box<dyn Wire>, patience: Duration, ends: Instant) -> Channel {
        Channel {
            wire,
            input: Input::default(),
            output: Vec::with_capacity(FIRST_OUTPUT),
            patience,
            ends,
            busy: false,
            broken: false,
        }
    }

    /// Sets the longest single wait.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Says whether the session is in a transaction, see [`Wire::read`].
    pub fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// When a wait that begins now must be over.
    fn deadline(&self) -> Instant {
        (Instant::now() + self.patience).min(self.ends)
    }

    /// Encrypts the connection. What has been read and not been consumed is thrown away: whoever put it in between
    /// must not have it taken for the client's words (RFC 3207 4.2). Only where TLS comes `first` it is the beginning
    /// of the handshake.
    ///
    /// # Errors
    /// Why it came to nothing; the connection is closed then.
    pub fn encrypt(&mut self, with: &dyn Encrypt, local: (Option<IpAddr>, u16), first: bool) -> Result<Tls, String> {
        self.wire.seal();
        self.flush().map_err(|why| why.to_string())?;
        let early = if first {
            self.input.buffered().to_vec()
        } else {
            Vec::new()
        };
        self.input.clear();
        let deadline = (Instant::now() + self.patience.min(HANDSHAKE)).min(self.ends);
        let mut clear = std::mem::replace(&mut self.wire, Box::new(Closed));
        if !early.is_empty() {
            clear = Box::new(Ahead { early, wire: clear });
        }
        let (wire, facts) = with.accept(clear, local, deadline)?;
        self.wire = wire;
        Ok(facts)
    }

    /// The bytes that have been read and not been consumed.
    pub fn buffered(&self) -> &[u8] {
        self.input.buffered()
    }

    /// Forgets the first `count` buffered bytes.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
    }

    /// Sends the replies that have gathered, then reads more into the buffer. `bulk` makes room for a message.
    pub fn fill(&mut self, bulk: bool) -> Heard {
        let deadline = self.deadline();
        self.fill_by(bulk, deadline)
    }

    /// Reads more into the buffer, if it comes before the deadline.
    pub fn fill_before(&mut self, deadline: Instant) -> Heard {
        let deadline = deadline.min(self.ends);
        self.fill_by(false, deadline)
    }

    fn fill_by(&mut self, bulk: bool, deadline: Instant) -> Heard {
        if self.flush().is_err() {
            return Heard::End;
        }
        // also when bytes never cease to come
        if Instant::now() >= deadline {
            return Heard::TimedOut;
        }
        self.fill_until(bulk, deadline)
    }

    fn fill_until(&mut self, bulk: bool, deadline: Instant) -> Heard {
        let room = self.input.room(if bulk { LARGE } else { SMALL });
        match self.wire.read(room, deadline, self.busy) {
            Ok(Heard::Bytes(count)) => {
                self.input.came(count);
                Heard::Bytes(count)
            }
            Ok(other) => other,
            Err(_) => Heard::End,
        }
    }

    /// Gives memory back that only a message needed.
    pub fn shrink(&mut self) {
        self.input.shrink();
    }

    /// Reads a line of at most `max` bytes into `line`, without its CRLF (or LF). All of it must come in time.
    pub fn line(&mut self, line: &mut Vec<u8>, max: usize) -> LineEvent {
        line.clear();
        if self.broken {
            return LineEvent::End;
        }
        let mut scanned = 0;
        let mut deadline = None;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffered()[scanned..]) {
                let whole = &self.buffered()[..scanned + at];
                let text = whole.strip_suffix(b"\r").unwrap_or(whole);
                let fits = text.len() + 2 <= max;
                if fits {
                    line.extend_from_slice(text);
                }
                self.consume(scanned + at + 1);
                return if fits { LineEvent::Line } else { LineEvent::TooLong };
            }
            scanned = self.buffered().len();
            let deadline = *deadline.get_or_insert_with(|| self.deadline());
            if scanned > max {
                return self.skip_line(deadline);
            }
            match self.fill_by(false, deadline) {
                Heard::Bytes(_) => {}
                Heard::End => return LineEvent::End,
                Heard::TimedOut => return LineEvent::TimedOut,
                Heard::Leaving => return LineEvent::Leaving,
            }
        }
    }

    /// Throws away the rest of a line that is too long.
    fn skip_line(&mut self, deadline: Instant) -> LineEvent {
        loop {
            if let Some(at) = memchr(b'\n', self.buffered()) {
                self.consume(at + 1);
                return LineEvent::TooLong;
            }
            self.input.clear();
            match self.fill_by(false, deadline) {
                Heard::Bytes(_) => {}
                Heard::End => return LineEvent::End,
                Heard::TimedOut => return LineEvent::TimedOut,
                Heard::Leaving => return LineEvent::Leaving,
            }
        }
    }

    /// Waits up to `wait` to see whether the client talks before its turn; what it said stays in the buffer.
    pub fn pending(&mut self, wait: Duration) -> Pending {
        if !self.buffered().is_empty() {
            return Pending::Talking;
        }
        if self.flush().is_err() {
            return Pending::Closed;
        }
        let deadline = (Instant::now() + wait).min(self.ends);
        match self.fill_until(false, deadline) {
            Heard::Bytes(_) => Pending::Talking,
            Heard::TimedOut => Pending::Silent,
            Heard::End | Heard::Leaving => Pending::Closed,
        }
    }

    /// Waits for so long, whatever the client says meanwhile: that stays in the buffer. `TimedOut` when the time is
    /// over, `End` for a client that leaves, or says more than any server would keep.
    pub fn pause(&mut self, wait: Duration) -> Heard {
        if self.flush().is_err() {
            return Heard::End;
        }
        let deadline = (Instant::now() + wait).min(self.ends);
        while self.buffered().len() < LARGE {
            match self.fill_until(false, deadline) {
                Heard::Bytes(_) if Instant::now() < deadline => {}
                Heard::Bytes(_) => return Heard::TimedOut,
                other => return other,
            }
        }
        Heard::End
    }

    /// The buffer that replies are written into.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends gathered replies if there are very many of them.
    pub fn relieve(&mut self) {
        if self.output.len() > OUTPUT {
            // a connection that breaks here shows at the next read
            let _ = self.flush();
        }
    }

    /// Sends the replies that have gathered.
    ///
    /// # Errors
    /// Those of the wire.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() && !self.broken {
            return Ok(());
        }
        let sent = match self.broken {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => self.wire.write(&self.output, self.deadline()),
        };
        self.broken = sent.is_err();
        self.output.clear();
        self.output.shrink_to(OUTPUT);
        sent
    }
}

/// A wire from which something has been read already.
struct Ahead {
    early: Vec<u8>,
    wire: Box<dyn Wire>,
}

impl Wire for Ahead {
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, busy: bool) -> io::Result<Heard> {
        if self.early.is_empty() {
            return self.wire.read(buffer, deadline, busy);
        }
        let count = buffer.len().min(self.early.len());
        buffer[..count].copy_from_slice(&self.early[..count]);
        self.early.drain(..count);
        Ok(Heard::Bytes(count))
    }
    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.wire.write(bytes, deadline)
    }
    fn seal(&mut self) {
        self.wire.seal();
    }
}

/// What is left of a connection that could not be encrypted.
struct Closed;

impl Wire for Closed {
    fn read(&mut self, _: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        Ok(Heard::End)
    }
    fn write(&mut self, _: &[u8], _: Instant) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::wire::Heard;

    /// Gives its bytes in pieces of one size.
    struct Pieces(Vec<u8>, usize);

    impl Wire for Pieces {
        fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            if count == 0 {
                return Ok(Heard::End);
            }
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(Heard::Bytes(count))
        }
        fn write(&mut self, _: &[u8], _: Instant) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(text: &[u8], piece: usize, max: usize) -> Vec<(LineEvent, Vec<u8>)> {
        let far = Instant::now() + Duration::from_secs(60);
        let wire = Box::new(Pieces(text.to_vec(), piece));
        let mut channel = Channel::new(wire, Duration::from_secs(1), far);
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            let event = channel.line(&mut line, max);
            all.push((event, line));
            if event == LineEvent::End {
                return all;
            }
        }
    }

    #[test]
    fn lines_do_not_depend_on_how_bytes_arrive() {
        let long = "x".repeat(5000);
        let text = format!("EHLO a\r\n{long}\r\nNOOP\n\r\nQUIT\r\nrest");
        let whole = lines(text.as_bytes(), usize::MAX, 512);
        assert_eq!(whole[0], (LineEvent::Line, b"EHLO a".to_vec()));
        assert_eq!(whole[1].0, LineEvent::TooLong);
        assert_eq!(whole[2], (LineEvent::Line, b"NOOP".to_vec()));
        assert_eq!(whole[3], (LineEvent::Line, Vec::new()));
        assert_eq!(whole[4], (LineEvent::Line, b"QUIT".to_vec()));
        assert_eq!(whole[5].0, LineEvent::End);
        for piece in [1, 2, 3, 511, 512, 513, 4096] {
            assert_eq!(lines(text.as_bytes(), piece, 512), whole, "in pieces of {piece}");
        }
    }

    /// A client that sends for ever; whether it takes what it is sent is another matter.
    struct Endless(Result<(), io::ErrorKind>);

    impl Wire for Endless {
        fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
            buffer.fill(b'x');
            Ok(Heard::Bytes(buffer.len()))
        }
        fn write(&mut self, _: &[u8], _: Instant) -> io::Result<()> {
            self.0.map_err(Into::into)
        }
    }

    #[test]
    fn time_runs_out_for_a_client_that_never_ceases() {
        let now = Instant::now();
        let far = now + Duration::from_secs(60);
        for (patience, ends) in [(Duration::from_secs(60), now), (Duration::ZERO, far)] {
            let mut channel = Channel::new(Box::new(Endless(Ok(()))), patience, ends);
            assert_eq!(channel.line(&mut Vec::new(), 512), LineEvent::TimedOut);
            assert_eq!(channel.fill(true), Heard::TimedOut);
        }
    }

    #[test]
    fn a_client_that_does_not_listen_is_gone() {
        let far = Instant::now() + Duration::from_secs(60);
        let deaf = Box::new(Endless(Err(io::ErrorKind::TimedOut)));
        let mut channel = Channel::new(deaf, Duration::from_secs(60), far);
        channel.output().extend_from_slice(b"250 ok\r\n");
        assert!(channel.flush().is_err());
        assert_eq!(channel.line(&mut Vec::new(), 512), LineEvent::End);
        assert_eq!(channel.fill(true), Heard::End);
    }

    #[test]
    fn the_limit_counts_the_line_end() {
        let exact = format!("{}\r\n", "x".repeat(510));
        assert_eq!(lines(exact.as_bytes(), 7, 512)[0].0, LineEvent::Line);
        let over = format!("{}\r\n", "x".repeat(511));
        assert_eq!(lines(over.as_bytes(), 7, 512)[0].0, LineEvent::TooLong);
    }
}
