//! A reply to a command: code, enhanced status and text (RFC 5321, 4.2; RFC 2034; RFC 3463).
//!
//! Texts may come from plugins and hold what clients sent, so whatever they contain, what goes out is a well-formed
//! reply: lines of at most 512 octets, no controls, every line but the last with a hyphen after the code.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The longest reply line in octets, with CRLF (RFC 5321, 4.5.3.1.5).
pub const MAX_LINE: usize = 512;

/// An enhanced status code: class, subject, detail (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u8, pub u16, pub u16);

impl Status {
    /// The same status with the class that belongs to a reply code: 2, 4 or 5.
    pub fn with_class(self, code: u16) -> Status {
        match code / 100 {
            class @ (2 | 4 | 5) => Status(class as u8, self.1, self.2),
            _ => self,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The text is no enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStatus;

impl fmt::Display for BadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an enhanced status code such as 5.7.1")
    }
}

impl std::error::Error for BadStatus {}

impl FromStr for Status {
    type Err = BadStatus;

    /// Reads `c.s.d` with class 2, 4 or 5 and numbers of one to three digits.
    fn from_str(text: &str) -> Result<Status, BadStatus> {
        let number = |part: Option<&str>| -> Result<u16, BadStatus> {
            let part = part.ok_or(BadStatus)?;
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if digits {
                part.parse().map_err(|_| BadStatus)
            } else {
                Err(BadStatus)
            }
        };
        let mut parts = text.split('.');
        let (class, subject, detail) = (number(parts.next())?, number(parts.next())?, number(parts.next())?);
        match class {
            2 | 4 | 5 if parts.next().is_none() => Ok(Status(class as u8, subject, detail)),
            _ => Err(BadStatus),
        }
    }
}

/// A reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The reply code, 200 to 599; anything else goes out as 451.
    pub code: u16,
    /// The enhanced status; its class follows the code, and it is left out where RFC 2034 knows none (3xx).
    pub status: Option<Status>,
    text: Cow<'static, str>,
    utf8: bool,
}

impl Reply {
    /// A reply whose lines are those of `text`, which are separated by LF or CRLF. Empty lines are left out.
    pub fn new(code: u16, status: Option<Status>, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply {
            code,
            status,
            text: text.into(),
            utf8: false,
        }
    }

