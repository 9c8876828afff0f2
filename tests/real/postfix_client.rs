//! Postfix's clients of SMTP and LMTP as clients of the daemon, and its server behind the daemon.

use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{Daemon, Site};
use crate::postfix::Postfix;
use crate::programs::{need, succeed};
use crate::relay::Dovecot;

const TEXT: &str =
    "From: <joe@sender.example>\nTo: <user@example.com>\nSubject: hello\nMessage-Id: <1@sender.example>\n\nText.\n";

/// What the daemon wrote that no sound client makes it write.
fn complaints(daemon: &Daemon) -> Vec<String> {
    let bad = [
        "unauthorized pipelining",
        "unrecognized",
        "error",
        "alert",
        "lost",
        "time-out",
    ];
    // it says DATA before it knows whether there is a recipient, as it may
    let is_fine = |text: &str| text.ends_with("503 please use RCPT first");
    let mut lines = daemon.lines();
    lines.retain(|line| {
        let text = line.split_once(' ').map_or("", |(_, text)| text).to_lowercase();
        let wrong_command = ["500 ", "501 ", "502 ", "503 "]
            .iter()
            .any(|code| text.starts_with(code));
        (wrong_command && !is_fine(line)) || bad.iter().any(|word| text.contains(word))
    });
    lines
}

fn serve(site: Site, address: &str) -> Daemon {
    site.config("unauthorized_pipelining", "refuse\n");
    Daemon::serve(site, &["--listen-address", address, "--max-from-ip", "0"])
}

/// The line with MAIL of the message for this recipient, and that with its RCPT.
fn envelope(daemon: &Daemon, recipient: &str) -> [String; 2] {
    let lines = daemon.lines();
    let rcpt = format!("dispatching RCPT TO:<{recipient}>");
    let at = lines.iter().position(|line| line.contains(&rcpt));
    let at = at.unwrap_or_else(|| panic!("no {rcpt}: {lines:#?}"));
    let process = lines[at].split(' ').next().expect("a process");
    let mail = format!("{process} dispatching MAIL FROM:");
    let mut mails = lines[..at].iter().rev().filter(|line| line.starts_with(&mail));
    [mails.next().expect("MAIL").clone(), lines[at].clone()]
}

#[test]
fn it_verifies_the_certificate_and_logs_in_by_every_mechanism() {
    let mechanisms = ["plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256"];
    let site = Site::new();
    let mut command = site.program("qpsmtpctl");
    succeed(command.args(["cert", "--CN", "mx.example.com", "--dir", "ssl"]));
    site.config(
        "plugins",
        "tls\nauth/auth_flat_file\nrelay\nrcpt_ok\nqueue/maildir ./Maildir\n",
    );
    site.config("flat_auth_pw", "tim@example.com:geheim\n")
        .config("tls_before_auth", "1\n");
    site.config("rcpthosts", "nobody.example\n");
    let daemon = serve(site, "127.0.0.1:0");
    let (to, ca) = (
        daemon.addresses[0].port(),
        daemon.site.path().join("ssl/qpsmtpd-ca.crt"),
    );
    let map = |mechanism| format!("{{{mechanism}.example = {mechanism}:[127.0.0.1]:{to}}}, ");
    let settings = format!(
        "transport_maps = inline:{{ {} {{x.example = smtp:[127.0.0.1]:{to}}} }}\nsmtp_tls_security_level = verify\n\
         smtp_tls_CAfile = {}\nsmtp_tls_verify_cert_match = mx.example.com\nsmtp_sasl_auth_enable = yes\n\
         smtp_sasl_password_maps = static:tim@example.com:geheim\nsmtp_sasl_security_options =\n\
         smtp_send_dummy_mail_auth = yes\n",
        mechanisms.map(map).concat(),
        ca.display(),
    );
    let service = |mechanism| format!("{mechanism} unix - - n - - smtp -o smtp_sasl_mechanism_filter={mechanism}\n");
    let Some(postfix) = Postfix::start(&settings, &mechanisms.map(service).concat()) else {
        return;
    };
    for mechanism in mechanisms {
        let recipient = format!("user@{mechanism}.example");
        postfix.send("<joe@sender.example>", &[&format!("<{recipient}>")], TEXT);
        postfix.wait_for(&[&format!("to=<{recipient}>"), "status=sent (250 2.6.0 Queued!"]);
        daemon.wait_for(&format!("dispatching AUTH {}", mechanism.to_uppercase()));
    }
    postfix.wait_for(&["Verified TLS connection established to 127.0.0.1"]);
    let messages = daemon.site.messages();
    assert_eq!(messages.len(), mechanisms.len());
    assert!(
        messages.iter().all(|message| message.contains("with ESMTPSA")),
        "{messages:?}"
    );
    postfix.is_content();
    assert_eq!(complaints(&daemon), [""; 0]);
}

