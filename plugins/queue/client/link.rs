//! A connection to a server of SMTP or LMTP: commands, replies and the message; every wait has an end.
//!
//! The server is not trusted: replies are bounded in length, one that comes before it was asked for breaks the
//! connection, for else it could be taken for the answer to what was not answered.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::dots::Dots;
use crate::plugin::*;

/// The longest reply line that is read, in bytes. RFC 5321 allows 512.
const MAX_LINE: usize = 2048;
/// The most lines of a reply that are read.
const MAX_LINES: usize = 128;

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

    /// The answer of a plugin that passes a refusal on.
    pub fn answer(&self) -> Answer {
        let verdict = if self.code / 100 == 5 {
            Verdict::Deny
        } else {
            Verdict::DenySoft
        };
        let (status, text) = self.parts();
        answer_with(verdict, status.unwrap_or(Status((self.code / 100) as u8, 0, 0)), text)
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

    /// How long each wait may be from now on.
    pub fn left(&self) -> Duration {
        self.each.min(self.end.saturating_duration_since(Instant::now()))
    }
}

/// The connection.
pub struct Link {
    remote: Remote,
    waits: Waits,
}

impl Link {
    /// Connects.
    pub fn connect(s: &Session, to: &Target, waits: Waits) -> Result<Link, Lost> {
        let remote = s.dial(to, waits.until(waits.each))?;
        Ok(Link { remote, waits })
    }

    /// Sends a command and reads the reply.
    pub fn command(&mut self, line: &str) -> Result<Reply, Lost> {
        self.in_turn()?;
        if line.contains(['\r', '\n']) {
            return Err(Lost::because("line end in a command"));
        }
        self.write_all(format!("{line}\r\n").as_bytes())?;
        self.reply(self.waits.each)
    }

    /// Sends commands at once and reads the reply to each of them (RFC 2920). If the connection is lost amid the
    /// replies, those that came are given, and why there are no more: a server that leaves says so first.
    pub fn batch(&mut self, lines: &[String]) -> Result<(Vec<Reply>, Option<Lost>), Lost> {
        self.in_turn()?;
        let mut all = String::new();
        for line in lines {
            if line.contains(['\r', '\n']) {
                return Err(Lost::because("line end in a command"));
            }
            all.push_str(line);
            all.push_str("\r\n");
        }
        self.write_all(all.as_bytes())?;
        let mut replies = Vec::with_capacity(lines.len());
        for _ in lines {
            match self.reply(self.waits.each) {
                Ok(reply) => replies.push(reply),
                Err(why) if replies.is_empty() => return Err(why),
                Err(why) => return Ok((replies, Some(why))),
            }
        }
        Ok((replies, None))
    }

    /// Encrypts the connection.
    pub fn encrypt(&mut self, how: &ClientTls) -> Result<(), Lost> {
        let until = self.waits.until(self.waits.each);
        self.remote.encrypt(how, until).map(|_| ())
    }

    /// The facts of its encryption.
    pub fn tls(&self) -> Option<&RemoteTls> {
        self.remote.tls()
    }

    /// Sets the waits for a further message.
    pub fn set_waits(&mut self, waits: Waits) {
        self.waits = waits;
    }

    /// Whether the other side has neither left nor said anything that nobody has asked for.
    pub fn is_quiet(&mut self) -> bool {
        self.quiet().is_ok()
    }

    /// What has come by now cannot be the answer to a message that has not come to its end.
    fn quiet(&mut self) -> Result<(), Lost> {
        match self.remote.look()? {
            [] => Ok(()),
            _ => Err(Lost::because("answered before the end of the message")),
        }
    }

    /// Says goodbye. It is not waited for the answer, since nothing depends on it.
    pub fn quit(mut self) {
        let _ = self.write_all(b"QUIT\r\n");
    }

    /// Reads a reply. Behind one that makes no sense nobody knows what the next one is the answer to.
    pub fn reply(&mut self, wait: Duration) -> Result<Reply, Lost> {
        self.read(wait).or_else(|why| self.remote.end(why))
    }

