//! What the client asked for, towards servers that know it and servers that do not.

use super::*;

const ALL: &str = "250-fake\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n\
                   250-BINARYMIME\r\n250-DELIVERBY 100\r\n250 FUTURERELEASE 1000 2030-01-01T00:00:00Z\r\n";

/// What comes of a message that `change` has made, towards a server that offers `ehlo`.
fn with(ehlo: &'static str, arguments: &str, change: impl FnOnce(&mut Transaction)) -> (Outcome, Seen) {
    let (port, server) = fake(&[("EHLO", Say(ehlo))]);
    let mut t = kit("127.0.0.1", port, arguments);
    change(t.s.transaction.as_mut().unwrap());
    let outcome = t.ask(Event::Queue);
    (outcome, server.join().unwrap())
}

#[test]
fn pipelining() {
    let (outcome, seen) = with(ALL, "", |_| {});
    outcome.ok();
    assert_eq!(
        seen.commands[1..5],
        [
            "MAIL FROM:<joe@sender.example>",
            "RCPT TO:<a@x.example>",
            "RCPT TO:<postmaster>",
            "DATA"
        ]
    );
    // each answer counts for its own command
    let (port, server) = fake(&[("EHLO", Say(ALL)), ("RCPT2", Say("550 5.1.1 no such user\r\n"))]);
    let outcome = kit("127.0.0.1", port, "").ask(Event::Queue);
    assert_eq!(outcome.denied("no such user").status, Some(Status(5, 1, 1)));
    let seen = server.join().unwrap();
    assert!(!seen.commands.contains(&"DATA".to_owned()), "{seen:?}");
}

/// One that leaves says so to the first command, and no more.
#[test]
fn words_before_the_end_of_a_pipeline_count() {
    for (step, status) in [("MAIL", "4.3.2"), ("RCPT", "4.3.2")] {
        let (port, server) = fake(&[("EHLO", Say(ALL)), (step, Last("421 4.3.2 shutting down\r\n"))]);
        let outcome = kit("127.0.0.1", port, "").ask(Event::Queue);
        assert_eq!(outcome.is(Verdict::DenySoft).status(status).text, "shutting down");
        server.join().unwrap();
    }
}

#[test]
fn very_many_recipients() {
    let (port, server) = fake(&[("EHLO", Say(ALL))]);
    let mut t = kit("127.0.0.1", port, "");
    (0..1000).for_each(|number| t.accept(&format!("user{number}@{}.example", "x".repeat(60))));
    t.ask(Event::Queue).ok();
    assert_eq!(server.join().unwrap().commands.len(), 1002 + 4);
}

#[test]
fn who_has_submitted_it_is_for_a_server_that_knows_us() {
    const EHLO: &str = "250-fake\r\n250 AUTH PLAIN\r\n";
    const BOTH: &str = "250-fake\r\n250-XCLIENT ADDR\r\n250 AUTH PLAIN\r\n";
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("login");
    std::fs::write(&file, "tim:tanstaaftanstaaf\n").unwrap();
    let login = format!("login {} login_in_clear", file.display());
    for (ehlo, arguments, named, want) in [
        (EHLO, &*login, Some("e=mc2@example.com"), " AUTH=e+3Dmc2@example.com"),
        (EHLO, &login, Some("<>"), " AUTH=<>"),
        (EHLO, &login, None, " AUTH=<>"),
        (EHLO, "", Some("joe@example.com"), ""),
        (ALL, "", Some("joe@example.com"), ""),
        // XCLIENT makes it forget us
        (BOTH, &format!("xclient {login}"), Some("joe@example.com"), ""),
    ] {
        let (outcome, seen) = with(ehlo, arguments, |t| t.options.auth = named.map(str::to_owned));
        outcome.ok();
        let mail = seen.commands.iter().find(|line| line.starts_with("MAIL"));
        let want = format!("MAIL FROM:<joe@sender.example>{want}");
        assert_eq!(mail, Some(&want), "{arguments} {named:?}");
    }
}

#[test]
fn what_the_sender_wants_to_be_told() {
    let asked = |t: &mut Transaction| {
        t.options.ret = Some(Ret::Headers);
        t.options.envid = Some("a+b c".into());
        t.recipients[0].options.notify = Some(Notify {
            success: true,
            failure: true,
            delay: false,
        });
        t.recipients[0].options.orcpt = Some(Orcpt {
            kind: "rfc822".into(),
            address: "a+x@x.example".into(),
        });
    };
    let (outcome, seen) = with(ALL, "", asked);
    outcome.ok();
    assert_eq!(
        seen.commands[1],
        "MAIL FROM:<joe@sender.example> RET=HDRS ENVID=a+2Bb+20c"
    );
    assert_eq!(
        seen.commands[2],
        "RCPT TO:<a@x.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bx@x.example"
    );
    assert_eq!(seen.commands[3], "RCPT TO:<postmaster>");
    // a server without DSN: the sender is told so
    let (outcome, seen) = with("250 fake\r\n", "", asked);
    outcome.ok();
    assert_eq!(seen.taken, 2);
    assert_eq!(seen.commands[1], "MAIL FROM:<joe@sender.example>");
    assert_eq!(
        seen.commands[5..8],
        ["MAIL FROM:<>", "RCPT TO:<joe@sender.example>", "DATA"]
    );
    let report = seen.message.unwrap();
    for part in [
        "To: <joe@sender.example>\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n",
        "Original-Envelope-Id: a+b c\r\n",
        "Original-Recipient: rfc822; a+x@x.example\r\nFinal-Recipient: rfc822; a@x.example\r\nAction: relayed\r\nStatus: 2.0.0\r\n",
        "Diagnostic-Code: smtp; 250 2.0.0 Ok: queued as ABC\r\n",
        "Content-Type: text/rfc822-headers\r\n",
        "\r\nSubject: x\r\n",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("postmaster") && !report.contains("last"), "{report}");
    // the null sender is told nothing
    let (outcome, seen) = with("250 fake\r\n", "", |t| {
        asked(t);
        t.sender = Address::null();
    });
    outcome.ok();
    assert_eq!(seen.taken, 1);
}

