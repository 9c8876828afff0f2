//! Hand the message to qmail-queue, or to a program with the same interface (catalogue 20.4).
//!
//! The program reads the message from descriptor 0 and then the envelope from descriptor 1. The envelope is written
//! only when the message has been taken whole, so that a program whose client dies in between queues nothing. The
//! message is queued if, and only if, the program has read everything and exits 0. One that is killed because it takes
//! too long may have queued the message a moment before: the client, told to try again, then sends it twice.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::queued;
use crate::plugin::*;

plugin! {
    /// Hands the message to qmail-queue or a program like it. The variable QMAILQUEUE, if set, names the program.
    "queue/qmail-queue", QmailQueue {
        /// The program; `$QMAIL/bin/qmail-queue` by default, with /var/qmail for `$QMAIL` where that is not set.
        @1 path: Option<PathBuf>,
        /// After how many seconds the program is killed and the client asked to try again.
        timeout: u32 = 300,
        /// What queues behind the program can pass on addresses that are not ASCII (SMTPUTF8); that of qmail-1.03 cannot.
        @flag smtputf8: bool,
    }
    state { program: PathBuf }
    hooks [queue]
    with [setup, needs, takes]
}

/// The descriptor from which the envelope is read.
const ENVELOPE: i32 = 1;
/// The descriptor to which programs that exit 82 write why.
const WORDS: i32 = 6;

impl QmailQueue {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        self.choose(variable("QMAILQUEUE"), variable("QMAIL"));
        let program = self.program.display();
        if !self.program.is_absolute() {
            return Err(format!("the path of '{program}' must begin with /"));
        }
        if !self.program.is_file() {
            at.warn(format!("there is no program {program}"));
        }
        Ok(())
    }

    fn choose(&mut self, queue: Option<PathBuf>, qmail: Option<PathBuf>) {
        let usual = || qmail.unwrap_or_else(|| "/var/qmail".into()).join("bin/qmail-queue");
        self.program = queue.or(self.path.take()).unwrap_or_else(usual);
    }

    fn takes(&self) -> Extensions {
        Extensions {
            utf8: self.smtputf8,
            ..Extensions::default()
        }
    }

    /// The program changes its user and writes into a queue of its own.
    fn needs(&self) -> Needs {
        Needs {
            programs: Programs::Any,
            ..Needs::default()
        }
    }

    fn queue(&self, s: &mut Session) -> Answer {
        let path = self.program.display();
        notice!(s, "(for {}) Queuing to {path}", s.number);
        let Some(transaction) = &s.transaction else {
            return declined();
        };
        let mut header = Vec::with_capacity(transaction.message.header.bytes());
        transaction.message.header.write_to(&mut header)?;
        let body = transaction.message.body.reader()?;
        let envelope = envelope(transaction);
        let mut program = Program::new(&self.program);
        program
            .feed(0, std::io::Read::chain(&header[..], body))
            .feed(ENVELOPE, &envelope[..])
            .listen(WORDS);
        tell_of(&s.peer, program.command());
        let ran = match program.run(Duration::from_secs(self.timeout.max(1).into())) {
            Ok(ran) => ran,
            Err(why) => {
                error!(s, "error, cannot run {path}: {why}");
                return answer(Verdict::Declined, "Unable to queue message, try again later");
            }
        };
        match ran.end {
            End::Exit(0) if ran.fed => {
                let now = s.services().clock.now();
                let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                queued(s, &format!("{time} qp {}", ran.process))
            }
            End::Exit(0) => failed(s, &refusal(54, b"")),
            End::Exit(code) => failed(s, &refusal(code, &ran.heard)),
            End::Signal(signal) => failed(s, &temporary((3, 0), format!("qmail-queue crashed (signal {signal})"))),
            End::TimedOut => failed(s, &temporary((3, 0), "qmail-queue took too long".into())),
            End::Immortal => {
                error!(s, "error, process {} ({path}) cannot be killed", ran.process);
                failed(s, &temporary((3, 0), "qmail-queue took too long".into()))
            }
        }
    }
}

