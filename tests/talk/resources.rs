//! What needs a process of its own: how much memory a client can make a session take, and a disk that is full.

use std::io;
use std::process::Command;
use std::time::Instant;

use qpsmtpd::config::Lookup;
use qpsmtpd::mail::Spool;
use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::{self, Queue};
use super::player::Mode;
use super::script::Script;
use super::stage::{self, Set};

/// How much a client sends, and by how much that may enlarge the process, in bytes.
const SENT: usize = 8 << 20;
const ALLOWED: usize = 2 << 20;

/// A client that says something, then one thing over and over, then something else; it never stops to listen.
struct Flood {
    before: &'static [u8],
    again: &'static [u8],
    times: usize,
    after: &'static [u8],
    at: usize,
}

impl Flood {
    fn new(before: &'static str, again: &'static str, after: &'static str) -> Flood {
        Flood {
            before: before.as_bytes(),
            again: again.as_bytes(),
            times: SENT / again.len(),
            after: after.as_bytes(),
            at: 0,
        }
    }

    fn current(&mut self) -> &'static [u8] {
        loop {
            let part = match (self.before.is_empty(), self.times) {
                (false, _) => self.before,
                (true, 0) => self.after,
                (true, _) => self.again,
            };
            if self.at < part.len() || part.is_empty() {
                return &part[self.at..];
            }
            self.at = 0;
            match (self.before.is_empty(), self.times) {
                (false, _) => self.before = b"",
                (true, 0) => self.after = b"",
                (true, _) => self.times -= 1,
            }
        }
    }
}

impl Wire for Flood {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        let mut count = 0;
        while count < buffer.len() {
            let part = self.current();
            if part.is_empty() {
                break;
            }
            let piece = part.len().min(buffer.len() - count);
            buffer[count..count + piece].copy_from_slice(&part[..piece]);
            count += piece;
            self.at += piece;
        }
        Ok(if count == 0 { Heard::End } else { Heard::Bytes(count) })
    }

    fn write(&mut self, _: &[u8], _: Instant) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory that the process has taken so far, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of the process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let number: String = line.chars().filter(char::is_ascii_digit).collect();
    number.parse::<usize>().expect("a number") * 1024
}

fn flood(config: &[(&str, &str)], client: Flood) -> Queue {
    let lookup = Lookup::in_memory();
    lookup.set("me", &["mx.example.org"]);
    lookup.set("loglevel", &["0"]);
    for (name, value) in config {
        lookup.set(name, &[value]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let set = Set {
        spool: Spool {
            dir: folder.path().to_owned(),
            threshold: 10_000,
            perms: 0o700,
        },
        ..Set::quiet()
    };
    let queue = Queue::default();
    stage::session(lookup, vec![cast::counter(queue.clone())], Box::new(client), set);
    queue
}

/// The measurements; run by the test below in a process of its own.
#[test]
#[ignore = "is run by what_a_client_sends_does_not_pile_up"]
fn measured_alone() {
    const ENVELOPE: &str = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n";
    const HEADED: &str = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\nSubject: x\r\n\r\n";
    const BEGUN: &str = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n";
    const PART: &str = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nBDAT 8388608 LAST\r\n";
    // what every session takes once
    flood(
        &[],
        Flood {
            times: 10_000,
            ..Flood::new(HEADED, "a line\r\n", "\r\n.\r\nQUIT\r\n")
        },
    );
    let none: &[(&str, &str)] = &[];
    let cases = [
        ("commands", none, Flood::new("", "NOOP\r\n", ""), 0),
        ("one command", none, Flood::new("NOOP ", "xxxxxxxx", "\r\nQUIT\r\n"), 0),
        ("a message", none, Flood::new(HEADED, "a line\r\n", ".\r\nQUIT\r\n"), 1),
        ("one line", none, Flood::new(HEADED, "xxxxxxxx", "\r\n.\r\nQUIT\r\n"), 1),
        (
            "a line where a header should be",
            none,
            Flood::new(ENVELOPE, "xxxxxxxx", "\r\n.\r\nQUIT\r\n"),
            1,
        ),
        (
            "a header",
            none,
            Flood::new(ENVELOPE, "X: y\r\n", "\r\n.\r\nQUIT\r\n"),
            0,
        ),
        (
            "one field",
            none,
            Flood::new(ENVELOPE, "X: yyyyy", "\r\n.\r\nQUIT\r\n"),
            0,
        ),
        (
            "a message that is too big",
            &[("databytes", "100000")],
            Flood::new(HEADED, "a line\r\n", ".\r\nQUIT\r\n"),
            0,
        ),
        (
            "parts",
            none,
            Flood::new(BEGUN, "BDAT 8\r\na line\r\n", "BDAT 0 LAST\r\nQUIT\r\n"),
            1,
        ),
        ("one part", none, Flood::new(PART, "a line\r\n", "QUIT\r\n"), 1),
        (
            "a part that is too big",
            &[("databytes", "100000")],
            Flood::new(PART, "a line\r\n", "QUIT\r\n"),
            0,
        ),
        (
            "a part that is a header",
            none,
            Flood::new(PART, "X: yyy\r\n", "QUIT\r\n"),
            0,
        ),
        (
            "a part of nothing",
            none,
            Flood::new("BDAT 8388608\r\n", "a line\r\n", "QUIT\r\n"),
            0,
        ),
        (
            "recipients",
            none,
            Flood::new("EHLO x\r\nMAIL FROM:<>\r\n", "RCPT TO:<some-one@example.com>\r\n", ""),
            0,
        ),
    ];
    for (what, config, client, queued) in cases {
        let before = peak();
        let queue = flood(config, client);
        // the kernel counts the pages of a thread in lots
        let more = peak().saturating_sub(before);
        assert!(more <= ALLOWED, "{what} of {SENT} bytes: {more} bytes more");
        let count = queue.lock().map(|queue| queue.len()).unwrap_or_default();
        assert_eq!(count, queued, "{what}: messages queued");
    }
}

#[test]
fn what_a_client_sends_does_not_pile_up() {
    let me = std::env::current_exe().expect("this program");
    let output = Command::new(me)
        .args([
            "--exact",
            "talk::resources::measured_alone",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .expect("a run of this program");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && words.contains("1 passed"),
        "{words}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Played where no file may be longer than half a KiB.
#[test]
#[ignore = "is run by a_full_disk_puts_the_client_off"]
fn played_with_a_full_disk() {
    qpsmtpd::prefork::outlive_limits_of_files().expect("a signal");
    let text = "spool file\nconfig size_threshold: 100\nhello mail rcpt data\n\
                C\\ Subject: x\\r\\n\\r\\n\\{100000:x\\r\\n}.\\r\\n\nS: 452 4.3.1 mail system full, try again later\n\
                mail rcpt data message\nS: 250\nquit\nL: cannot spool message: \n\
                queued: <from@example.net> to <to@example.com>\n";
    let script = Script::parse("full-disk", text).expect("a conversation");
    for mode in Mode::ALL {
        stage::play(&script, mode).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// A limit of the length of files says the same as a disk that is full.
#[test]
fn a_full_disk_puts_the_client_off() {
    let me = std::env::current_exe().expect("this program");
    let run = r#"ulimit -f 1; exec "$0" --exact talk::resources::played_with_a_full_disk --ignored"#;
    let output = Command::new("sh").args(["-c", run]).arg(me).output().expect("a shell");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}