/// Postfix gives mail to the daemon, which gives it back, and Postfix holds it: whoever reads it there sees what each
/// of them has made of it.
#[test]
fn what_it_sends_comes_back_to_it_whole() {
    let settings = "smtp_bind_address = 127.0.0.9\nsmtp_send_xforward_command = yes\nlocal_header_rewrite_clients =\n\
                    smtpd_client_restrictions = check_client_access inline:{ { 127.0.0.9 = HOLD } }\n\
                    smtpd_authorized_xclient_hosts = 127.0.0.1\n";
    let Some(postfix) = Postfix::start(settings, "") else {
        return;
    };
    let site = Site::new();
    site.config("xforward_networks", "127.0.0.9\n");
    site.config("rcpthosts", "example.com\nbücher.example\n");
    let queue = format!(
        "rcpt_ok\nqueue/smtp-forward 127.0.0.1 {} xclient\n",
        postfix.address.port()
    );
    site.config("plugins", &queue);
    let daemon = serve(site, "127.0.0.1:0");
    postfix.relay_to(&format!("smtp:[127.0.0.1]:{}", daemon.addresses[0].port()));

    let dsn = "ORCPT=rfc822;Bob+2Bx@example.com NOTIFY=SUCCESS,DELAY";
    postfix.send(
        "<joe@sender.example> RET=HDRS ENVID=QQ+2B314",
        &[&format!("<dsn@example.com> {dsn}"), "<never@example.com> NOTIFY=NEVER"],
        TEXT,
    );
    let unicode = TEXT.replace("hello", "Grüße");
    postfix.send(
        "<jürgen@sender.example> BODY=8BITMIME SMTPUTF8",
        &["<ü@bücher.example>"],
        &unicode,
    );
    postfix.send(
        "<joe@sender.example> BODY=8BITMIME",
        &["<eight@example.com>"],
        &format!("{TEXT}é\n.\n..x\n"),
    );
    let large = format!("{TEXT}{}", ".line of a large message\n".repeat(1 << 16));
    postfix.send(
        &format!("<joe@sender.example> SIZE={}", large.len()),
        &["<large@example.com>"],
        &large,
    );
    postfix.send("<>", &["<null@example.com>"], TEXT);
    let many: Vec<String> = (0..60).map(|number| format!("<many{number}@example.com>")).collect();
    postfix.send(
        "<joe@sender.example>",
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
        TEXT,
    );
    postfix.wait_until_idle();

    // what was said to the daemon
    let utf8 = "ORCPT=rfc822;+C3+BC@b+C3+BCcher.example";
    for (recipient, mail, rcpt) in [
        ("dsn@example.com", " ENVID=QQ+2B314 RET=HDRS", dsn),
        ("never@example.com", " ENVID=QQ+2B314 RET=HDRS", "NOTIFY=NEVER"),
        ("ü@bücher.example", "<jürgen@sender.example>", ""),
        ("ü@bücher.example", " SMTPUTF8", utf8),
        ("eight@example.com", " BODY=8BITMIME", ""),
        ("large@example.com", " SIZE=1", ""),
        ("null@example.com", "MAIL FROM:<>", ""),
    ] {
        let said = envelope(&daemon, recipient);
        assert!(said[0].contains(mail) && said[1].contains(rcpt), "{said:?}");
    }
    daemon.wait_for("XFORWARD from 127.0.0.9: ");
    let told: Vec<String> = daemon
        .lines()
        .into_iter()
        .filter(|line| line.contains("XFORWARD from"))
        .collect();
    for part in [
        "ADDR=127.0.0.5",
        "PROTO=ESMTP",
        "HELO=client.example.org",
        "IDENT=",
        "SOURCE=REMOTE",
    ] {
        assert!(told.iter().any(|line| line.contains(part)), "{part}: {told:?}");
    }

    // what came back; it sent no more than 50 recipients at a time
    let held = postfix.held();
    assert_eq!(held.len(), 7);
    let message = |recipient: &str| {
        let line = format!("\nrecipient: {recipient}\n");
        let found = held.iter().find(|text| text.contains(&line));
        found.unwrap_or_else(|| panic!("nothing for {recipient}"))
    };
    for (recipient, parts) in [
        ("dsn@example.com", &["envelope_id=QQ+314\n", "ret_flags=2\n"][..]),
        (
            "dsn@example.com",
            &["notify_flags=10\nnamed_attribute: dsn_orig_rcpt=rfc822;Bob+x@example.com\n"],
        ),
        (
            "never@example.com",
            &["notify_flags=1\nnamed_attribute: dsn_orig_rcpt=rfc822;never@example.com\n"],
        ),
        (
            "ü@xn--bcher-kva.example",
            &["sender: jürgen@sender.example\n", "Subject: Grüße\n"],
        ),
        ("ü@xn--bcher-kva.example", &["dsn_orig_rcpt=utf-8;ü@bücher.example\n"]),
        (
            "eight@example.com",
            &["encoding=8bit\n", "\nText.\né\n.\n..x\n*** HEADER"],
        ),
        ("large@example.com", &["\nMessage-Id: <1@sender.example>\n"]),
        ("null@example.com", &["\nsender: \n"]),
        (
            "many0@example.com",
            &["client_address=127.0.0.9\n", "helo_name=postfix.example.net\n"],
        ),
    ] {
        let message = message(recipient);
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    assert!(
        message("large@example.com").contains(&large["From".len()..]),
        "the large message is another"
    );
    for name in &many {
        message(name.trim_matches(['<', '>']));
    }
    postfix.is_content();
    assert_eq!(complaints(&daemon), [""; 0]);
}

/// Some recipients are refused and some put off, then a message as a whole; Postfix tells its sender of the refused,
/// and keeps the others until they are taken.
#[test]
fn it_retries_what_is_put_off_and_returns_what_is_refused() {
    let Some(postfix) = Postfix::start("", "") else {
        return;
    };
    let site = Site::new();
    site.config("rcpthosts", "example.com\nsender.example\n");
    site.config("plugins", "rcpt_regexp\nrcpt_ok\nqueue/maildir ./Maildir\n");
    let rules = "refused@example.com DENY nobody of this name\nlater@example.com DENYSOFT not yet\n";
    site.config("rcpt_regexp", rules);
    let daemon = serve(site, "127.0.0.1:0");
    postfix.relay_to(&format!("smtp:[127.0.0.1]:{}", daemon.addresses[0].port()));
    let recipients = [
        "<one@example.com>",
        "<refused@example.com>",
        "<later@example.com>",
        "<two@example.com>",
    ];
    postfix.send("<joe@sender.example>", &recipients, TEXT);
    for words in [
        [
            "to=<one@example.com>",
            "dsn=2.6.0, status=sent (250 2.6.0 Queued! <1@sender.example>)",
        ],
        [
            "to=<two@example.com>",
            "dsn=2.6.0, status=sent (250 2.6.0 Queued! <1@sender.example>)",
        ],
        ["to=<refused@example.com>", "dsn=5.7.1, status=bounced (host 127.0.0.1"],
        [
            "to=<refused@example.com>",
            "said: 550 5.7.1 nobody of this name (in reply to RCPT TO command))",
        ],
        [
            "to=<later@example.com>",
            "said: 450 4.7.1 not yet (in reply to RCPT TO command))",
        ],
        ["to=<joe@sender.example>", "status=sent (250 2.6.0 Queued!"],
    ] {
        postfix.wait_for(&words);
    }
    let messages = daemon.site.messages();
    assert_eq!(messages.len(), 2);
    let report = messages.iter().find(|message| message.starts_with("Return-Path: <>\n"));
    let report = report.expect("a report");
    assert!(
        report.contains("Final-Recipient: rfc822; refused@example.com"),
        "{report}"
    );
    assert!(
        report.contains("Diagnostic-Code: smtp; 550 5.7.1 nobody of this name"),
        "{report}"
    );

    // now the message: the queue is a server that does not answer
    let closed = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let nowhere = SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    closed.bind(&nowhere).expect("bind");
    let closed_at = closed.local_addr().expect("address").as_socket().expect("an address");
    let queue = format!("rcpt_ok\nqueue/smtp-forward 127.0.0.1 {}\n", closed_at.port());
    daemon.site.config("plugins", &queue);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("generation 2");
    let words = "said: 451 4.3.0 the next mail server does not take messages now, try again later (in reply to end of";
    postfix.try_again(&["to=<later@example.com>", "status=deferred", words]);
    assert_eq!(daemon.site.messages().len(), 2);
    daemon.site.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("generation 3");
    postfix.try_again(&["to=<later@example.com>", "status=sent (250 2.6.0 Queued!"]);
    assert_eq!(daemon.site.messages().len(), 3);
    postfix.is_content();
}

/// By LMTP, at a port and at a unix socket, and with Dovecot behind: each recipient has a fate of its own.
#[test]
fn its_client_of_lmtp_hears_of_each_recipient() {
    let Some(program) = need("dovecot").filter(|_| need("/usr/lib/dovecot/lmtp").is_some()) else {
        return;
    };
    let settings = "lmtp_send_xforward_command = yes\nlmtp_bind_address = 127.0.0.9\n";
    let Some(postfix) = Postfix::start(settings, "") else {
        return;
    };
    let dovecot = Dovecot::start(&program);
    let site = Site::new();
    site.config("rcpthosts", "x.example\n")
        .config("xforward_networks", "127.0.0.9\n");
    site.config(
        "plugins",
        &format!("rcpt_regexp\nrcpt_ok\nqueue/lmtp {}\n", dovecot.socket()),
    );
    site.config(
        "rcpt_regexp",
        "refused@x.example DENY gone\nlater@x.example DENYSOFT not yet\n",
    );
    site.config("unauthorized_pipelining", "refuse\n");
    let unix = site.path().join("lmtp").display().to_string();
    let listen = [
        "--listen-address",
        "lmtp://127.0.0.1:0",
        "--listen-address",
        &format!("unix:{unix}"),
    ];
    let daemon = Daemon::serve(site, &[&listen[..], &["--socket-mode", "0666"]].concat());
    let port = daemon.addresses[0].port();
    postfix.relay_to(&format!("lmtp:inet:127.0.0.1:{port}"));
    let recipients = ["a", "refused", "full", "later", "b"].map(|name| format!("<{name}@x.example>"));
    let text = format!("{TEXT}{}", "some text\n".repeat(100));
    postfix.send(
        "<joe@sender.example> BODY=8BITMIME",
        &recipients.each_ref().map(String::as_str),
        &text,
    );
    for words in [
        ["to=<a@x.example>", "status=sent (250 2."],
        ["to=<b@x.example>", "status=sent (250 2."],
        [
            "to=<refused@x.example>",
            "status=bounced (host 127.0.0.1[127.0.0.1] said: 550 5.7.1 gone (in reply to RCPT",
        ],
        [
            "to=<later@x.example>",
            "status=deferred (host 127.0.0.1[127.0.0.1] said: 450 4.7.1 not yet (in reply to RCPT",
        ],
        [
            "to=<full@x.example>",
            "status=bounced (host 127.0.0.1[127.0.0.1] said: 552 5.2.2",
        ],
    ] {
        postfix.wait_for(&words);
    }
    assert_eq!(
        (
            dovecot.mail("a").len(),
            dovecot.mail("b").len(),
            dovecot.mail("full").len()
        ),
        (1, 1, 0)
    );
    daemon.wait_for("XFORWARD from 127.0.0.9: ADDR=127.0.0.5");
    postfix.relay_to(&format!("lmtp:unix:{unix}"));
    postfix.send("<joe@sender.example>", &["<a@x.example>"], &text);
    postfix.wait_for(&[
        "to=<a@x.example>",
        &format!("relay=postfix.example.net[{unix}]"),
        "status=sent (250 2.",
    ]);
    assert_eq!(dovecot.mail("a").len(), 2);
    postfix.is_content();
    assert_eq!(complaints(&daemon), [""; 0]);
}
