//! A connection to an SMTP server: commands, replies and the message; every wait has an end.
//!
//! The server is not trusted: replies are bounded in length, one that comes before it was asked for breaks the
//! connection, for else it could be taken for the answer to what was not answered.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::super::dots::Dots;
use crate::plugin::*;

/// The longest reply line that is read, in bytes. RFC 5321 allows 512.
const MAX_LINE: usize = 2048;
/// The most lines of a reply that are read.
const MAX_LINES: usize = 128;

/// Why a connection is of no more use.
#[derive(Debug)]
pub struct Broken(pub String);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Broken("time-out".to_owned()),
            _ => Broken(error.to_string()),
        }
    }
}

fn broken<T>(why: &str) -> Result<T, Broken> {
    Err(Broken(why.to_owned()))
}

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// Its lines without the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it says yes.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it says no: for now or for good.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code / 100, 4 | 5)
    }

    /// The enhanced status code and the text without it (RFC 2034).
    pub fn parts(&self) -> (Option<Status>, String) {
        let split = |line: &str| {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            word.parse::<Status>().ok().map(|status| (status, rest.to_owned()))
        };
        let status = self
            .lines
            .first()
            .and_then(|line| split(line))
            .map(|(status, _)| status);
        let text = |line: &String| split(line).map_or_else(|| line.clone(), |(_, rest)| rest);
        (status, self.lines.iter().map(text).collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// The waits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For a connection, a reply, room for more of the message.
    pub each: Duration,
    /// For the reply to the message.
    pub last: Duration,
    /// When all must be over.
    pub end: Instant,
}

impl Waits {
    fn until(&self, wait: Duration) -> Instant {
        self.end.min(Instant::now() + wait)
    }
}

/// The connection.
pub struct Link {
    stream: TcpStream,
    waits: Waits,
    input: Vec<u8>,
}

impl Link {
    /// Connects to the first address of a host that answers.
    pub fn connect(host: &str, port: u16, waits: Waits) -> Result<Link, Broken> {
        let mut last = Broken("no address".to_owned());
        for address in addresses(host, port, waits.until(waits.each))? {
            match TcpStream::connect_timeout(&address, left(waits.until(waits.each))?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Link {
                        stream,
                        waits,
                        input: Vec::new(),
                    });
                }
                Err(e) => last = e.into(),
            }
        }
        Err(last)
    }

    /// Sends a command and reads the reply.
    pub fn command(&mut self, line: &str) -> Result<Reply, Broken> {
        self.in_turn()?;
        if line.contains(['\r', '\n']) {
            return broken("line end in a command");
        }
        self.write_all(format!("{line}\r\n").as_bytes())?;
        self.reply(self.waits.each)
    }

    /// Says goodbye. It is not waited for the answer, since nothing depends on it.
    pub fn quit(mut self) {
        let _ = self.write_all(b"QUIT\r\n");
    }

    /// Reads a reply.
    pub fn reply(&mut self, wait: Duration) -> Result<Reply, Broken> {
        let until = self.waits.until(wait);
        let mut lines = Vec::new();
        loop {
            let line = self.line(until)?;
            let (code, last) = parse(&line).ok_or_else(|| Broken("the answer is no SMTP reply".to_owned()))?;
            lines.push((code, line.get(4..).unwrap_or_default().to_owned()));
            if lines[0].0 != code || lines.len() > MAX_LINES {
                return broken("the answer is no SMTP reply");
            }
            if last {
                let lines = lines.into_iter().map(|(_, text)| text).collect();
                return Ok(Reply { code, lines });
            }
        }
    }

    fn line(&mut self, until: Instant) -> Result<String, Broken> {
        loop {
            if let Some(end) = memchr(b'\n', &self.input) {
                let line = String::from_utf8_lossy(&self.input[..end]).trim_end().to_owned();
                self.input.drain(..=end);
                return Ok(line);
            }
            if self.input.len() > MAX_LINE {
                return broken("the answer is too long");
            }
            self.stream.set_read_timeout(Some(left(until)?))?;
            self.fill()?;
        }
    }

    /// Reads what there is, at least a byte.
    fn fill(&mut self) -> Result<(), Broken> {
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return broken("connection closed by the other side"),
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// An answer that nobody has asked for would be taken for the next one.
    fn in_turn(&self) -> Result<(), Broken> {
        match self.input.is_empty() {
            true => Ok(()),
            false => broken("the other side answered twice"),
        }
    }

    /// Sends the message up to, and without, the final dot.
    ///
    /// The outer error is a refusal that came in the middle, if there is one.
    pub fn message(&mut self, message: &Message) -> Result<Dots<&mut Link>, (Broken, Option<Reply>)> {
        let mut dots = Dots::new(self);
        let written = message.write_to(&mut dots);
        // what has come by now cannot be the answer to the whole message
        let link = dots.out();
        let why = match (written, link.look()) {
            (Err(e), _) => Broken::from(e),
            (_, Err(why)) => why,
            (Ok(()), Ok(())) if link.input.is_empty() => return Ok(dots),
            (Ok(()), Ok(())) => Broken("answered before the end of the message".to_owned()),
        };
        let whole = link.input.contains(&b'\n');
        let reply = whole.then(|| link.reply(Duration::from_millis(1)).ok()).flatten();
        Err((why, reply.filter(Reply::is_refusal)))
    }

    /// Reads what has already come, without waiting.
    fn look(&mut self) -> Result<(), Broken> {
        self.stream.set_nonblocking(true)?;
        let mut chunk = [0; 1024];
        let seen = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break broken("connection closed by the other side"),
                Ok(count) if self.input.len() < MAX_LINE => self.input.extend_from_slice(&chunk[..count]),
                Ok(_) => break broken("the answer is too long"),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e.into()),
            }
        };
        self.stream.set_nonblocking(false)?;
        seen
    }

    /// The reply to the message.
    pub fn last_reply(&mut self) -> Result<Reply, Broken> {
        self.reply(self.waits.last)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = self.waits.until(self.waits.each);
        let left = left(until).map_err(|_| io::ErrorKind::TimedOut)?;
        self.stream.set_write_timeout(Some(left))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The code of a reply line, and whether it is the last.
fn parse(line: &str) -> Option<(u16, bool)> {
    let code = line.get(..3)?;
    let code = code
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| code.parse::<u16>().ok())??;
    let last = match line.as_bytes().get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    (200..600).contains(&code).then_some((code, last))
}

