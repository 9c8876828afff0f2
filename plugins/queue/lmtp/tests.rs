//! Tests of the plugin queue/lmtp against servers in threads.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::super::client::fake::{Act, Hang, Last, STEPS, Say, Seen, Trickle, serve_many};
use super::super::client::memory::{GO, Memory};
use super::*;

mod slips;

/// A server with a script for each connection.
fn server(scripts: &[&[(&'static str, Act)]]) -> (u16, std::thread::JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), serve_many(listener, scripts))
}

fn kit(port: u16, arguments: &str) -> Kit {
    let keep = if arguments.contains("keep") { "" } else { "keep 0" };
    let mut t = Kit::load(&DECLARATION, &format!("127.0.0.1:{port} {keep} {arguments}"));
    t.config("me", &["me.example"]);
    t.mail("joe@sender.example").declined();
    t.accept("a@x.example");
    t.accept("b@x.example");
    t.message("Subject: x\n\n.dot\nlast\n");
    t
}

/// What comes of a message, with the server's conversations and the log.
fn deliver(scripts: &[&[(&'static str, Act)]], arguments: &str) -> (Outcome, Vec<Seen>, Vec<String>) {
    let (port, server) = server(scripts);
    let mut t = kit(port, arguments);
    let outcome = t.ask(Event::Queue);
    (outcome, server.join().unwrap(), t.logged())
}

/// The same with a server of SMTP for the reports.
fn with_reports(script: &[(&'static str, Act)], reports: &[(&'static str, Act)]) -> (Outcome, Seen, Seen) {
    let (port, smtp) = server(&[reports]);
    let (outcome, mut seen, _) = deliver(&[script], &format!("bounces 127.0.0.1:{port}"));
    // nobody may have called
    drop(std::net::TcpStream::connect(("127.0.0.1", port)));
    (outcome, seen.remove(0), smtp.join().unwrap().remove(0))
}

#[test]
fn everybody_has_it() {
    let (outcome, seen, _) = deliver(&[&[]], "");
    assert_eq!(outcome.ok().text, "delivered, Ok: queued as ABC");
    assert_eq!(
        seen[0].commands,
        [
            "LHLO me.example",
            "MAIL FROM:<joe@sender.example> SIZE=22",
            "RCPT TO:<a@x.example>",
            "RCPT TO:<b@x.example>",
            "DATA",
            "QUIT"
        ]
    );
    assert_eq!(seen[0].message.as_deref(), Some("Subject: x\r\n\r\n..dot\r\nlast\r\n"));
}

#[test]
fn unix_sockets() {
    use std::io::{BufRead, BufReader, Write};
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("lmtp");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        stream.get_mut().write_all(b"220 x\r\n").unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 0 {
            let reply: &[u8] = match line.trim_end() {
                "DATA" => b"354 go\r\n",
                "." => b"250 one\r\n250 two\r\n",
                text if text
                    .split(' ')
                    .next()
                    .is_some_and(|verb| ["LHLO", "MAIL", "RCPT"].contains(&verb)) =>
                {
                    b"250 ok\r\n"
                }
                _ => b"",
            };
            stream.get_mut().write_all(reply).unwrap();
            line.clear();
        }
    });
    let mut t = kit(1, "");
    let mut own = Kit::load(&DECLARATION, &format!("{} tls required keep 0", path.display()));
    own.s.transaction = t.s.transaction.take();
    assert_eq!(own.ask(Event::Queue).ok().text, "delivered, two");
    server.join().unwrap();
}

#[test]
fn refusals_before_the_message() {
    for (script, verdict, text) in [
        (&[("MAIL", Say("550 5.1.8 no\r\n"))][..], Verdict::Deny, "no"),
        (&[("RCPT", Say("550 5.1.1 who?\r\n"))], Verdict::Deny, "who?"),
        (&[("RCPT2", Say("450 4.2.1 later\r\n"))], Verdict::DenySoft, "later"),
        (
            &[("RCPT", Say("550 no\r\n")), ("RCPT2", Say("450 later\r\n"))],
            Verdict::DenySoft,
            "later",
        ),
        (&[("DATA", Say("552 5.3.4 too big\r\n"))], Verdict::Deny, "too big"),
    ] {
        let (outcome, seen, _) = deliver(&[script], "");
        assert_eq!(outcome.is(verdict).text, text);
        assert!(seen[0].message.is_none(), "{script:?}");
    }
    // what is neither yes nor no makes no sense of the others
    let (outcome, seen, _) = deliver(&[&[("RCPT", Say("354 what\r\n"))]], "");
    outcome.declined();
    assert!(seen[0].message.is_none());
    // with a way to tell the sender the others get it, unless all can be put off
    let (outcome, seen, told) = with_reports(&[("RCPT2", Say("550 5.1.1 who?\r\n"))], &[]);
    outcome.ok();
    assert_eq!(seen.confirmed, ["<a@x.example>"]);
    assert_eq!(told.confirmed, ["<joe@sender.example>"]);
    assert!(
        told.message
            .unwrap()
            .contains("Final-Recipient: rfc822; b@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n")
    );
    let (outcome, seen, told) = with_reports(&[("RCPT2", Say("450 later\r\n"))], &[]);
    assert_eq!(outcome.verdict, Verdict::DenySoft);
    assert!(seen.message.is_none() && told.commands.is_empty());
    let (outcome, ..) = with_reports(&[("RCPT", Say("550 no\r\n")), ("RCPT2", Say("551 no\r\n"))], &[]);
    assert_eq!(outcome.verdict, Verdict::Deny);
}

#[test]
fn nobody_has_it() {
    for (first, second, verdict) in [
        (Say("552 5.2.2 full\r\n"), Say("552 5.2.2 full\r\n"), Verdict::Deny),
        (Say("552 5.2.2 full\r\n"), Say("452 4.2.2 full\r\n"), Verdict::DenySoft),
        (Say("452 4.2.2 full\r\n"), Say("552 5.2.2 full\r\n"), Verdict::DenySoft),
        (Say("552 5.2.2 full\r\n"), Last(""), Verdict::DenySoft),
        (Say("552 5.2.2 full\r\n"), Say("354 what\r\n"), Verdict::DenySoft),
    ] {
        let (outcome, seen, told) = with_reports(&[("dot", first), ("dot2", second)], &[]);
        assert_eq!(outcome.verdict, verdict, "{first:?} {second:?}");
        assert!(seen.confirmed.is_empty() && told.commands.is_empty());
    }
}

#[test]
fn some_have_it_and_the_sender_is_told_of_the_others() {
    for (second, status, part) in [
        (
            Say("552 5.2.2 <b@x.example> full\r\n"),
            "5.2.2",
            "smtp; 552 5.2.2 <b@x.example> full\r\n",
        ),
        (Say("452 4.2.2 full\r\n"), "4.2.2", "smtp; 452 4.2.2 full\r\n"),
        (Last(""), "4.4.2", "not confirmed: connection closed"),
    ] {
        let (outcome, seen, told) = with_reports(&[("dot2", second)], &[]);
        outcome.ok().says("delivered");
        assert_eq!(seen.confirmed, ["<a@x.example>"]);
        assert_eq!(
            told.commands[1..4],
            ["MAIL FROM:<> BODY=8BITMIME", "RCPT TO:<joe@sender.example>", "DATA"]
        );
        let report = told.message.unwrap();
        assert!(report.contains(&format!(
            "Final-Recipient: rfc822; b@x.example\r\nAction: failed\r\nStatus: {status}\r\n"
        )));
        assert!(report.contains(part), "{report}");
        assert!(!report.contains("a@x.example"), "{report}");
    }
}

#[test]
fn reports_through_the_same_server() {
    // the first connection delivers, the second one carries the report
    let (outcome, seen, _) = deliver(&[&[("dot2", Say("552 5.2.2 full\r\n"))], &[]], "");
    outcome.ok();
    assert_eq!(
        seen[1].commands[1..3],
        ["MAIL FROM:<> BODY=8BITMIME", "RCPT TO:<joe@sender.example>"]
    );
    assert_eq!(seen[1].confirmed, ["<joe@sender.example>"]);
    // it does not know the sender: the client hears who has not got it, and is not asked to try again
    for act in [
        ("RCPT", Say("550 5.1.1 who?\r\n")),
        ("dot", Last("")),
        ("greeting", Last("")),
        ("dot", Say("451 later\r\n")),
    ] {
        let (outcome, seen, log) = deliver(&[&[("dot2", Say("452 4.2.2 full\r\n"))], &[act]], "final_timeout 5");
        assert_eq!(outcome.code, Some(554));
        outcome.denied("delivered, but not to <b@x.example>");
        assert!(seen[1].confirmed.is_empty());
        assert!(
            log.iter()
                .any(|line| line.contains("no report to <joe@sender.example>")),
            "{log:?}"
        );
    }
}

#[test]
fn nobody_is_told_who_does_not_want_to_be() {
    let half: &[(&str, Act)] = &[("dot2", Say("552 5.2.2 full\r\n"))];
    for (notify, tell) in [
        (Notify::default(), false),
        (
            Notify {
                success: true,
                ..Notify::default()
            },
            false,
        ),
        (
            Notify {
                failure: true,
                ..Notify::default()
            },
            true,
        ),
    ] {
        let scripts: &[&[(&str, Act)]] = if tell { &[half, &[]] } else { &[half] };
        let (port, server) = server(scripts);
        let mut t = kit(port, "");
        t.s.transaction.as_mut().unwrap().recipients[1].options.notify = Some(notify);
        t.ask(Event::Queue).ok();
        assert!(
            t.logged()
                .iter()
                .any(|line| line.contains("fail, <b@x.example>: 552 5.2.2 full"))
        );
        let seen = server.join().unwrap();
        assert_eq!(
            seen.last()
                .unwrap()
                .commands
                .iter()
                .any(|line| line.contains("FROM:<>")),
            tell
        );
    }
}

/// A report that does not arrive makes no report: who brings it hears of it, and brings it again if that may help.
#[test]
fn the_null_sender_is_not_told() {
    let (later, never) = (Say("452 4.2.2 full\r\n"), Say("552 5.2.2 full\r\n"));
    for (second, third, code, names) in [
        (later, Say(""), None, "<b@x.example>"),
        (never, later, None, "<b@x.example>, <c@x.example>"),
        (Say("junk\r\n"), Say(""), None, "<b@x.example>, <c@x.example>"),
        (Say(""), Last(""), None, "<c@x.example>"),
        (never, Say(""), Some(554), "<b@x.example>"),
        (never, never, Some(554), "<b@x.example>, <c@x.example>"),
    ] {
        // nobody answers at the server for reports
        let (port, server) = server(&[&[("dot2", second), ("dot3", third)]]);
        let mut t = kit(port, "bounces 127.0.0.1:1");
        t.accept("c@x.example");
        t.s.transaction.as_mut().unwrap().sender = Address::null();
        let outcome = t.ask(Event::Queue);
        let verdict = if code.is_some() {
            Verdict::Deny
        } else {
            Verdict::DenySoft
        };
        assert_eq!((outcome.verdict, outcome.code), (verdict, code), "{second:?} {third:?}");
        assert_eq!(outcome.text, format!("delivered, but not to {names}"));
        let words = format!("nobody is told that a report has not reached {names}");
        let log = t.logged();
        assert!(log.iter().any(|line| line.contains(&words)), "{log:?}");
        assert_eq!(t.dial().dialled().len(), 1);
        assert_eq!(server.join().unwrap()[0].confirmed[0], "<a@x.example>");
    }
    // a client of LMTP hears of each anyway
    let (port, server) = server(&[&[("dot2", later)]]);
    let mut t = kit(port, "");
    t.s.lmtp = true;
    t.s.transaction.as_mut().unwrap().sender = Address::null();
    t.ask(Event::Queue).ok();
    let each: Vec<Verdict> =
        t.s.transaction
            .as_ref()
            .unwrap()
            .outcomes
            .values()
            .map(|one| one.verdict)
            .collect();
    assert_eq!(each, [Verdict::Ok, Verdict::DenySoft]);
    server.join().unwrap();
}

#[test]
fn how_much_comes_back_and_who_hears_of_success() {
    let (port, server) = server(&[&[("dot2", Say("552 5.2.2 full\r\n"))], &[]]);
    let mut t = kit(port, "");
    let transaction = t.s.transaction.as_mut().unwrap();
    transaction.options.ret = Some(Ret::Full);
    transaction.options.envid = Some("mine".into());
    transaction.recipients[0].options.notify = Some(Notify {
        success: true,
        ..Notify::default()
    });
    t.ask(Event::Queue).ok();
    let report = server.join().unwrap().remove(1).message.unwrap();
    for part in [
        "Original-Envelope-Id: mine\r\n",
        "Final-Recipient: rfc822; a@x.example\r\nAction: delivered\r\nStatus: 2.0.0\r\n",
        "Final-Recipient: rfc822; b@x.example\r\nAction: failed\r\nStatus: 5.2.2\r\n",
        "Content-Type: message/rfc822\r\n",
        "Subject: x\r\n\r\n..dot\r\nlast\r\n",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    // a server that tells by itself is asked to
    let (port, server) = self::server(&[&[("EHLO", Say("250-x\r\n250 DSN\r\n"))]]);
    let mut t = kit(port, "");
    let transaction = t.s.transaction.as_mut().unwrap();
    transaction.recipients[0].options.notify = Some(Notify {
        success: true,
        ..Notify::default()
    });
    t.ask(Event::Queue).ok();
    assert!(
        server.join().unwrap()[0]
            .commands
            .contains(&"RCPT TO:<a@x.example> NOTIFY=SUCCESS".to_owned())
    );
}

/// The client waits for 600 seconds, whatever the server of the mailboxes and that of the reports do together.
#[test]
fn all_of_it_ends_in_time() {
    let whole = Duration::from_secs(540);
    let first = [&GO[..], &["250 a\r\n", "552 5.2.2 full\r\n"]].concat();
    let report = [
        "220 x\r\n",
        "250 x\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "250 ok\r\n",
    ];
    let memory = Memory::new(&[&first, &report]);
    let mut t = kit(1, "timeout 3000 final_timeout 3000 bounces 127.0.0.1:2");
    t.dial().leave_to(memory.clone());
    let begun = Instant::now();
    t.ask(Event::Queue).ok();
    let mut ends = memory.deadlines();
    assert!(memory.told()[1].contains("b@x.example") && ends.len() > 20);
    ends.dedup();
    assert!(ends.len() == 1 && ends[0] >= begun + whole && ends[0] <= Instant::now() + whole);
}

/// Whatever happens, the client hears 250 only if each recipient has the message.
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
    let steps = STEPS.iter().copied().chain(["dot2"]);
    let cases = steps.flat_map(|step| ACTS.map(|act| (step, act)));
    let run = |(step, act): (&'static str, Act)| {
        std::thread::spawn(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            // those of a report that may follow find nobody
            let server = serve_many(listener, &[&[(step, act)]]);
            let outcome = kit(port, "timeout 1 final_timeout 1").ask(Event::Queue);
            let seen = server.join().unwrap().remove(0);
            let case = format!("{step} {act:?}: {outcome:?} {seen:?}");
            let yes = outcome.verdict == Verdict::Ok;
            assert!(!yes || seen.confirmed == ["<a@x.example>", "<b@x.example>"], "{case}");
            // what is known to be with somebody is not asked for again
            let soft = outcome.verdict == Verdict::Declined || outcome.verdict.is_soft();
            assert!(
                !soft || seen.taken == 0 || ["middle", "dot", "dot2"].contains(&step),
                "{case}"
            );
            let named = outcome.text.contains("but not to <b@x.example>") && !outcome.text.contains("<a@");
            assert!(yes || soft || named && seen.confirmed == ["<a@x.example>"], "{case}");
        })
    };
    let threads: Vec<_> = cases.map(run).collect();
    assert_eq!(threads.len(), (STEPS.len() + 1) * ACTS.len());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A client of LMTP hears what the server has said of each, and nobody is told in a report.
#[test]
fn clients_of_lmtp_hear_of_each() {
    let run = |script: &[(&'static str, Act)]| {
        let (port, server) = server(&[script]);
        let mut t = kit(port, "");
        t.s.lmtp = true;
        let outcome = t.ask(Event::Queue);
        let outcomes = &t.s.transaction.as_ref().unwrap().outcomes;
        let each: Vec<(Verdict, String)> = outcomes
            .values()
            .map(|one| (one.verdict, one.text.to_string()))
            .collect();
        (outcome, each, server.join().unwrap().remove(0))
    };
    let queued = (Verdict::Ok, "Ok: queued as ABC".to_owned());
    let (outcome, each, _) = run(&[("RCPT", Say("450 4.2.1 later\r\n"))]);
    outcome.ok();
    assert_eq!(each, [(Verdict::DenySoft, "later".to_owned()), queued.clone()]);
    let (_, each, _) = run(&[("dot2", Say("552 5.2.2 full\r\n"))]);
    assert_eq!(each, [queued.clone(), (Verdict::Deny, "full".to_owned())]);
    let (_, each, _) = run(&[("dot2", Last(""))]);
    assert_eq!((&each[0], each[1].0), (&queued, Verdict::DenySoft));
    let (_, each, seen) = run(&[("RCPT", Say("550 no\r\n")), ("RCPT2", Say("451 no\r\n"))]);
    assert_eq!(
        each.iter().map(|one| one.0).collect::<Vec<_>>(),
        [Verdict::Deny, Verdict::DenySoft]
    );
    assert!(seen.message.is_none());
    let (outcome, each, _) = run(&[("DATA", Say("451 later\r\n"))]);
    assert_eq!((outcome.verdict, each.len()), (Verdict::DenySoft, 0));
}

#[test]
fn connections_are_kept() {
    let (port, server) = server(&[&[]]);
    let mut t = kit(port, "keep 3600");
    t.ask(Event::Queue).ok();
    t.ask(Event::Queue).ok();
    drop(t);
    assert_eq!(server.join().unwrap()[0].taken, 4);
}

#[test]
fn a_server_that_speaks_smtp_alone() {
    let (outcome, seen, _) = deliver(&[&[("EHLO", Say("502 what?\r\n"))]], "");
    outcome.declined();
    assert_eq!(seen[0].commands, ["LHLO me.example"]);
}

#[test]
fn arguments() {
    for (arguments, part) in [
        ("", "'server' is missing"),
        ("unix:x", "is neither a host"),
        ("/run/lmtp bounces a:b", "is neither a host"),
        ("h tls fingerprint", "belong together"),
    ] {
        let faults = Kit::faults(&DECLARATION, arguments);
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{arguments}: {faults:?}"
        );
    }
    for good in [
        "/run/dovecot/lmtp",
        "unix:/run/lmtp",
        "localhost:24",
        "::1",
        "h 2003 bounces mail.example",
    ] {
        assert!(Kit::faults(&DECLARATION, good).is_empty(), "{good}");
    }
}
