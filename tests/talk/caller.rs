//! A client that tries everything once, with TLS and a certificate, and what becomes of its session; for `fail_open`.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use qpsmtpd::config::Lookup;
use qpsmtpd::plugin::Loaded;
use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::Queue;
use super::stage::{self, Set};

/// What a client of these tests says; a message when it is told to go ahead.
const SAYS: [&str; 22] = [
    "HELO x",
    "EHLO x",
    "NOOP",
    "VRFY x",
    "HELP",
    "FOO",
    "AUTH SCRAM-SHA-256 biwsbj14QGV4YW1wbGUuY29tLHI9YWJj",
    "*",
    "AUTH XOAUTH2 dXNlcj14QGV4YW1wbGUuY29tAWF1dGg9QmVhcmVyIHQwa2VuAQE=",
    "*",
    "AUTH EXTERNAL eEBleGFtcGxlLmNvbQ==",
    "AUTH CRAM-MD5",
    "eEBleGFtcGxlLmNvbSAwMTIz",
    "AUTH LOGIN",
    "eEBleGFtcGxlLmNvbQ==",
    "cHc=",
    "AUTH PLAIN AHhAZXhhbXBsZS5jb20AcHc=",
    "MAIL FROM:<a@b.example>",
    "RCPT TO:<x@example.com>",
    "DATA",
    "RSET",
    "QUIT",
];

/// Speaks line by line and keeps what it hears.
#[derive(Clone, Default)]
struct Caller(Arc<Mutex<Heart>>);

#[derive(Default)]
struct Heart {
    said: usize,
    heard: Vec<u8>,
    /// Where the last reply begins.
    last: usize,
    rest: Vec<u8>,
    replies: Vec<(String, String)>,
    /// Before which of the words something else happens.
    meanwhile: Option<(&'static str, Meanwhile)>,
}

/// What happens while a session is under way.
pub type Meanwhile = Box<dyn FnOnce() + Send>;

impl Heart {
    fn next(&mut self) -> Option<String> {
        let reply = String::from_utf8_lossy(&self.heard[self.last..]).into_owned();
        self.last = self.heard.len();
        let asked = self.said.checked_sub(1).map_or("", |at| SAYS[at]);
        self.replies.push((asked.to_owned(), reply.clone()));
        if reply.starts_with("354") {
            return Some("Subject: x\r\n\r\nText.\r\n.\r\n".to_owned());
        }
        let line = *SAYS.get(self.said)?;
        if let Some((_, happens)) = self.meanwhile.take_if(|(before, _)| line.starts_with(*before)) {
            happens();
        }
        self.said += 1;
        Some(format!("{line}\r\n"))
    }
}

impl Wire for Caller {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        let mut heart = self.0.lock().expect("lock");
        if heart.rest.is_empty() {
            match heart.next() {
                Some(words) => heart.rest = words.into_bytes(),
                None => return Ok(Heard::End),
            }
        }
        let count = buffer.len().min(heart.rest.len());
        buffer[..count].copy_from_slice(&heart.rest[..count]);
        heart.rest.drain(..count);
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        self.0.lock().expect("lock").heard.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a session came to.
pub struct Seen {
    /// What was said, and what was heard then.
    pub replies: Vec<(String, String)>,
    pub log: Vec<String>,
    pub queued: usize,
}

/// What is set for these sessions.
const SETTINGS: [(&str, &str); 5] = [
    ("me", "mx.example.org"),
    ("max_errors", "0"),
    ("max_unknown_commands", "0"),
    ("max_auth_failures", "0"),
    ("auth_delay", "0"),
];

/// A session with these plugins, during which something may happen.
pub fn talk(
    lookup: Arc<Lookup>,
    meanwhile: Option<(&'static str, Meanwhile)>,
    plugins: impl FnOnce(&Queue) -> Vec<Loaded>,
) -> Seen {
    let (caller, queue) = (Caller::default(), Queue::default());
    let set = Set {
        tls: Some(stage::tls("verified")),
        ..Set::default()
    };
    for (name, value) in SETTINGS {
        lookup.set(name, &[value]);
    }
    caller.0.lock().expect("lock").meanwhile = meanwhile;
    let log = set.log.clone();
    let plugins = plugins(&queue);
    stage::session(lookup, plugins, Box::new(caller.clone()), set);
    let mut heart = caller.0.lock().expect("lock");
    let queued = queue.lock().expect("lock").len();
    heart.next();
    Seen {
        replies: std::mem::take(&mut heart.replies),
        log: log.lines(),
        queued,
    }
}

impl Seen {
    /// Whether something that was said so was answered so.
    pub fn answered(&self, said: &str, code: &str) -> bool {
        let mut replies = self.replies.iter();
        replies.any(|(asked, reply)| asked.starts_with(said) && reply.starts_with(code))
    }

    /// Whether any answer says so; for messages, whose answers come after 354.
    pub fn heard(&self, code: &str) -> bool {
        self.replies.iter().any(|(_, reply)| reply.starts_with(code))
    }
}
