//! The ways to a server: TLS, logins, further hosts, connections that are kept.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;

const TLS: &str = "250-fake\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n";
const PLAIN: &str = "250-fake\r\n250 AUTH PLAIN LOGIN\r\n";

/// What comes of a message when handshakes end so, with what the server has seen in each conversation.
fn secured(
    scripts: &[&[(&'static str, Act)]],
    arguments: &str,
    judge: impl Fn(&ClientTls) -> Result<(), String> + Send + Sync + 'static,
) -> (Outcome, Vec<Seen>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = serve_many(listener, scripts);
    let mut t = kit("127.0.0.1", port, arguments);
    t.dial().encrypts(judge);
    let outcome = t.ask(Event::Queue);
    (outcome, server.join().unwrap(), t.logged())
}

fn verbs(seen: &Seen) -> Vec<&str> {
    seen.commands
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect()
}

#[test]
fn tls_where_it_is_offered() {
    let (outcome, seen, _) = secured(&[&[("EHLO", Say(TLS))]], "", |how| {
        assert_eq!((&how.trust, &*how.name), (&Trust::Anyone, "127.0.0.1"));
        Ok(())
    });
    outcome.ok();
    assert_eq!(
        verbs(&seen[0]),
        ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"]
    );
    // off is off
    let (outcome, seen, _) = secured(&[&[("EHLO", Say(TLS))]], "tls off", |_| panic!("not wanted"));
    outcome.ok();
    assert_eq!(verbs(&seen[0])[..2], ["EHLO", "MAIL"]);
}

#[test]
fn a_handshake_that_fails() {
    let script: &[(&str, Act)] = &[("EHLO", Say(TLS))];
    // opportunistic: in clear over another connection
    let (outcome, seen, log) = secured(&[script, script], "", |_| Err("no handshake".to_owned()));
    outcome.ok();
    assert_eq!(verbs(&seen[0]), ["EHLO", "STARTTLS"]);
    assert_eq!(verbs(&seen[1])[..2], ["EHLO", "MAIL"]);
    assert!(
        log.iter().any(|line| line.contains("no handshake; without TLS then")),
        "{log:?}"
    );
    for mode in ["required", "verified"] {
        let (outcome, seen, _) = secured(&[script], &format!("tls {mode}"), |_| Err("no handshake".to_owned()));
        outcome.declined();
        assert!(!seen[0].commands.iter().any(|line| line.starts_with("MAIL")), "{mode}");
    }
}

#[test]
fn tls_that_is_refused_or_was_taken_out() {
    let (outcome, _, _) = secured(
        &[&[("EHLO", Say(TLS)), ("STARTTLS", Say("454 not now\r\n"))]],
        "",
        |_| Ok(()),
    );
    outcome.ok();
    for script in [
        &[("EHLO", Say(TLS)), ("STARTTLS", Say("454 not now\r\n"))][..],
        &[("EHLO", Say("250 fake\r\n"))],
        &[("EHLO", Say(TLS)), ("STARTTLS", Say("220 go\r\n250 forged\r\n"))],
        &[("EHLO", Say(TLS)), ("STARTTLS", Last(""))],
    ] {
        let (outcome, seen, _) = secured(&[script], "tls required", |_| Ok(()));
        outcome.declined();
        assert!(
            !seen[0].commands.iter().any(|line| line.starts_with("MAIL")),
            "{script:?}"
        );
    }
}

#[test]
fn tls_at_once() {
    let (outcome, seen, _) = secured(&[&[]], "smtps", |_| Ok(()));
    outcome.ok();
    assert_eq!(verbs(&seen[0])[..2], ["EHLO", "MAIL"]);
    let (outcome, seen, _) = secured(&[&[]], "smtps", |_| Err("no handshake".to_owned()));
    outcome.declined();
    assert!(seen[0].commands.is_empty());
}

#[test]
fn whom_to_believe() {
    let hex = "ab".repeat(32);
    let script: &[(&str, Act)] = &[("EHLO", Say(TLS))];
    let (outcome, _, _) = secured(&[script], &format!("tls fingerprint tls_fingerprint {hex}"), |how| {
        assert_eq!(how.trust, Trust::Fingerprints(vec![[0xab; 32]]));
        Ok(())
    });
    outcome.ok();
    let dir = tempfile::TempDir::new().unwrap();
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let arguments = format!("tls verified tls_name mx.example tls_ca {}", ca.display());
    let (outcome, _, _) = secured(&[script], &arguments, |how| match &how.trust {
        Trust::Roots(_) if how.name == "mx.example" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    outcome.ok();
}

#[test]
fn dane_as_the_records_say() {
    let record = Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![1; 32],
    };
    let wanted = Trust::Dane(vec![record.clone()]);
    for (answer, ehlo, handshake, want) in [
        (Dns::Found(vec![record.clone()]), TLS, true, Verdict::Ok),
        (Dns::Found(vec![record.clone()]), TLS, false, Verdict::Declined),
        (Dns::Found(vec![record]), PLAIN, true, Verdict::Declined),
        (Dns::NoData, PLAIN, true, Verdict::Ok),
        (Dns::NoName, TLS, true, Verdict::Ok),
        (Dns::Failed("bogus".into()), TLS, true, Verdict::Declined),
    ] {
        let dane = matches!(answer, Dns::Found(_));
        let failed = matches!(answer, Dns::Failed(_));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = (!failed).then(|| serve_many(listener, &[&[("EHLO", Say(ehlo))]]));
        let mut t = kit("127.0.0.1", port, "tls dane");
        t.dns().tlsa_is("127.0.0.1", port, answer);
        let wanted = wanted.clone();
        t.dial().encrypts(move |how| {
            let trust = if dane { &wanted } else { &Trust::Anyone };
            assert_eq!(&how.trust, trust);
            handshake.then_some(()).ok_or_else(|| "not believed".to_owned())
        });
        let outcome = t.ask(Event::Queue);
        assert_eq!(outcome.verdict, want, "{ehlo} {handshake} {:?}", t.logged());
        server.map(|server| server.join().unwrap());
    }
}

fn login() -> (tempfile::TempDir, String) {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("login");
    fs::write(&file, "tim:tanstaaftanstaaf\n").unwrap();
    let argument = format!("login {}", file.display());
    (dir, argument)
}

#[test]
fn logins() {
    let (_dir, file) = login();
    for (mechanisms, clear, said) in [
        (
            "PLAIN LOGIN CRAM-MD5",
            false,
            &["AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm"][..],
        ),
        ("LOGIN", false, &["AUTH LOGIN", "dGlt", "dGFuc3RhYWZ0YW5zdGFhZg=="]),
        (
            "CRAM-MD5",
            false,
            &["AUTH CRAM-MD5", "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"],
        ),
        (
            "PLAIN CRAM-MD5",
            true,
            &["AUTH CRAM-MD5", "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"],
        ),
    ] {
        let tls = if clear { "" } else { "250-STARTTLS\r\n" };
        let ehlo: &'static str = format!("250-fake\r\n{tls}250 AUTH {mechanisms}\r\n").leak();
        let arguments = format!("{file} {}", if clear { "login_in_clear" } else { "" });
        let (outcome, seen, log) = secured(&[&[("EHLO", Say(ehlo))]], &arguments, |_| Ok(()));
        outcome.ok();
        let from = seen[0]
            .commands
            .iter()
            .position(|line| line.starts_with("AUTH"))
            .unwrap();
        assert_eq!(seen[0].commands[from..from + said.len()], *said);
        assert!(
            !log.iter()
                .any(|line| line.contains("tanstaaf") || line.contains("dGFuc3R")),
            "{log:?}"
        );
    }
}

#[test]
fn logins_that_come_to_nothing() {
    let (_dir, file) = login();
    let refused = ("AUTH", Say("535 5.7.8 no\r\n"));
    for (script, why) in [
        (&[("EHLO", Say(PLAIN))][..], "the login is not sent without TLS"),
        (&[("EHLO", Say(TLS)), refused], "the login was refused: 535 5.7.8 no"),
        (
            &[("EHLO", Say("250-fake\r\n250-STARTTLS\r\n250 AUTH GSSAPI\r\n"))],
            "it offers none of AUTH PLAIN",
        ),
        (&[("EHLO", Say(TLS)), ("AUTH", Last(""))], "connection closed"),
        (
            &[("EHLO", Say(TLS)), ("AUTH", Say("334 what?\r\n"))],
            "strange answer 334",
        ),
    ] {
        let (outcome, seen, log) = secured(&[script], &file, |_| Ok(()));
        outcome.declined();
        assert!(!seen[0].commands.iter().any(|line| line.starts_with("MAIL")), "{why}");
        assert!(log.iter().any(|line| line.contains(why)), "{why}: {log:?}");
        assert!(!log.iter().any(|line| line.contains("tanstaaf")), "{log:?}");
    }
}

/// A script for each conversation.
type Conversations<'a> = &'a [&'a [(&'static str, Act)]];
type Server = std::thread::JoinHandle<Vec<Seen>>;

/// Servers at several ports: those that live and those that do not.
fn cluster(scripts: &[Option<Conversations<'_>>]) -> (Vec<u16>, Vec<Option<Server>>) {
    let mut ports = Vec::new();
    let mut servers = Vec::new();
    for script in scripts {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ports.push(listener.local_addr().unwrap().port());
        servers.push(script.map(|script| serve_many(listener, script)));
    }
    (ports, servers)
}

#[test]
fn the_next_host_where_one_does_not_answer() {
    let (ports, servers) = cluster(&[None, Some(&[&[("greeting", Last("421 no\r\n"))]]), Some(&[&[], &[]])]);
    let arguments = format!("fallback 127.0.0.1:{} fallback 127.0.0.1:{}", ports[1], ports[2]);
    let mut t = kit("127.0.0.1", ports[0], &arguments);
    t.ask(Event::Queue).ok();
    t.dial().dialled();
    // those that have failed are remembered
    t.ask(Event::Queue).ok();
    assert_eq!(t.dial().dialled(), [Target::Tcp("127.0.0.1".into(), ports[2])]);
    let taken: Vec<u32> = servers
        .into_iter()
        .flatten()
        .flat_map(|one| one.join().unwrap())
        .map(|one| one.taken)
        .collect();
    assert_eq!(taken, [0, 1, 1]);
}

#[test]
fn another_host_only_if_nothing_was_passed_on() {
    for (step, act, second) in [
        ("EHLO", Last(""), true),
        ("MAIL", Last("421 4.3.2 shutting down\r\n"), true),
        ("DATA", Last(""), true),
        ("dot", Last("421 4.3.2 shutting down\r\n"), true),
        // it may have taken the message
        ("dot", Last(""), false),
        ("dot", Say("garbage\r\n"), false),
        // it has judged the message
        ("MAIL", Say("451 not now\r\n"), false),
        ("RCPT", Say("550 no\r\n"), false),
        ("dot", Say("554 no\r\n"), false),
    ] {
        let script: &[(&str, Act)] = &[(step, act)];
        let (ports, servers) = cluster(&[Some(&[script]), Some(&[&[]])]);
        let mut t = kit(
            "127.0.0.1",
            ports[0],
            &format!("fallback 127.0.0.1:{} timeout 5 final_timeout 5", ports[1]),
        );
        let outcome = t.ask(Event::Queue);
        assert_eq!(outcome.verdict == Verdict::Ok, second, "{step} {act:?}: {outcome:?}");
        let tried = t.dial().dialled().contains(&Target::Tcp("127.0.0.1".into(), ports[1]));
        assert_eq!(tried, second, "{step} {act:?}");
        if !second {
            drop(std::net::TcpStream::connect(("127.0.0.1", ports[1])));
        }
        servers
            .into_iter()
            .flatten()
            .for_each(|server| drop(server.join().unwrap()));
    }
}

/// A write that fails may have been the last that the server needed: then nothing goes to another one.
#[test]
fn another_host_only_if_the_end_was_not_sent() {
    let mut first = GO;
    first[1] = "250-x\r\n250-CHUNKING\r\n250 BINARYMIME\r\n";
    for (fails_at, binary, second) in [
        ("RCPT TO:<postmaster>", false, true),
        ("DATA\r\n", false, true),
        ("\r\n.\r\n", false, false),
        ("BDAT ", true, true),
        ("Subject", true, false),
        ("last", true, false),
    ] {
        let memory = Memory::new(&[&first, &[]]).fails_at(fails_at);
        let mut t = kit("127.0.0.1", 1, "binarymime fallback 127.0.0.1:2");
        t.dial().leave_to(memory.clone());
        if binary {
            t.s.transaction.as_mut().unwrap().options.body = BodyKind::Binary;
        }
        let outcome = t.ask(Event::Queue);
        let verdict = if second { Verdict::Declined } else { Verdict::DenySoft };
        assert_eq!(outcome.verdict, verdict, "{fails_at}");
        assert_eq!(memory.told().len(), if second { 2 } else { 1 }, "{fails_at}");
        assert!(memory.told()[0].contains(fails_at));
    }
}

/// The client waits for 600 seconds, however many hosts are tried.
#[test]
fn all_of_it_ends_in_time() {
    let whole = Duration::from_secs(540);
    let good = [&GO[..], &["250 ok\r\n"]].concat();
    let memory = Memory::new(&[&["421 no\r\n"], &good]);
    let mut t = kit("127.0.0.1", 1, "timeout 3000 final_timeout 3000 fallback 127.0.0.1:2");
    t.dial().leave_to(memory.clone());
    let begun = Instant::now();
    t.ask(Event::Queue).ok();
    let mut ends = memory.deadlines();
    assert!(ends.len() > 10, "{ends:?}");
    ends.dedup();
    assert!(ends.len() == 1 && ends[0] >= begun + whole && ends[0] <= Instant::now() + whole);
}

/// Sends so many messages with connections kept, and gives the verdicts and what was seen.
fn several(scripts: &[&[(&'static str, Act)]], count: usize, arguments: &str) -> (Vec<Verdict>, Vec<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = serve_many(listener, scripts);
    let mut t = kit("127.0.0.1", port, &format!("keep 3600 {arguments}"));
    let verdicts = (0..count).map(|_| t.ask(Event::Queue).verdict).collect();
    drop(t);
    (verdicts, server.join().unwrap())
}

#[test]
fn connections_are_kept() {
    let (verdicts, seen) = several(&[&[]], 3, "");
    assert_eq!(verdicts, [Verdict::Ok; 3]);
    let one = ["MAIL", "RCPT", "RCPT", "DATA"];
    let want: Vec<&str> = [&["EHLO"][..], &one, &["RSET"], &one, &["RSET"], &one, &["QUIT"]].concat();
    assert_eq!(verbs(&seen[0]), want);
    assert_eq!(seen[0].taken, 3);
    // as many messages as one may serve
    let (_, seen) = several(&[&[], &[]], 3, "messages 2");
    assert_eq!(seen.iter().map(|one| one.taken).collect::<Vec<_>>(), [2, 1]);
    // a refusal is no reason to part
    let (verdicts, seen) = several(&[&[("RCPT2", Say("550 no\r\n"))]], 2, "");
    assert_eq!(verdicts, [Verdict::Deny; 2]);
    assert_eq!(
        verbs(&seen[0]),
        ["EHLO", "MAIL", "RCPT", "RCPT", "RSET", "MAIL", "RCPT", "RCPT", "QUIT"]
    );
}

#[test]
fn a_kept_connection_that_is_dead_costs_no_message() {
    // closes after the message; talks out of turn; refuses to go on; dies at the next MAIL
    let scripts: [&[(&str, Act)]; 4] = [
        &[("dot", Last("250 2.0.0 ok\r\n"))],
        &[("dot", Say("250 2.0.0 ok\r\n421 4.4.2 time-out\r\n"))],
        &[("RSET", Last("421 4.4.2 time-out\r\n"))],
        &[("RSET", Last(""))],
    ];
    for script in scripts {
        let (verdicts, seen) = several(&[script, &[]], 2, "");
        assert_eq!(verdicts, [Verdict::Ok; 2], "{script:?}");
        assert_eq!(
            seen.iter().map(|one| one.taken).collect::<Vec<_>>(),
            [1, 1],
            "{script:?}"
        );
    }
}

/// A server that takes one message, and hangs up after the dot of the next, with or without having taken it.
#[test]
fn what_a_kept_connection_may_have_taken_is_not_sent_again() {
    use std::io::{BufRead, BufReader, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicU32::new(0));
    let count = connections.clone();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        count.fetch_add(1, Ordering::SeqCst);
        let mut stream = BufReader::new(stream);
        let (mut dots, mut line) = (0, String::new());
        stream.get_mut().write_all(b"220 x\r\n").unwrap();
        while dots < 2 {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let reply: &[u8] = match line.trim_end() {
                "." => {
                    dots += 1;
                    if dots < 2 { b"250 ok\r\n" } else { b"" }
                }
                "DATA" => b"354 go\r\n",
                text if text.contains(':') && !text.starts_with("MAIL") && !text.starts_with("RCPT") => b"",
                "" | "..dot" | "last" => b"",
                _ => b"250 ok\r\n",
            };
            stream.get_mut().write_all(reply).unwrap();
        }
        drop(stream);
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let mut t = kit("127.0.0.1", port, "keep 3600 timeout 20 final_timeout 20");
    t.ask(Event::Queue).ok();
    assert_eq!(t.ask(Event::Queue).verdict, Verdict::DenySoft);
    let listener = server.join().unwrap();
    assert!(listener.accept().is_err(), "it was sent again");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn arguments_that_contradict_each_other() {
    for (arguments, part) in [
        ("h tls sometimes", "not off, opportunistic"),
        ("h tls fingerprint", "belong together"),
        ("h tls_fingerprint abcd", "belong together"),
        ("h tls fingerprint tls_fingerprint abcd", "is no SHA-256"),
        ("h tls_ca /dev/null", "needs 'tls verified'"),
        ("h tls verified tls_ca /dev/null", "no certificate in PEM form"),
        ("h tls off smtps", "cannot do without TLS"),
        ("h login /nonexistent", "No such file"),
        ("h login /dev/null", "one line 'user:password'"),
        ("h fallback a:b:c", "is neither a host"),
    ] {
        let faults = Kit::faults(&DECLARATION, arguments);
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{arguments}: {faults:?}"
        );
    }
}
