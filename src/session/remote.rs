//! Connections that we make ourselves: to the next mail server, to a server that knows users or judges mail.
//!
//! Nothing here knows how a connection is made or encrypted; that is [`Dial`]'s, which the daemon implements with
//! sockets and a test with what it likes. A [`Remote`] buffers what comes in, and each of its waits has a deadline.

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memchr;

use super::input::{Input, SMALL};
use super::trust::{ClientTls, RemoteTls};
use super::wire::{Heard, Wire};

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host, a name or an address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Reads `/path`, `unix:/path`, `host:port`, `[2001:db8::1]:port`; a host or an IPv6 address without a port gets
    /// `port`.
    ///
    /// # Errors
    /// Why it is none of these.
    pub fn parse(text: &str, port: u16) -> Result<Target, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Target::Unix(path.into()));
        }
        let wrong = || format!("'{text}' is neither a host, nor a host with a port, nor the path of a socket");
        let (host, port) = match text.rsplit_once(':') {
            Some((host, digits)) if host.ends_with(']') || !host.contains(':') => {
                let digits = digits.strip_prefix('+').map_or(digits, |_| "");
                (host, digits.parse().map_err(|_| wrong())?)
            }
            _ => (text, port),
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let tagged = host.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("ipv6:"));
        let host = if tagged { &host[5..] } else { host };
        let sound = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let name = !host.is_empty() && host.chars().all(sound) && text != "unix:";
        match name || host.parse::<Ipv6Addr>().is_ok() {
            true => Ok(Target::Tcp(host.to_owned(), port)),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Target::Tcp(host, port) => write!(f, "{host}:{port}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a connection is of no more use, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Not done by the deadline.
    TimedOut,
    /// The other side has closed it.
    Closed,
    /// A line is longer than allowed.
    TooLong,
    /// Anything else, in words.
    Failed(String),
}

impl Lost {
    /// In words.
    pub fn because(why: impl fmt::Display) -> Lost {
        Lost::Failed(why.to_string())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lost::TimedOut => "time-out",
            Lost::Closed => "connection closed by the other side",
            Lost::TooLong => "the answer is too long",
            Lost::Failed(why) => why,
        })
    }
}

impl std::error::Error for Lost {}

impl From<io::Error> for Lost {
    fn from(why: io::Error) -> Lost {
        match why.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Lost::TimedOut,
            io::ErrorKind::UnexpectedEof => Lost::Closed,
            _ => Lost::because(why),
        }
    }
}

impl From<Lost> for io::Error {
    fn from(why: Lost) -> io::Error {
        match why {
            Lost::TimedOut => io::ErrorKind::TimedOut.into(),
            other => io::Error::other(other),
        }
    }
}

/// Someone who makes connections.
pub trait Dial: Send + Sync {
    /// Connects to the first address that answers, all of it by the deadline.
    ///
    /// # Errors
    /// Nobody answers, with the reason for each address.
    fn connect(&self, to: &Target, until: Instant) -> Result<Box<dyn Wire>, Lost>;

    /// Makes an encrypted wire of a clear one, at the client's side.
    ///
    /// # Errors
    /// Why it came to nothing; the wire is closed then.
    fn encrypt(
        &self,
        clear: Box<dyn Wire>,
        how: &ClientTls,
        until: Instant,
    ) -> Result<(Box<dyn Wire>, RemoteTls), Lost>;
}

/// A connection that we have made.
pub struct Remote {
    dial: Arc<dyn Dial>,
    wire: Box<dyn Wire>,
    input: Input,
    /// How much of the input the caller has been shown and will not see again.
    shown: usize,
    tls: Option<RemoteTls>,
    lost: Option<Lost>,
}

impl Remote {
    /// Connects.
    ///
    /// # Errors
    /// Those of [`Dial::connect`].
    pub fn connect(dial: &Arc<dyn Dial>, to: &Target, until: Instant) -> Result<Remote, Lost> {
        Ok(Remote {
            wire: dial.connect(to, until)?,
            dial: dial.clone(),
            input: Input::default(),
            shown: 0,
            tls: None,
            lost: None,
        })
    }

    /// The facts of its encryption, if it is encrypted.
    pub fn tls(&self) -> Option<&RemoteTls> {
        self.tls.as_ref()
    }