/// The variables that programs in the place of qmail-queue know from tcpserver.
fn tell_of(peer: &Peer, command: &mut std::process::Command) {
    command.env("TCPREMOTEIP", peer.ip.to_string());
    command.env("TCPREMOTEHOST", &peer.host);
    if let Some(ip) = peer.local_ip {
        command.env("TCPLOCALIP", ip.to_string());
    }
}

/// `F<sender> NUL`, `T<recipient> NUL` for each, `NUL`; addresses go without quotes, as qmail has it.
fn envelope(transaction: &Transaction) -> Vec<u8> {
    let mut envelope = Vec::new();
    let mut add = |letter: u8, address: &str| {
        envelope.push(letter);
        envelope.extend_from_slice(address.as_bytes());
        envelope.push(0);
    };
    add(b'F', &transaction.sender.address());
    for recipient in &transaction.recipients {
        add(b'T', &recipient.address.address());
    }
    envelope.push(0);
    envelope
}

/// Why the program did not take the message.
#[derive(Debug, PartialEq)]
struct Refusal {
    verdict: Verdict,
    status: Status,
    text: String,
}

fn permanent(status: (u16, u16), text: String) -> Refusal {
    let status = Status(5, status.0, status.1);
    Refusal {
        verdict: Verdict::Deny,
        status,
        text,
    }
}

fn temporary(status: (u16, u16), text: String) -> Refusal {
    let status = Status(4, status.0, status.1);
    Refusal {
        verdict: Verdict::DenySoft,
        status,
        text,
    }
}

/// What an exit code means, as qmail's own programs understand it; `words` are those of descriptor 6.
fn refusal(code: i32, words: &[u8]) -> Refusal {
    let (status, why) = match code {
        11 | 115 => ((1, 3), "envelope address too long"),
        31 => ((3, 0), "mail server permanently rejected the message"),
        12..=40 => ((3, 0), "permanent problem"),
        51 => ((3, 0), "out of memory"),
        52 => ((3, 0), "timeout"),
        53 => ((3, 0), "write error or disk full"),
        54 => ((3, 0), "message or envelope not read"),
        55 => ((3, 0), "configuration not read"),
        56 => ((3, 0), "trouble making a network connection"),
        61 => ((3, 0), "trouble in the home directory"),
        62 => ((3, 0), "trouble in the queue directory"),
        63..=66 => ((3, 0), "trouble creating files in the queue"),
        71 => ((3, 0), "mail server temporarily rejected the message"),
        72 => ((4, 1), "connection to the mail server timed out"),
        73 => ((4, 1), "connection to the mail server rejected"),
        74 => ((4, 2), "communication with the mail server failed"),
        81 | 91 => ((3, 0), "internal bug"),
        82 => return in_their_words(words),
        _ => ((3, 0), "temporary problem"),
    };
    let text = format!("Unable to queue message ({code}): {why}");
    match code {
        11..=40 | 115 => permanent(status, text),
        _ => temporary(status, text),
    }
}

/// Exit code 82: `D` or `Z` for permanent or temporary, then the text, perhaps with `(#5.7.1)` at its end.
fn in_their_words(words: &[u8]) -> Refusal {
    let words = String::from_utf8_lossy(words);
    let rest = words.get(1..).unwrap_or_default().trim();
    let tail = rest
        .rsplit_once("(#")
        .and_then(|(text, tail)| Some((text.trim_end(), tail.strip_suffix(')')?)));
    let tail = tail.and_then(|(text, status)| Some((text, status.parse::<Status>().ok()?)));
    let (text, Status(_, subject, detail)) = tail.unwrap_or((rest, Status(4, 3, 0)));
    match words.chars().next() {
        Some('D') if !text.is_empty() => permanent((subject, detail), text.to_owned()),
        Some('Z') if !text.is_empty() => temporary((subject, detail), text.to_owned()),
        _ => temporary((3, 0), "Unable to queue message (82): temporary problem".into()),
    }
}

fn failed(s: &Session, refusal: &Refusal) -> Answer {
    info!(s, "fail, {}", refusal.text);
    answer_with(refusal.verdict, refusal.status, refusal.text.clone())
}

#[cfg(test)]
mod tests;
