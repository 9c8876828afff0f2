//! A connection to an IMAP server, as far as LOGIN (RFC 3501).

use std::time::{Duration, Instant};

use super::super::secure::Encryption;
use crate::plugin::*;

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 8192;
/// The most lines of an answer.
const MOST_LINES: usize = 100;
/// Response codes (RFC 5530) of a NO that is not about the password.
const NOT_NOW: [&str; 6] = [
    "UNAVAILABLE",
    "SERVERBUG",
    "INUSE",
    "LIMIT",
    "PRIVACYREQUIRED",
    "CONTACTADMIN",
];

/// Where and how to ask.
pub struct Ask<'a> {
    /// The server.
    pub at: &'a Target,
    /// How to encrypt; none for in clear.
    pub tls: Option<(&'a ClientTls, Encryption)>,
    /// How long all of it may take.
    pub wait: Duration,
}

/// The connection.
struct Link {
    remote: Remote,
    until: Instant,
    number: u32,
}

/// How a command was answered.
enum Answered {
    Ok,
    No(String),
}

impl Ask<'_> {
    /// Whether the server lets this user in.
    pub fn login(&self, s: &Session, user: &str, password: &str) -> Result<bool, Lost> {
        let until = Instant::now() + self.wait;
        let mut link = Link {
            remote: s.dial(self.at, until)?,
            until,
            number: 0,
        };
        if let Some((how, Encryption::Implicit)) = self.tls {
            link.remote.encrypt(how, until)?;
        }
        link.greeting()?;
        if let Some((how, Encryption::StartTls)) = self.tls {
            link.expect_ok("STARTTLS")?;
            link.remote.encrypt(how, until)?;
        }
        if link.remote.tls().is_none() && link.forbids_login()? {
            return Err(Lost::because("it lets nobody log in without TLS (LOGINDISABLED)"));
        }
        let accepted = match link.command(&[b"LOGIN", user.as_bytes(), password.as_bytes()], |_| {})? {
            Answered::Ok => true,
            Answered::No(text) if is_about_the_server(&text) => return Err(Lost::because(Harmless(&text))),
            Answered::No(_) => false,
        };
        // it is closed in any case
        let _ = link.remote.write(b"z LOGOUT\r\n", until);
        Ok(accepted)
    }
}

impl Link {
    fn line(&mut self) -> Result<String, Lost> {
        Ok(String::from_utf8_lossy(self.remote.line(MAX_LINE, self.until)?).into_owned())
    }

    fn greeting(&mut self) -> Result<(), Lost> {
        let line = self.line()?;
        match line.to_ascii_uppercase().starts_with("* OK") {
            true => Ok(()),
            false => Err(Lost::because(format_args!("it greets with {}", Harmless(&line)))),
        }
    }

    fn expect_ok(&mut self, verb: &str) -> Result<(), Lost> {
        match self.command(&[verb.as_bytes()], |_| {})? {
            Answered::Ok => Ok(()),
            Answered::No(text) => Err(Lost::because(format_args!("it refuses {verb}: {}", Harmless(&text)))),
        }
    }

    fn forbids_login(&mut self) -> Result<bool, Lost> {
        let mut forbids = false;
        let answered = self.command(&[b"CAPABILITY"], |line| {
            let line = line.to_ascii_uppercase();
            let mut words = line.split_ascii_whitespace().skip(1);
            forbids |= words.next() == Some("CAPABILITY") && words.any(|word| word == "LOGINDISABLED");
        })?;
        match answered {
            Answered::Ok => Ok(forbids),
            Answered::No(text) => Err(Lost::because(format_args!(
                "it refuses CAPABILITY: {}",
                Harmless(&text)
            ))),
        }
    }

    /// Sends a verb and strings; `untagged` sees the lines that come before the answer.
    fn command(&mut self, words: &[&[u8]], mut untagged: impl FnMut(&str)) -> Result<Answered, Lost> {
        self.number += 1;
        let tag = format!("a{}", self.number);
        let mut out = tag.clone().into_bytes();
        for (at, word) in words.iter().enumerate() {
            out.push(b' ');
            match quoted(word) {
                _ if at == 0 => out.extend_from_slice(word),
                Some(text) => out.extend_from_slice(&text),
                None => {
                    out.extend_from_slice(format!("{{{}}}\r\n", word.len()).as_bytes());
                    self.remote.write(&out, self.until)?;
                    if let Some(answered) = self.go_ahead(&tag)? {
                        return Ok(answered);
                    }
                    out = word.to_vec();
                }
            }
        }
        out.extend_from_slice(b"\r\n");
        self.remote.write(&out, self.until)?;
        for _ in 0..MOST_LINES {
            let line = self.line()?;
            if let Some(answered) = tagged(&tag, &line)? {
                return Ok(answered);
            }
            untagged(&line);
        }
        Err(Lost::because("it does not come to an answer"))
    }

    /// Waits until the server wants the rest; or the answer, if it does not want it.
    fn go_ahead(&mut self, tag: &str) -> Result<Option<Answered>, Lost> {
        for _ in 0..MOST_LINES {
            let line = self.line()?;
            if line.starts_with('+') {
                return Ok(None);
            }
            if let Some(answered) = tagged(tag, &line)? {
                return Ok(Some(answered));
            }
        }
        Err(Lost::because("it does not come to an answer"))
    }
}

/// The answer, if a line is one.
fn tagged(tag: &str, line: &str) -> Result<Option<Answered>, Lost> {
    let mut words = line.splitn(3, ' ');
    let (first, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let text = words.next().unwrap_or_default().to_owned();
    match status.to_ascii_uppercase().as_str() {
        "BYE" if first == "*" => Err(Lost::because(format_args!("it says goodbye: {}", Harmless(&text)))),
        _ if first == "*" => Ok(None),
        "OK" if first == tag => Ok(Some(Answered::Ok)),
        "NO" if first == tag => Ok(Some(Answered::No(text))),
        _ => Err(Lost::because("what it says is no answer of IMAP")),
    }
}

/// Whether the words of a NO say that it is not about the password: by a response code at their beginning.
fn is_about_the_server(text: &str) -> bool {
    let code = text.strip_prefix('[').and_then(|rest| rest.split([']', ' ']).next());
    code.is_some_and(|code| NOT_NOW.iter().any(|known| known.eq_ignore_ascii_case(code)))
}

/// A string between quotes; none if it can only be sent as a literal.
fn quoted(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() > 1024 || !word.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return None;
    }
    let mut text = vec![b'"'];
    for byte in word {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_or_sent_as_literals() {
        assert_eq!(quoted(b"joe"), Some(b"\"joe\"".to_vec()));
        assert_eq!(quoted(br#"a"b\c d"#), Some(br#""a\"b\\c d""#.to_vec()));
        for word in ["\u{e9}".as_bytes(), b"a\r\nb", b"a\tb", &[b'x'; 2000]] {
            assert_eq!(quoted(word), None);
        }
    }

    #[test]
    fn not_every_no_is_about_the_password() {
        assert!(is_about_the_server("[UNAVAILABLE] Temporary authentication failure."));
        assert!(is_about_the_server("[LIMIT] too many"));
        assert!(!is_about_the_server("[AUTHENTICATIONFAILED] Authentication failed."));
        assert!(!is_about_the_server("UNAVAILABLE is no code here"));
    }
}
