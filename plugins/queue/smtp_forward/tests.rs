//! Tests of the plugin queue/smtp-forward against a server in a thread.

use std::net::{Ipv6Addr, TcpListener};

use super::*;

mod extensions;
mod ways;

use super::super::client::fake::{Act, Hang, Last, STEPS, Say, Seen, Trickle, fake, serve, serve_many};
use super::super::client::memory::{GO, Memory};

fn kit(host: &str, port: u16, arguments: &str) -> Kit {
    let keep = if arguments.contains("keep") { "" } else { "keep 0" };
    let mut t = Kit::load(&DECLARATION, &format!("{host} {port} {keep} {arguments}"));
    t.config("me", &["me.example"]);
    t.mail("joe@sender.example").declined();
    t.accept("a@x.example");
    t.accept("postmaster");
    t.message("Subject: x\n\n.dot\nlast\n");
    t
}

/// A delivery to a server with a script.
fn deliver(script: &[(&'static str, Act)], arguments: &str) -> (Outcome, Seen) {
    let (port, server) = fake(script);
    let outcome = kit("127.0.0.1", port, arguments).ask(Event::Queue);
    (outcome, server.join().unwrap())
}

#[test]
fn a_message_goes_through() {
    let (outcome, seen) = deliver(&[], "");
    assert_eq!(outcome.ok().text, "queued as ABC");
    assert_eq!(
        seen.commands,
        [
            "EHLO me.example",
            "MAIL FROM:<joe@sender.example> SIZE=22",
            "RCPT TO:<a@x.example>",
            "RCPT TO:<postmaster>",
            "DATA",
            "QUIT"
        ]
    );
    assert_eq!(seen.message.as_deref(), Some("Subject: x\r\n\r\n..dot\r\nlast\r\n"));
}

#[test]
fn large_messages_and_parameters() {
    let (port, server) = fake(&[]);
    let mut t = kit("localhost", port, "");
    let text = format!("A: b\n\n{}", ".0123456789\n".repeat(100_000));
    t.message(&text);
    let transaction = t.s.transaction.as_mut().unwrap();
    transaction.message.body.path().unwrap();
    transaction.options.body = BodyKind::EightBit;
    t.ask(Event::Queue).ok();
    let seen = server.join().unwrap();
    assert_eq!(
        seen.commands[1],
        format!("MAIL FROM:<joe@sender.example> SIZE={} BODY=8BITMIME", text.len())
    );
    assert!(seen.message.unwrap() == text.replace("\n.", "\n..").replace('\n', "\r\n"));
}

#[test]
fn helo_where_ehlo_is_unknown() {
    let (outcome, seen) = deliver(&[("EHLO", Say("502 what?\r\n"))], "");
    outcome.ok();
    assert_eq!(
        seen.commands[1..3],
        ["HELO me.example", "MAIL FROM:<joe@sender.example>"]
    );
    deliver(&[("EHLO", Say("450 later\r\n"))], "").0.declined();
    deliver(&[("EHLO", Say("502 no\r\n")), ("HELO", Say("550 no\r\n"))], "")
        .0
        .declined();
}

#[test]
fn ipv6_hosts() {
    for host in ["::1", "[::1]"] {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            eprintln!("SKIPPED: this machine has no IPv6");
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let server = serve(listener, &[]);
        kit(host, port, "").ask(Event::Queue).ok();
        server.join().unwrap();
    }
}

#[test]
fn refusals_are_passed_on() {
    for (step, said, verdict, status, text) in [
        (
            "MAIL",
            "550-5.1.8 bad\r\n550 5.1.8 sender\r\n",
            Verdict::Deny,
            "5.1.8",
            "bad\nsender",
        ),
        ("RCPT", "450 later\r\n", Verdict::DenySoft, "4.0.0", "later"),
        (
            "RCPT2",
            "550 5.1.1 no such user\r\n",
            Verdict::Deny,
            "5.1.1",
            "no such user",
        ),
        ("DATA", "554 5.5.1 no\r\n", Verdict::Deny, "5.5.1", "no"),
        ("dot", "552 5.3.4 too big\r\n", Verdict::Deny, "5.3.4", "too big"),
        ("dot", "451 4.3.0 later\r\n", Verdict::DenySoft, "4.3.0", "later"),
        (
            "dot",
            "421 4.3.2 shutting down\r\n",
            Verdict::DenySoft,
            "4.3.2",
            "shutting down",
        ),
        ("dot", "554\r\n", Verdict::Deny, "5.0.0", ""),
    ] {
        let (outcome, seen) = deliver(&[(step, Say(said))], "");
        assert_eq!(outcome.is(verdict).status(status).text, text);
        assert_eq!(seen.message.is_some(), step == "dot", "{step}: {seen:?}");
        assert!(seen.confirmed.is_empty());
    }
}

#[test]
fn a_refusal_amid_the_message_counts() {
    let large = |script: &[(&'static str, Act)]| {
        let (port, server) = fake(script);
        let mut t = kit("127.0.0.1", port, "");
        t.message(&format!("A: b\n\n{}", "0123456789\n".repeat(2_000_000)));
        let outcome = t.ask(Event::Queue);
        (outcome, server.join().unwrap())
    };
    // its words may be lost when the connection is reset
    let (outcome, _) = large(&[("middle", Last("552 5.3.4 too big\r\n"))]);
    assert!(
        matches!(outcome.verdict, Verdict::Deny | Verdict::Declined),
        "{outcome:?}"
    );
    // a yes does not, and the message does not come to its end
    let (outcome, seen) = large(&[("middle", Say("250 ok\r\n")), ("dot", Say("550 no\r\n"))]);
    outcome.declined();
    assert!(seen.message.is_none());
}

/// The same where the answer is there before the message begins, and what becomes of the connection.
#[test]
fn answers_before_the_message() {
    let good = [&GO[..], &["250 queued as 2\r\n"]].concat();
    for (go, verdict) in [
        (&["354 go\r\n250 queued as 1\r\n"][..], Verdict::Declined),
        (&["354 go\r\n", "!250 queued as 1\r\n"], Verdict::Declined),
        (&["354 go\r\n", "!25"], Verdict::Declined),
        (&["354 go\r\n552 5.3.4 too big\r\n"], Verdict::Deny),
    ] {
        let first = [&GO[..5], go, &["550 no\r\n", "550 no\r\n"]].concat();
        let memory = Memory::new(&[&first, &good]);
        let mut t = kit("127.0.0.1", 1, "keep 3600");
        t.dial().leave_to(memory.clone());
        let verdicts = [(); 2].map(|()| t.ask(Event::Queue).verdict);
        assert_eq!(verdicts, [verdict, Verdict::Ok], "{go:?}");
        // the server still waits for the message there
        let told = memory.told();
        assert!(told[0].ends_with("DATA\r\n") && told[1].starts_with("EHLO"), "{told:?}");
    }
    let mut first = GO;
    first[1] = "250-x\r\n250-CHUNKING\r\n250 BINARYMIME\r\n";
    first[5] = "!250 queued as 1\r\n";
    let memory = Memory::new(&[&first]);
    let mut t = kit("127.0.0.1", 1, "binarymime");
    t.dial().leave_to(memory.clone());
    t.s.transaction.as_mut().unwrap().options.body = BodyKind::Binary;
    t.ask(Event::Queue).declined();
    assert!(!memory.told()[0].contains("BDAT"));
}

/// Whatever happens, the client hears 250 only if the server has said so.
#[test]
fn never_a_yes_without_a_yes() {
    const ACTS: [Act; 12] = [
        Last(""),
        Last("250 o"),
        Last("250-ok\r\n"),
        Hang,
        Trickle,
        Say("250 ok\r\n250 ok\r\n"),
        Say("250-a\r\n550 b\r\n"),
        Say("garbage\r\n"),
        Say("\r\n"),
        Say("\u{0}\u{1}\u{2}\n"),
        Say("354 go\r\n"),
        Last("421 4.3.2 shutting down\r\n"),
    ];
    let cases = STEPS.iter().flat_map(|step| ACTS.map(|act| (*step, act)));
    let run = |(step, act): (&'static str, Act)| {
        std::thread::spawn(move || {
            let (outcome, seen) = deliver(&[(step, act)], "timeout 1 final_timeout 1");
            let case = format!("{step} {act:?}: {outcome:?} {seen:?}");
            let yes = outcome.verdict == Verdict::Ok;
            assert!(!yes || seen.confirmed == ["<a@x.example>", "<postmaster>"], "{case}");
            // and what the server has taken is not refused for good
            assert!(seen.confirmed.is_empty() || outcome.verdict != Verdict::Deny, "{case}");
            if step == "QUIT" {
                assert!(yes, "{case}");
            }
            if !yes {
                assert!(
                    outcome.verdict == Verdict::Declined || outcome.verdict.is_soft(),
                    "{case}"
                );
            }
        })
    };
    let threads: Vec<_> = cases.map(run).collect();
    assert_eq!(threads.len(), STEPS.len() * ACTS.len());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn long_answers_are_cut_off() {
    // in lines, and in bytes of a line; the server stays, and says yes in the end
    let lines = |count: usize| format!("{}250 ok\r\n", "250-x\r\n".repeat(count - 1)).leak();
    let bytes = |count: usize| format!("250 {}\r\n", "x".repeat(count - 4)).leak();
    let cases: [(&'static str, bool); 6] = [
        (lines(128), true),
        (lines(129), false),
        (lines(100_000), false),
        (bytes(2048), true),
        (bytes(2049), false),
        (bytes(100_000), false),
    ];
    for (text, short) in cases {
        for (step, verdict) in [("greeting", Verdict::Declined), ("dot", Verdict::DenySoft)] {
            let (outcome, _) = deliver(&[(step, Say(text))], "");
            let want = if short { Verdict::Ok } else { verdict };
            assert_eq!(outcome.verdict, want, "{step} {}", text.len());
        }
    }
}

#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut t = kit("127.0.0.1", port, "");
    t.ask(Event::Queue).declined().says("try again later");
    assert!(
        t.logged()
            .iter()
            .any(|line| line.contains(&format!("error, 127.0.0.1:{port}: ")))
    );
    kit("no..host", port, "").ask(Event::Queue).declined();
}

#[test]
fn xclient_tells_who_the_client_is() {
    let (port, server) = fake(&[]);
    let mut t = kit("127.0.0.1", port, "xclient");
    t.from("2001:db8::7");
    t.s.peer.port = 4711;
    t.s.peer.set_host("mx.sender.example");
    t.ehlo("a=b+c").declined();
    t.s.login.user = Some(("joe doe".into(), "plain".into()));
    t.ask(Event::Queue).ok();
    let seen = server.join().unwrap();
    assert_eq!(
        seen.commands[..3],
        [
            "EHLO me.example",
            "XCLIENT NAME=mx.sender.example ADDR=IPV6:2001:db8::7 PORT=4711 PROTO=ESMTP HELO=a+3Db+2Bc LOGIN=joe+20doe",
            "EHLO a=b+c",
        ]
    );
    let (port, server) = fake(&[]);
    kit("127.0.0.1", port, "xclient").ask(Event::Queue).ok();
    let unknown = "XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7 PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE]";
    assert_eq!(server.join().unwrap().commands[1..3], [unknown, "EHLO me.example"]);
}

#[test]
fn xclient_must_be_allowed() {
    let (outcome, seen) = deliver(&[("EHLO", Say("250 fake\r\n"))], "xclient");
    outcome.declined();
    assert_eq!(seen.commands.len(), 1);
    // that we may not say it is no fault of the message
    let (outcome, _) = deliver(
        &[("XCLIENT", Say("550 5.7.0 insufficient authorization\r\n"))],
        "xclient",
    );
    outcome.declined();
}

#[test]
fn long_values_make_several_commands() {
    let mut t = kit("127.0.0.1", 1, "");
    t.s.peer.set_host(&"x".repeat(250));
    t.ehlo(&"=".repeat(250)).declined();
    let commands = xclient::commands(&t.s, "NAME HELO PROTO NOSUCH");
    assert_eq!(commands.len(), 2);
    assert!(
        commands
            .iter()
            .all(|command| command.len() <= 500 && command.starts_with("XCLIENT "))
    );
    assert_eq!(xclient::hello_name(&t.s).len(), 250);
    t.s.hello.as_mut().unwrap().host = "a b".into();
    assert_eq!(xclient::hello_name(&t.s), "me.example");
}

#[test]
fn addresses_that_need_utf8() {
    for (ehlo, ok) in [("250-fake\r\n250 SMTPUTF8\r\n", true), ("250 fake\r\n", false)] {
        let (port, server) = fake(&[("EHLO", Say(ehlo))]);
        let mut t = kit("127.0.0.1", port, "");
        t.accept("r\u{e9}my@x.example");
        let outcome = t.ask(Event::Queue);
        let seen = server.join().unwrap();
        match ok {
            true => assert!(outcome.verdict == Verdict::Ok && seen.commands[1].ends_with(" SMTPUTF8")),
            false => drop(outcome.denied("internationalized").status("5.6.7")),
        }
    }
}

#[test]
fn arguments() {
    for (arguments, part) in [
        ("", "'host' is missing"),
        ("h 99999", "0 to 65535"),
        ("h 25 xclient more", "unknown argument"),
    ] {
        let faults = Kit::faults(&DECLARATION, arguments);
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{arguments}: {faults:?}"
        );
    }
    assert!(Kit::faults(&DECLARATION, "[::1] xclient timeout 5").is_empty());
}