    /// Encrypts the connection.
    ///
    /// # Errors
    /// It came to nothing, or there is something in the buffer that was said in clear: whoever put it there must not
    /// have it taken for the other side's words.
    pub fn encrypt(&mut self, how: &ClientTls, until: Instant) -> Result<&RemoteTls, Lost> {
        self.check()?;
        if !self.unread().is_empty() {
            return self.end(Lost::because("something was said in clear where TLS should begin"));
        }
        let clear = std::mem::replace(&mut self.wire, Box::new(Gone));
        match self.dial.encrypt(clear, how, until) {
            Ok((wire, facts)) => {
                self.wire = wire;
                Ok(self.tls.insert(facts))
            }
            Err(why) => self.end(why),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn write(&mut self, bytes: &[u8], until: Instant) -> Result<(), Lost> {
        self.check()?;
        self.wire.write(bytes, until).or_else(|why| self.end(why.into()))
    }

    /// Says that nothing more will be sent; what the other side sends can still be read.
    ///
    /// # Errors
    /// The connection is lost, or encrypted: then it cannot be closed by halves.
    pub fn finish(&mut self) -> Result<(), Lost> {
        self.check()?;
        self.wire.finish().or_else(|why| self.end(why.into()))
    }

    /// The next line, of at most `max` bytes without its end, CRLF or LF.
    ///
    /// # Errors
    /// The connection is lost, or of no more use since the line is too long.
    pub fn line(&mut self, max: usize, until: Instant) -> Result<&[u8], Lost> {
        let mut scanned = 0;
        let end = loop {
            if let Some(at) = memchr(b'\n', &self.unread()[scanned..]) {
                break scanned + at;
            }
            scanned = self.unread().len();
            // room for CR
            if scanned > max + 1 {
                return self.end(Lost::TooLong);
            }
            self.fill(until)?;
        };
        let whole = &self.unread()[..end];
        let length = whole.strip_suffix(b"\r").unwrap_or(whole).len();
        if length > max {
            return self.end(Lost::TooLong);
        }
        self.shown = end + 1;
        Ok(&self.input.buffered()[..length])
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn bytes(&mut self, count: usize, until: Instant) -> Result<&[u8], Lost> {
        while self.unread().len() < count {
            self.fill(until)?;
        }
        self.shown = count;
        Ok(&self.input.buffered()[..count])
    }

    /// All that comes until the other side closes, at most `max` bytes.
    ///
    /// # Errors
    /// The connection is lost before that, or more comes.
    pub fn rest(&mut self, max: usize, until: Instant) -> Result<Vec<u8>, Lost> {
        loop {
            let length = self.unread().len();
            if length > max {
                return self.end(Lost::TooLong);
            }
            match self.fill(until) {
                Ok(()) => {}
                Err(Lost::Closed) => return Ok(self.input.buffered().to_vec()),
                Err(why) => return Err(why),
            }
        }
    }

    /// What has come and has not been read, with what comes at this very moment; without waiting for more.
    ///
    /// # Errors
    /// The connection is lost; what came before that can still be read.
    pub fn look(&mut self) -> Result<&[u8], Lost> {
        self.unread();
        // a wire under TLS does not look without waiting at all
        let moment = Duration::from_millis(u64::from(self.tls.is_some()));
        match self.read(Instant::now() + moment) {
            // also of one that takes no more there may be words
            Ok(()) | Err(Lost::TimedOut) => self.check().map(|()| self.input.buffered()),
            Err(why) => self.end(why),
        }
    }

    /// What is in the buffer, without what has been shown.
    pub fn unread(&mut self) -> &[u8] {
        self.input.consume(std::mem::take(&mut self.shown));
        self.input.buffered()
    }

    /// Reads more into the buffer.
    fn fill(&mut self, until: Instant) -> Result<(), Lost> {
        self.check()?;
        // also when bytes never cease to come
        if Instant::now() >= until {
            return self.end(Lost::TimedOut);
        }
        self.read(until).or_else(|why| self.end(why))
    }

    fn read(&mut self, until: Instant) -> Result<(), Lost> {
        match self.wire.read(self.input.room(SMALL), until, true)? {
            Heard::Bytes(count) => {
                self.input.came(count);
                Ok(())
            }
            Heard::End => Err(Lost::Closed),
            Heard::TimedOut | Heard::Leaving => Err(Lost::TimedOut),
        }
    }

    /// Whether it is of no more use.
    ///
    /// # Errors
    /// It is, and why.
    pub fn check(&self) -> Result<(), Lost> {
        self.lost.clone().map_or(Ok(()), Err)
    }

    /// Makes it of no more use, for a reason that the caller has found.
    ///
    /// # Errors
    /// That reason, always.
    pub fn end<T>(&mut self, why: Lost) -> Result<T, Lost> {
        self.lost = Some(why.clone());
        Err(why)
    }
}

/// What is left of a connection that could not be encrypted.
struct Gone;

impl Wire for Gone {
    fn read(&mut self, _: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        Ok(Heard::End)
    }
    fn write(&mut self, _: &[u8], _: Instant) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[cfg(test)]
mod tests;