/// The time that is left.
fn left(until: Instant) -> Result<Duration, Broken> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => broken("time-out"),
        left => Ok(left),
    }
}

/// The addresses of a host: a literal, with or without brackets, or a name.
fn addresses(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Broken> {
    if let Some(ip) = literal(host) {
        return Ok(vec![(ip, port).into()]);
    }
    // The system's resolver knows no deadline; a thread that hangs in it is left to itself.
    let (tell, told) = mpsc::channel();
    let host = host.to_owned();
    std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        // nobody listens any more when the deadline has passed
        let _ = tell.send(found.map(Iterator::collect::<Vec<_>>));
    })?;
    match told.recv_timeout(left(until)?) {
        Ok(found) => Ok(found?),
        Err(_) => broken("time-out of the resolver"),
    }
}

/// An address as it may stand in a configuration: `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, `[IPv6:2001:db8::1]`.
pub fn literal(host: &str) -> Option<IpAddr> {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let tagged = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    if tagged { &inner[5..] } else { inner }.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_lines() {
        assert_eq!(parse("250 ok"), Some((250, true)));
        assert_eq!(parse("250"), Some((250, true)));
        assert_eq!(parse("550-no"), Some((550, false)));
        for bad in [
            "",
            "25",
            "2500",
            "25x ok",
            "+50 x",
            "999 x",
            "100 x",
            "250_x",
            "\u{e9}50 x",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn status_and_text() {
        let reply = |lines: &[&str]| Reply {
            code: 550,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let parts = reply(&["5.1.1 no such", "5.1.1 user"]).parts();
        assert_eq!(parts, (Some(Status(5, 1, 1)), "no such\nuser".to_owned()));
        assert_eq!(reply(&["5.1 x"]).parts(), (None, "5.1 x".to_owned()));
        assert_eq!(reply(&[""]).parts(), (None, String::new()));
    }

    #[test]
    fn literals() {
        for host in ["::1", "[::1]", "[IPv6:::1]", "127.0.0.1", "[127.0.0.1]"] {
            assert!(literal(host).is_some_and(|ip| ip.is_loopback()), "{host}");
        }
        assert_eq!(literal("localhost"), None);
    }
}