    fn read(&mut self, wait: Duration) -> Result<Reply, Lost> {
        let until = self.waits.until(wait);
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8_lossy(self.remote.line(MAX_LINE, until)?);
            let line = line.trim_end();
            let strange = || Lost::because("the answer is no SMTP reply");
            let (code, last) = parse(line).ok_or_else(strange)?;
            lines.push((code, line.get(4..).unwrap_or_default().to_owned()));
            if lines[0].0 != code || lines.len() > MAX_LINES {
                return Err(strange());
            }
            if last {
                let lines = lines.into_iter().map(|(_, text)| text).collect();
                return Ok(Reply { code, lines });
            }
        }
    }

    /// An answer that nobody has asked for would be taken for the next one.
    pub fn in_turn(&mut self) -> Result<(), Lost> {
        self.remote.check()?;
        match self.remote.unread().is_empty() {
            true => Ok(()),
            false => Err(Lost::because("the other side answered twice")),
        }
    }

    /// Sends the message up to, and without, the final dot. If that comes to nothing the connection is of no more use,
    /// since the other side may take whatever follows for more of the message.
    ///
    /// The outer error is a refusal that came in the middle, if there is one.
    pub fn message(&mut self, message: &Message) -> Result<Dots<&mut Link>, (Lost, Option<Reply>)> {
        let mut dots = Dots::new(self);
        let written = message.write_to(&mut dots);
        let link = dots.out();
        // after an error, too: the words that explain it
        let quiet = link.quiet();
        let Err(why) = written.map_err(Lost::from).and(quiet) else {
            return Ok(dots);
        };
        let whole = link.remote.unread().contains(&b'\n');
        let reply = whole.then(|| link.reply(Duration::from_millis(1)).ok()).flatten();
        link.remote
            .end(why)
            .map_err(|why| (why, reply.filter(Reply::is_refusal)))
    }

    /// Sends a message whose lines may hold anything (RFC 3030): its body is kept as it came, CRLF and all.
    pub fn binary(&mut self, message: &Message) -> Result<(), (Lost, bool)> {
        let mut header = Vec::new();
        let before = |why: io::Error| (Lost::from(why), false);
        message.header.write_to(&mut header).map_err(before)?;
        let mut head = Vec::with_capacity(header.len() + header.len() / 32);
        for line in header.split_inclusive(|byte| *byte == b'\n') {
            head.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            head.extend_from_slice(b"\r\n");
        }
        let mut body = message.body_text_reader().map_err(before)?;
        let separated = !message.body.is_empty();
        if separated {
            head.extend_from_slice(b"\r\n");
        }
        let size = head.len() as u64 + message.body.len() - u64::from(separated);
        self.quiet().map_err(|why| (why, false))?;
        self.write_all(format!("BDAT {size} LAST\r\n").as_bytes())
            .map_err(before)?;
        // when the last byte is on its way the other side may have all of it
        let written = self.write_all(&head).and_then(|()| io::copy(&mut body, self));
        written.map(|_| ()).map_err(|why| (Lost::from(why), true))
    }

    /// The reply to the message, a yes or a no. Behind anything else there is none.
    pub fn last_reply(&mut self) -> Result<Reply, Lost> {
        self.remote.check()?;
        let reply = self.reply(self.waits.last)?;
        match reply.is_positive() || reply.is_refusal() {
            true => Ok(reply),
            false => self.remote.end(Lost::because(format_args!("strange answer {reply}"))),
        }
    }

    /// Whether more has come by now than was asked for. That the other side has left does not matter.
    pub fn has_said_more(&mut self) -> bool {
        let _ = self.remote.look();
        !self.remote.unread().is_empty()
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = self.waits.until(self.waits.each);
        self.remote.write(bytes, until)?;
        Ok(bytes.len())
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
    fn waits_have_an_end() {
        let waits = |seconds| Waits {
            each: Duration::from_secs(60),
            last: Duration::from_secs(300),
            end: Instant::now() + Duration::from_secs(seconds),
        };
        assert_eq!(waits(540).left(), Duration::from_secs(60));
        assert!(waits(30).left() <= Duration::from_secs(30));
        assert_eq!(waits(0).left(), Duration::ZERO);
        let waits = waits(30);
        assert_eq!(waits.until(waits.each), waits.end);
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
}
