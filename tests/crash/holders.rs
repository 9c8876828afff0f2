//! More clients that hold workers: in parts of messages, logins, LMTP, TLS, behind proxies, half closed, and by floods.
//!
//! As in `slow` they take all places there are, workers or threads of one. Each is sent away by the limit that is named
//! for it; while they wait the daemon is at rest; and the next client is served.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Client, Daemon, Site};
use crate::process::PATIENCE;
use crate::slow::{MESSAGE, PACE, Slow, next_is_served};
use crate::threads;

/// How the places for sessions are made: by processes, or by threads of one.
const WAYS: [&str; 2] = ["--children", "--sessions"];

/// A daemon with so many places, for SMTP at its first address and LMTP at its second, with TLS and logins.
fn daemon(way: &str, places: usize, config: &[(&str, &str)]) -> Daemon {
    let site = Site::new();
    let plugins = "tls\nauth/auth_flat_file\nrcpt_ok\nqueue/maildir ./Maildir\n";
    site.config("plugins", plugins)
        .config("flat_auth_pw", "joe@example.com:secret\n");
    for (name, value) in config {
        site.config(name, &format!("{value}\n"));
    }
    let made = site
        .program("qpsmtpctl")
        .args(["cert", "--CN", "mx.example.com"])
        .output()
        .expect("qpsmtpctl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let places = places.to_string();
    let mut options = vec!["--listen-address", "127.0.0.1:0"];
    options.extend(["--listen-address", "lmtp://127.0.0.1:0", "--max-from-ip", "0"]);
    options.extend([way, &places]);
    if way == "--sessions" {
        options.extend(["--children", "1"]);
    }
    Daemon::serve(site, &options)
}

/// Time that all processes of the daemon have had of the processor, in ticks of the clock.
fn ticks(daemon: &Daemon) -> u64 {
    let all = daemon.workers().into_iter().chain([daemon.pid()]);
    all.map(threads::ticks).sum()
}

/// Waits for the end of the connection, and listens; what was heard.
fn wait(slow: Slow) -> String {
    slow.trickle(&[b""])
}

/// A client that has agreed on TLS, and has been greeted anew.
fn encrypted(daemon: &Daemon) -> StreamOwned<ClientConnection, TcpStream> {
    let slow = Slow::after(daemon, &["EHLO x.example.net", "STARTTLS"]);
    slow.stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(daemon.site.path().join("config/ssl/qpsmtpd-ca.crt")).expect("the CA");
    roots.add(ca).expect("a root");
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("mx.example.com").expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("TLS");
    let mut stream = StreamOwned::new(tls, slow.stream);
    stream.write_all(b"EHLO x.example.net\r\n").expect("send");
    let mut heard = Vec::new();
    while !heard.ends_with(b"REQUIRETLS\r\n") && !heard.windows(9).any(|words| words == b"250 AUTH ") {
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).expect("a reply");
        assert!(count > 0, "closed: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&chunk[..count]);
    }
    stream.sock.set_read_timeout(Some(PACE)).expect("time-out");
    stream
}

/// Sends what `next` makes, a byte after the other, until the server has had enough.
fn drip(mut stream: StreamOwned<ClientConnection, TcpStream>, mut next: impl FnMut(&mut ClientConnection)) {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "still served");
        if bytes.is_empty() {
            next(&mut stream.conn);
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut bytes).expect("room");
            }
        }
        let first: Vec<u8> = bytes.drain(..1.min(bytes.len())).collect();
        if stream.sock.write_all(&first).is_err() {
            return;
        }
        match stream.sock.read(&mut [0; 4096]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[test]
fn who_waits_in_the_middle_is_sent_away() {
    for way in WAYS {
        // 2 s, so that one who spins shows
        let daemon = daemon(way, 10, &[("timeoutsmtpd", "2"), ("timeout", "2")]);
        let slow = |lines: &[&str]| Slow::after(&daemon, lines);
        let lmtp = |lines: &[&str]| Slow::at(daemon.addresses[1], lines);
        let [hello, mail, rcpt, data] = MESSAGE;
        std::thread::scope(|scope| {
            let mut part = slow(&[hello, mail, rcpt]);
            part.stream.write_all(b"BDAT 1000\r\nSubject: x\r\n").expect("send");
            let between = slow(&[hello, mail, rcpt, "BDAT 0"]);
            let login = slow(&[hello, "AUTH LOGIN"]);
            let name = slow(&[hello, "AUTH LOGIN", "am9lQGV4YW1wbGUuY29t"]);
            let local = lmtp(&["LHLO x.example.net", mail, rcpt, data]);
            // never looks at the 354
            let mut blind = slow(&[hello]);
            let words = [mail, rcpt, data, ""].join("\r\n");
            blind.stream.write_all(words.as_bytes()).expect("send");
            let key = encrypted(&daemon);
            let record = encrypted(&daemon);
            let half = slow(&[hello]);
            let half_message = slow(&MESSAGE);
            let before = ticks(&daemon);
            for (what, one) in [
                ("a part", part),
                ("between parts", between),
                ("a login", login),
                ("a password", name),
                ("LMTP", local),
            ] {
                scope.spawn(move || {
                    let heard = wait(one);
                    assert!(heard.contains("\r\n421 "), "{what}: {heard:?}");
                });
            }
            // a record that is never whole
            scope.spawn(move || {
                let mut once = true;
                drip(record, |tls| {
                    if std::mem::take(&mut once) {
                        tls.writer().write_all(&[b'N'; 4000]).expect("room");
                    }
                });
            });
            // new keys for nothing
            scope.spawn(move || drip(key, |tls| tls.refresh_traffic_keys().expect("TLS 1.3")));
            for half in [half, half_message] {
                half.stream.shutdown(Shutdown::Write).expect("shutdown");
                scope.spawn(move || drop(wait(half)));
            }
            next_is_served(&daemon);
            let spent = ticks(&daemon).saturating_sub(before);
            assert!(spent < 60, "{way}: {spent} ticks for waiting");
            // nobody reads what it is told
            drop(blind);
        });
        (0..10).for_each(|_| next_is_served(&daemon));
        assert_eq!(daemon.site.messages().len(), 11, "{way}");
    }
}

#[test]
fn who_goes_on_for_ever_in_other_ways_is_sent_away() {
    for way in WAYS {
        let limits = [
            ("max_session_time", "2"),
            ("max_idle_commands", "0"),
            ("max_errors", "0"),
        ];
        let daemon = daemon(way, 8, &limits);
        let slow = |lines: &[&str]| Slow::after(&daemon, lines);
        let [hello, mail, rcpt, _] = MESSAGE;
        std::thread::scope(|scope| {
            let parts = slow(&[hello, mail, rcpt]);
            let part = slow(&[hello, mail, rcpt]);
            let login = slow(&[hello]);
            let local = Slow::at(daemon.addresses[1], &["LHLO x.example.net"]);
            let header = slow(&MESSAGE);
            let flood = slow(&MESSAGE);
            let rset = slow(&[hello]);
            let half = slow(&[hello]);
            half.stream.shutdown(Shutdown::Read).expect("shutdown");
            type Pieces = &'static [&'static [u8]];
            const ONE: Pieces = &[b"BDAT 1\r\nA"];
            for (what, one, pieces) in [
                ("small parts", parts, ONE),
                ("a slow part", part, &[b"BDAT 9999\r\n", b"A", b":", b"x"]),
                ("logins", login, &[b"AUTH LOGIN\r\n", b"*\r\n"]),
                ("LMTP", local, &[b"NOOP\r\n", b"RSET\r\n"]),
                ("a header", header, &[b"X: ", b"y", b"\r\n", b" z\r\n"]),
            ] {
                scope.spawn(move || {
                    let heard = one.trickle(pieces);
                    assert!(heard.contains("\r\n421 "), "{what}: {heard:?}");
                });
            }
            // at full speed
            scope.spawn(move || flood.deaf(&b"X: y\r\n".repeat(1000)));
            scope.spawn(move || rset.deaf(&b"RSET\r\nNOOP\r\n".repeat(1000)));
            // its end is shut, and it speaks on
            scope.spawn(move || half.deaf(b"NOOP\r\n"));
            next_is_served(&daemon);
        });
        (0..8).for_each(|_| next_is_served(&daemon));
        assert_eq!(daemon.site.messages().len(), 9, "{way}");
    }
}

