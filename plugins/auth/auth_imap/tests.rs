//! An IMAP server that is played line by line, and what the client makes of it.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;

use super::*;

/// Plays a server: lines that begin with `>` are said, others must be heard.
fn play(t: &Kit, script: &'static str) {
    t.dial().at("imap.example.com:143", move |stream| {
        let mut stream = BufReader::new(stream);
        for line in script.lines() {
            if let Some(say) = line.strip_prefix('>') {
                let _ = stream.get_mut().write_all(format!("{say}\r\n").as_bytes());
                continue;
            }
            let mut heard = String::new();
            let _ = stream.read_line(&mut heard);
            if heard != format!("{line}\r\n") {
                let _ = stream
                    .get_mut()
                    .write_all(format!("* BYE heard {heard:?}\r\n").as_bytes());
                break;
            }
        }
        // who closes with something unread takes back what was said
        let _ = stream.get_mut().shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
}

fn kit(arguments: &str, script: &'static str) -> Kit {
    let t = Kit::load(&DECLARATION, &format!("imap.example.com {arguments}"));
    play(&t, script);
    t
}

const HELLO: &str = ">* OK ready\na1 CAPABILITY\n>* CAPABILITY IMAP4rev1\n>a1 OK done\n";

fn joe() -> Credentials {
    Credentials::password("plain", "joe@example.com", "se\"cret")
}

macro_rules! hello {
    ($rest:literal) => {
        concat!(
            ">* OK ready\na1 CAPABILITY\n>* CAPABILITY IMAP4rev1\n>a1 OK done\n",
            $rest
        )
    };
}

#[test]
fn the_server_decides() {
    assert_eq!(HELLO, hello!(""));
    let ask = |script| kit("", script).auth(&joe()).verdict;
    let login = |script: &'static str| ask(script);
    assert_eq!(
        login(hello!(
            "a2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>* CAPABILITY X\n>a2 OK hello\nz LOGOUT"
        )),
        Verdict::Ok
    );
    assert_eq!(
        login(hello!(
            "a2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>a2 NO [AUTHENTICATIONFAILED] no"
        )),
        Verdict::Deny
    );
    assert_eq!(
        login(hello!("a2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>a2 no")),
        Verdict::Deny
    );
}

#[test]
fn what_is_no_text_goes_as_a_literal() {
    let script = hello!("a2 LOGIN \"joe\" {9}\n>+ go on\ngehe\u{e4}\u{e4}m\n>a2 OK hello");
    let mut t = kit("", script);
    t.auth(&Credentials::password("plain", "joe", "gehe\u{e4}\u{e4}m")).ok();
    // a line end in a password is a part of it, and no new command
    let script = hello!("a2 LOGIN \"joe\" {12}\n>+ go on\nx\na3 LOGOUT\n>a2 NO wrong");
    let mut t = kit("", script);
    t.auth(&Credentials::password("plain", "joe", "x\r\na3 LOGOUT"))
        .denied("wrong password");
    let mut t = kit("", HELLO);
    t.auth(&Credentials::password("plain", "joe\0", "x")).denied("NUL");
}

#[test]
fn failures_are_no_wrong_passwords() {
    for (script, why) in [
        (">* BYE full", "greets with * BYE full"),
        (">220 smtp.example.com", "greets with 220"),
        (">* OK ready", "connection closed"),
        (
            ">* OK ready\na1 CAPABILITY\n>* CAPABILITY IMAP4rev1 LOGINDISABLED\n>a1 OK done",
            "LOGINDISABLED",
        ),
        (">* OK ready\na1 CAPABILITY\n>a1 NO never", "refuses CAPABILITY"),
        (">* OK ready\na1 CAPABILITY\n>a1 BAD what", "no answer of IMAP"),
        (
            hello!("a2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>a2 NO [UNAVAILABLE] later"),
            "[UNAVAILABLE] later",
        ),
        (
            hello!("a2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>* BYE I die"),
            "goodbye: I die",
        ),
        (
            hello!("a2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>a7 OK you"),
            "no answer of IMAP",
        ),
    ] {
        let mut t = kit("", script);
        t.auth(&joe()).declined();
        let logged = t.logged().join("\n");
        assert!(
            logged.contains("error, IMAP server imap.example.com:143: ") && logged.contains(why),
            "{logged}"
        );
        assert!(!logged.contains("cret"));
    }
}

#[test]
fn nothing_is_said_in_clear_where_tls_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").expect("written");
    let arguments = format!("tls starttls ca {}", ca.display());
    let script = ">* OK ready\na1 STARTTLS\n>a1 OK go on\na2 LOGIN \"joe@example.com\" \"se\\\"cret\"\n>a2 OK hello";
    let mut t = kit(&arguments, script);
    t.dial().encrypts(|how| match how.name.as_str() {
        "imap.example.com" => Ok(()),
        other => Err(format!("not {other}")),
    });
    t.auth(&joe()).ok();
    let mut t = kit(&arguments, script);
    t.auth(&joe()).declined();
    assert!(t.logged().join("\n").contains("TLS: there is none"));
    let mut t = kit(&arguments, ">* OK ready\na1 STARTTLS\n>a1 NO not here");
    t.auth(&joe()).declined();
    assert!(t.logged().join("\n").contains("refuses STARTTLS: not here"));
    let faults = Kit::faults(&DECLARATION, "imap.example.com tls starttls ca /nonexistent").join("\n");
    assert!(faults.contains("/nonexistent"), "{faults}");
    assert!(
        Kit::faults(&DECLARATION, "imap.example.com")
            .join("\n")
            .contains("in clear")
    );
    assert_eq!(Kit::faults(&DECLARATION, "127.0.0.1 10143"), [""; 0]);
}