    /// The same reply, keeping what is not ASCII if `keep` (the client has said SMTPUTF8, RFC 6531, 3.7.4).
    pub fn utf8(mut self, keep: bool) -> Reply {
        self.utf8 = keep;
        self
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Appends a line to the text.
    pub fn push_line(&mut self, line: &str) {
        let text = self.text.to_mut();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }

    /// Appends the reply with its line ends to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let (code, status) = self.prefix();
        let mut last = out.len();
        for piece in self.pieces() {
            last = out.len();
            self.write_line(out, code, b'-', status, piece);
            out.extend_from_slice(b"\r\n");
        }
        match out.get_mut(last + 3) {
            Some(separator) => *separator = b' ',
            None => {
                // No piece at all: a line of code, status and nothing more.
                self.write_line(out, code, b' ', status, "");
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The lines for the log: as they go out, but without the enhanced status, as the log tools look for `250 Queued!`
    /// (catalogue 5).
    pub fn logged(&self) -> impl Iterator<Item = String> {
        let (code, _) = self.prefix();
        let mut pieces = self.pieces();
        let mut next = Some(pieces.next().unwrap_or_default());
        std::iter::from_fn(move || {
            let piece = next?;
            next = pieces.next();
            let separator = if next.is_some() { '-' } else { ' ' };
            Some(format!("{code}{separator}{piece}"))
        })
    }

    /// Code and status as they go out.
    fn prefix(&self) -> (u16, Option<Status>) {
        let code = if (200..600).contains(&self.code) {
            self.code
        } else {
            451
        };
        (
            code,
            self.status
                .filter(|_| code / 100 != 3)
                .map(|status| status.with_class(code)),
        )
    }

    /// The lines of the text that hold anything visible.
    fn pieces(&self) -> impl Iterator<Item = &str> {
        self.text
            .split('\n')
            .filter(|piece| piece.chars().any(|c| !c.is_control() && c != ' '))
    }

    fn write_line(&self, out: &mut Vec<u8>, code: u16, separator: u8, status: Option<Status>, piece: &str) {
        let start = out.len();
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code), separator]);
        if let Some(Status(class, subject, detail)) = status {
            for (number, end) in [(u16::from(class), b'.'), (subject, b'.'), (detail, b' ')] {
                push_number(out, number);
                out.push(end);
            }
        }
        let limit = start + MAX_LINE - 2;
        let piece = piece.trim_ascii_end();
        if out.len() + piece.len() <= limit && piece.bytes().all(|b| matches!(b, b' '..=b'~')) {
            out.extend_from_slice(piece.as_bytes());
            return;
        }
        for c in piece.chars() {
            let c = match c {
                '\t' => ' ',
                c if c.is_control() => continue,
                c if !c.is_ascii() && !self.utf8 => '?',
                c => c,
            };
            if out.len() + c.len_utf8() > limit {
                break;
            }
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Appends a number in decimal without allocating.
fn push_number(out: &mut Vec<u8>, number: u16) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = b"before\r\n".to_vec();
        reply.write_to(&mut out);
        String::from_utf8(out.split_off(8)).unwrap()
    }

    #[test]
    fn lines() {
        let status = Some(Status(5, 7, 1));
        for (code, status, text, want) in [
            (250, None, "ok", "250 ok\r\n"),
            (550, status, "no", "550 5.7.1 no\r\n"),
            (450, status, "first\r\nlast\n", "450-4.7.1 first\r\n450 4.7.1 last\r\n"),
            (354, status, "go", "354 go\r\n"),
            (550, status, "\n \n\r\n", "550 5.7.1 \r\n"),
            (250, None, "", "250 \r\n"),
            (550, None, "a\0b\rc\td\u{85}e", "550 abc de\r\n"),
            (550, None, "caf\u{e9}", "550 caf?\r\n"),
            (7, None, "odd", "451 odd\r\n"),
            (250, Some(Status(2, 100, 999)), "x", "250 2.100.999 x\r\n"),
        ] {
            assert_eq!(wire(&Reply::new(code, status, text)), want);
        }
        assert_eq!(
            wire(&Reply::new(550, None, "caf\u{e9}").utf8(true)),
            "550 caf\u{e9}\r\n"
        );
    }

    #[test]
    fn for_the_log() {
        let mut reply = Reply::new(550, Some(Status(5, 7, 1)), "one");
        reply.push_line("two");
        assert_eq!(reply.logged().collect::<Vec<_>>(), ["550-one", "550 two"]);
        assert_eq!(Reply::new(250, None, "\n").logged().collect::<Vec<_>>(), ["250 "]);
        assert_eq!(reply.text(), "one\ntwo");
        assert_eq!(wire(&reply), "550-5.7.1 one\r\n550 5.7.1 two\r\n");
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        let reply = Reply::new(550, None, "\u{e9}".repeat(300)).utf8(true);
        let line = wire(&reply);
        assert_eq!(line.len(), 512);
        assert!(line.ends_with("\u{e9}\r\n"));
        assert_eq!(wire(&Reply::new(550, None, "x".repeat(506))).len(), 512);
        assert_eq!(wire(&Reply::new(550, None, "x".repeat(507))).len(), 512);
    }

    #[test]
    fn statuses() {
        assert_eq!("5.7.1".parse(), Ok(Status(5, 7, 1)));
        assert_eq!(Status(5, 7, 1).with_class(450).to_string(), "4.7.1");
        assert_eq!(Status(5, 7, 1).with_class(354), Status(5, 7, 1));
        for text in [
            "", "5", "5.7", "5.7.1.1", "3.7.1", "5.7.", "5.7.+1", "5.7.1000", "a.b.c", "5.7.1 ",
        ] {
            assert_eq!(text.parse::<Status>(), Err(BadStatus), "{text}");
        }
    }

    proptest! {
        #[test]
        fn always_well_formed(code in 0u16..700, status in any::<Option<(u8, u16, u16)>>(), text in any::<String>(), keep in any::<bool>()) {
            let text = text.replace('a', "\n");
            let reply = Reply::new(code, status.map(|(a, b, c)| Status(a, b, c)), text).utf8(keep);
            let out = wire(&reply);
            let lines: Vec<&str> = out.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            for (n, line) in lines.iter().enumerate() {
                prop_assert!(line.len() <= 510);
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(keep || line.is_ascii());
                let code: u16 = line[..3].parse().unwrap();
                prop_assert!((200..600).contains(&code));
                prop_assert_eq!(&line[3..4], if n + 1 == lines.len() { " " } else { "-" });
            }
        }
    }
}