#[test]
fn floods_of_commands_are_bounded() {
    let daemon = daemon("--children", 4, &[]);
    let [hello, mail, rcpt, _] = MESSAGE;
    let floods: [(&[&str], &[u8]); 4] = [
        (&[], b"NOOP\r\n"),
        (&[hello], b"RSET\r\n"),
        (&[], b"EHLO x.example.net\r\n"),
        (&[hello, mail, rcpt], b"BDAT 0\r\n"),
    ];
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (lines, command) in floods {
            let slow = Slow::after(&daemon, lines);
            scope.spawn(move || slow.deaf(&command.repeat(500)));
        }
    });
    next_is_served(&daemon);
    let told = daemon.lines();
    let told = told.iter().filter(|line| line.contains("limit max_idle_commands 100"));
    assert_eq!(told.count(), 4, "{:?}", began.elapsed());
}

#[test]
fn a_proxy_that_tells_its_header_slowly_is_sent_away() {
    for way in WAYS {
        let daemon = daemon(way, 4, &[("proxy_networks", "127.0.0.1"), ("proxy_timeout", "1")]);
        let connect = || {
            let stream = TcpStream::connect(daemon.addresses[0]).expect("connect");
            stream.set_read_timeout(Some(PACE)).expect("time-out");
            stream.set_write_timeout(Some(PACE)).expect("time-out");
            let heard = String::new();
            Slow { stream, heard }
        };
        let pieces: [&[&[u8]]; 4] = [
            &[b""],
            &[b"P", b"R", b"O", b"X", b"Y", b" "],
            &[b"\r\n\r\n\0\r\nQUIT\n\x21", b"\x11", b"\0"],
            &[b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25"],
        ];
        std::thread::scope(|scope| {
            for pieces in pieces {
                let slow = connect();
                scope.spawn(move || assert_eq!(slow.trickle(pieces), "", "no word to a proxy"));
            }
            behind_a_proxy(daemon.addresses[0]);
        });
        (0..4).for_each(|_| behind_a_proxy(daemon.addresses[0]));
        assert_eq!(daemon.site.messages().len(), 5, "{way}");
    }
}

/// A client of a proxy that knows how it is done.
fn behind_a_proxy(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1025 25\r\n");
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.message("by a proxy"), 250);
    client.expect(221, "QUIT");
}