#[test]
fn binary_messages() {
    let binary = |t: &mut Transaction| {
        t.options.body = BodyKind::Binary;
        t.message.body.clear();
        t.message.body.write(b"\n\r\n.\r\n\n\rno end").unwrap();
    };
    let (outcome, seen) = with(ALL, "binarymime", binary);
    outcome.ok();
    assert_eq!(seen.commands[1], "MAIL FROM:<joe@sender.example> BODY=BINARYMIME");
    assert!(seen.commands[4].starts_with("BDAT "), "{:?}", seen.commands);
    assert_eq!(seen.message.as_deref(), Some("Subject: x\r\n\r\n\r\n.\r\n\n\rno end"));
    let (outcome, seen) = with("250-fake\r\n250 CHUNKING\r\n", "binarymime", binary);
    outcome.denied("does not take binary").status("5.6.3");
    assert_eq!(seen.commands.len(), 2);
    assert!(!Kit::load(&DECLARATION, "h").takes().binary && Kit::load(&DECLARATION, "h binarymime").takes().binary);
    // nobody has said yes
    for act in [Last(""), Hang, Say("garbage\r\n")] {
        let (port, server) = fake(&[("EHLO", Say(ALL)), ("dot", act)]);
        let mut t = kit("127.0.0.1", port, "binarymime final_timeout 1");
        binary(t.s.transaction.as_mut().unwrap());
        assert_eq!(t.ask(Event::Queue).verdict, Verdict::DenySoft);
        server.join().unwrap();
    }
}

#[test]
fn headers_that_are_not_ascii() {
    let utf8 = |t: &mut Transaction| {
        t.options.utf8 = true;
        let text = "Subject: r\u{e9}sum\u{e9}\n\nx\n";
        t.message = Message::parse(t.message.body.spool(), text.as_bytes()).unwrap();
    };
    let (outcome, seen) = with(ALL, "", utf8);
    outcome.ok();
    assert!(seen.commands[1].ends_with(" SMTPUTF8"));
    let (outcome, _) = with("250 fake\r\n", "", utf8);
    outcome.denied("internationalized").status("5.6.7");
    // asked for and not needed
    let (outcome, seen) = with("250 fake\r\n", "", |t| t.options.utf8 = true);
    outcome.ok();
    assert_eq!(seen.commands[1], "MAIL FROM:<joe@sender.example>");
}

#[test]
fn parameters_that_are_passed_on_or_refused() {
    for (word, status) in [("BY=120;R", "5.5.4"), ("HOLDFOR=60", "5.5.4"), ("REQUIRETLS", "5.7.30")] {
        let (outcome, _) = with("250 fake\r\n", "", |t| t.params.push(word));
        assert_eq!(
            outcome.is(Verdict::Deny).status.map(|one| one.to_string()).as_deref(),
            Some(status),
            "{word}"
        );
    }
    let (outcome, seen) = with(ALL, "", |t| {
        t.params.push("BY=120;R");
        t.params.push("HOLDFOR=60");
        t.params.push("SIZE=17");
        t.params.push("X-OTHER=1");
    });
    outcome.ok();
    assert_eq!(seen.commands[1], "MAIL FROM:<joe@sender.example> BY=120;R HOLDFOR=60");
}

#[test]
fn tls_that_the_client_insists_on() {
    let run = |arguments: &str, ehlo: &'static str| {
        let (port, server) = fake(&[("EHLO", Say(ehlo))]);
        let mut t = kit("127.0.0.1", port, arguments);
        t.dial().encrypts(|_| Ok(()));
        t.s.transaction.as_mut().unwrap().params.push("REQUIRETLS");
        let outcome = t.ask(Event::Queue);
        (outcome, server.join().unwrap())
    };
    let fingerprint = format!("tls fingerprint tls_fingerprint {}", "ab".repeat(32));
    let (outcome, seen) = run(&fingerprint, "250-fake\r\n250-STARTTLS\r\n250 REQUIRETLS\r\n");
    outcome.ok();
    assert!(
        seen.commands.iter().any(|line| line.ends_with("> REQUIRETLS")),
        "{seen:?}"
    );
    // it must keep it in its turn, and it must be known who it is
    run(&fingerprint, "250-fake\r\n250 STARTTLS\r\n").0.denied("REQUIRETLS");
    run("tls required", "250-fake\r\n250-STARTTLS\r\n250 REQUIRETLS\r\n")
        .0
        .denied("REQUIRETLS");
}
