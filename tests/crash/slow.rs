//! Clients that hold workers by being slow, in every way there is: what bounds them, and that the workers come back.
//!
//! Each daemon has as many workers as it has slow clients, so that whoever comes next is served only when one of them
//! has been sent away.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{Client, Daemon, Site};
use crate::process::PATIENCE;

/// How long a slow client waits from one piece to the next.
pub const PACE: Duration = Duration::from_millis(150);

/// A slow client, connected and greeted.
pub struct Slow {
    pub stream: TcpStream,
    pub heard: String,
}

impl Slow {
    /// Connects, says the lines, one reply after the other, and is slow from then on.
    pub fn after(daemon: &Daemon, lines: &[&str]) -> Slow {
        Slow::at(daemon.addresses[0], lines)
    }

    /// The same, at this address.
    pub fn at(address: SocketAddr, lines: &[&str]) -> Slow {
        let stream = TcpStream::connect(address).expect("connect");
        let mut slow = Slow {
            stream,
            heard: String::new(),
        };
        slow.stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        slow.stream.set_write_timeout(Some(PACE)).expect("time-out");
        slow.reply();
        for line in lines {
            slow.stream.write_all(format!("{line}\r\n").as_bytes()).expect("send");
            slow.reply();
        }
        let last = slow.heard.lines().last().unwrap_or_default();
        assert!(
            ["220 ", "250 ", "334 ", "354 "]
                .iter()
                .any(|code| last.starts_with(code)),
            "{last}"
        );
        slow.stream.set_read_timeout(Some(PACE)).expect("time-out");
        slow
    }

    fn reply(&mut self) {
        let mut chunk = [0; 2048];
        let from = self.heard.len();
        while !self.heard[from..].ends_with('\n') {
            let count = self.stream.read(&mut chunk).expect("a reply");
            assert!(count > 0, "closed: {}", self.heard);
            self.heard.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }

    /// Sends the pieces again and again, and listens in between, until the server has had enough; what was heard.
    pub fn trickle(mut self, pieces: &[&[u8]]) -> String {
        let deadline = Instant::now() + PATIENCE;
        for piece in pieces.iter().cycle() {
            assert!(Instant::now() < deadline, "still served: {:?}", self.heard);
            if self.stream.write_all(piece).is_err() {
                break;
            }
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => self.heard.push_str(&String::from_utf8_lossy(&chunk[..count])),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        self.heard
    }

    /// Sends as fast as it goes and never listens, until the server has had enough.
    pub fn deaf(mut self, line: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "still served");
            match self.stream.write(line) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// A daemon with so many workers, and TLS.
fn daemon(workers: usize, config: &[(&str, &str)]) -> Daemon {
    let site = Site::new();
    site.config("plugins", "tls\nrcpt_ok\nqueue/maildir ./Maildir\n");
    for (name, value) in config {
        site.config(name, &format!("{value}\n"));
    }
    let made = site.program("qpsmtpctl").arg("cert").output().expect("qpsmtpctl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let workers = workers.to_string();
    let options = ["--listen-address", "127.0.0.1:0", "--max-from-ip", "0", "--children"];
    Daemon::serve(site, &[&options[..], &[&workers]].concat())
}

pub const MESSAGE: [&str; 4] = [
    "EHLO x.example.net",
    "MAIL FROM:<a@example.net>",
    "RCPT TO:<user@example.com>",
    "DATA",
];

/// The first bytes of a TLS handshake that never ends.
const HANDSHAKE: [&[u8]; 4] = [b"\x16", b"\x03", b"\x01\x02", b"\x00"];

/// While all of these hold the workers somebody else comes, and is served.
pub fn next_is_served(daemon: &Daemon) {
    let mut next = Client::connect(daemon.addresses[0]);
    assert_eq!(next.reply().0, 220);
    assert_eq!(next.message("after the slow"), 250);
    next.expect(221, "QUIT");
}

#[test]
fn who_says_nothing_whole_is_sent_away() {
    // the deaf one says more of them than that limit bears
    let limits = [("timeoutsmtpd", "1"), ("timeout", "1"), ("max_idle_commands", "0")];
    let daemon = daemon(5, &limits);
    let slow = |lines: &[&str]| Slow::after(&daemon, lines);
    std::thread::scope(|scope| {
        let byte_by_byte = slow(&[]);
        let nothing = slow(&[]);
        let message = slow(&MESSAGE);
        let handshake = slow(&["EHLO x.example.net", "STARTTLS"]);
        let deaf = slow(&["EHLO x.example.net"]);
        scope.spawn(move || {
            let heard = byte_by_byte.trickle(&[b"N"]);
            assert!(heard.contains("\r\n421 ") || heard.contains("\r\n500 "), "{heard:?}");
        });
        scope.spawn(move || {
            let heard = nothing.trickle(&[b""]);
            assert!(heard.contains("\r\n421 "), "{heard:?}");
        });
        scope.spawn(move || {
            let heard = message.trickle(&[b""]);
            assert!(heard.contains("\r\n421 "), "{heard:?}");
        });
        scope.spawn(move || drop(handshake.trickle(&HANDSHAKE)));
        scope.spawn(move || deaf.deaf(&b"HELP\r\nEHLO x.example.net\r\n".repeat(100)));
        next_is_served(&daemon);
    });
    (0..5).for_each(|_| next_is_served(&daemon));
    assert_eq!(daemon.site.messages().len(), 6);
}

#[test]
fn who_goes_on_for_ever_is_sent_away() {
    let daemon = daemon(4, &[("max_session_time", "2")]);
    let slow = |lines: &[&str]| Slow::after(&daemon, lines);
    std::thread::scope(|scope| {
        let commands = slow(&[]);
        let message = slow(&MESSAGE);
        let bytes = slow(&MESSAGE);
        let handshake = slow(&["EHLO x.example.net", "STARTTLS"]);
        scope.spawn(move || {
            let heard = commands.trickle(&[b"NOOP\r\n"]);
            assert!(heard.contains("\r\n250 ") && heard.contains("\r\n421 "), "{heard:?}");
        });
        scope.spawn(move || {
            let heard = message.trickle(&[b"Subject: x\r\n", b"\r\n", b"Text.\r\n"]);
            assert!(heard.contains("\r\n421 "), "{heard:?}");
        });
        scope.spawn(move || {
            let heard = bytes.trickle(&[b"x"]);
            assert!(heard.contains("\r\n421 "), "{heard:?}");
        });
        scope.spawn(move || drop(handshake.trickle(&HANDSHAKE)));
        next_is_served(&daemon);
    });
    (0..4).for_each(|_| next_is_served(&daemon));
    assert_eq!(daemon.site.messages().len(), 5);
}
