//! Clients of others that use the extensions: messages in parts (CHUNKING), addresses that are not ASCII (SMTPUTF8).

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::corpus::{Item, check, corpus, delivered};
use crate::harness::{Daemon, Site};
use crate::programs::{need, need_python, succeed};

/// A daemon that accepts mail for a domain in another script, and for the usual one; who talks out of turn is refused.
fn daemon() -> Daemon {
    let site = Site::new();
    site.config("rcpthosts", "example.com\nbücher.example\n");
    site.config("unauthorized_pipelining", "refuse\n");
    Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--max-from-ip", "0"])
}

/// What follows the header.
fn body(text: &[u8]) -> &[u8] {
    let end = text
        .windows(2)
        .position(|two| two == b"\n\n")
        .expect("the end of the header");
    &text[end + 2..]
}

/// As `exim -odf` delivers: to one host, by BDAT where that is offered.
const EXIM: &str = "
exim_path = EXIM
spool_directory = SPOOL
log_file_path = SPOOL/%slog
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = exim.example.net
keep_environment =
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  transport = out
  self = send
begin transports
out:
  driver = smtp
  port = PORT
  hosts_try_chunking = *
  message_linelength_limit = 1000000
";

#[test]
fn exim_sends_in_parts() {
    // it reads no other configuration than its own unless root tells it to
    if !nix::unistd::getuid().is_root() {
        eprintln!("SKIPPED: exim serves root alone");
        return;
    }
    let Some(exim) = need("exim4") else {
        return;
    };
    let (daemon, mut items, place) = (daemon(), corpus(), Site::empty());
    // it adds to headers, and makes one where there is none
    items.retain(|item| ["plain", "eight-bit", "dots", "long-lines", "large"].contains(&item.name));
    set_permissions(place.path(), Permissions::from_mode(0o777)).expect("mode");
    let config = EXIM
        .replace("EXIM", &exim.path().display().to_string())
        .replace("SPOOL", &place.path().display().to_string())
        .replace("PORT", &daemon.addresses[0].port().to_string());
    let file = place.path().join("exim.conf");
    std::fs::write(&file, config).expect("the configuration");
    for Item { name, text, .. } in &items {
        let message = place.path().join(name);
        std::fs::write(&message, text).expect("a message");
        let mut command = exim.command();
        command.arg("-C").arg(&file);
        command.args([
            "-odf",
            "-oi",
            "-f",
            "sender@example.net",
            &format!("{name}@example.com"),
        ]);
        succeed(command.stdin(std::fs::File::open(message).expect("the message")));
    }
    let mut messages = delivered(&daemon.site.path().join("Maildir"));
    for item in &items {
        let recipient = format!("{}@example.com", item.name);
        let Some(found) = messages.get_mut(&recipient) else {
            let log = std::fs::read_to_string(place.path().join("mainlog"));
            panic!("nothing for {recipient}: {log:?}");
        };
        found.iter_mut().for_each(|text| *text = body(text).to_vec());
        check(&mut messages, &recipient, body(&item.text));
    }
    let log = std::fs::read_to_string(place.path().join("mainlog")).expect("a log");
    // K is how it logs that it sent by BDAT
    assert_eq!(log.matches(" K C=\"250 2.6.0 Queued!").count(), items.len(), "{log}");
}

/// Sends each file in parts of several sizes, all parts of one message in one go. The first argument is the port.
const IN_PARTS: &str = r#"
import os, smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), "client.example.net", timeout=60) as smtp:
    smtp.ehlo()
    assert smtp.has_extn("chunking")
    for path in sys.argv[2:]:
        text = open(path, "rb").read().replace(b"\n", b"\r\n")
        for number, size in enumerate([7, 1000, 65536, 1 << 30]):
            if len(text) // size > 2000:
                continue
            parts = [text[at:at + size] for at in range(0, len(text), size)]
            last = parts.pop() if number % 2 and parts else b""
            smtp.mail("sender@example.net", ["BODY=8BITMIME"])
            smtp.rcpt(f"{os.path.basename(path)}-{number}@example.com")
            for part in parts:
                smtp.send(b"BDAT %d\r\n%s" % (len(part), part))
            smtp.send(b"BDAT %d LAST\r\n%s" % (len(last), last))
            replies = [smtp.getreply() for part in parts + [last]]
            assert all(code == 250 for code, _ in replies), replies
"#;

#[test]
fn smtplib_sends_in_parts() {
    let Some(python) = need_python("smtplib") else {
        return;
    };
    let (daemon, items, files) = (daemon(), corpus(), Site::empty());
    let mut command = python.command();
    command.args(["-c", IN_PARTS, &daemon.addresses[0].port().to_string()]);
    for item in &items {
        let file = files.path().join(item.name);
        std::fs::write(&file, &item.text).expect("a message");
        command.arg(file);
    }
    succeed(&mut command);
    let mut messages = delivered(&daemon.site.path().join("Maildir"));
    for item in &items {
        for (number, size) in [7, 1000, 65_536, 1 << 30].into_iter().enumerate() {
            let lines = item.text.iter().filter(|byte| **byte == b'\n').count();
            if (item.text.len() + lines) / size <= 2000 {
                check(
                    &mut messages,
                    &format!("{}-{number}@example.com", item.name),
                    &item.stored(),
                );
            }
        }
    }
    assert!(messages.is_empty(), "nobody sent: {:?}", messages.keys());
}

/// Python's own way: it says SMTPUTF8 where an address needs it.
const INTERNATIONAL: &str = r#"
import email.message, email.policy, smtplib, sys
message = email.message.EmailMessage(policy=email.policy.SMTPUTF8)
message["From"] = "Jürgen <jürgen@bücher.example>"
message["To"] = "用户@bücher.example"
message["Subject"] = "Grüße"
message.set_content("é\n")
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), "client.example.net", timeout=60) as smtp:
    assert smtp.send_message(message) == {}
    try:
        smtp.sendmail("a@b.example", ["ü@bücher.example"], b"Subject: x\r\n\r\n")
    except smtplib.SMTPRecipientsRefused as why:
        code, words = why.recipients["ü@bücher.example"]
        assert code == 553 and words.startswith(b"5.6.7 "), words
    else:
        sys.exit("not refused")
"#;

#[test]
fn smtplib_and_curl_send_from_and_to_international_addresses() {
    let (Some(python), Some(curl)) = (need_python("smtplib"), need("curl")) else {
        return;
    };
    let daemon = daemon();
    let port = daemon.addresses[0].port().to_string();
    succeed(
        python
            .command()
            .env("PYTHONUTF8", "1")
            .args(["-c", INTERNATIONAL, &port]),
    );
    let url = format!("smtp://127.0.0.1:{port}/client.example.net");
    let mut command = curl.command();
    command.env("LC_ALL", "C.UTF-8").stdout(Stdio::null());
    command.args(["-sS", &url, "--mail-from", "jürgen@bücher.example"]);
    command.args(["--mail-rcpt", "ö@bücher.example", "-T"]);
    let message = Site::empty();
    let file = message.path().join("message");
    std::fs::write(&file, "Subject: Grüße\r\n\r\nx\r\n").expect("a message");
    succeed(command.arg(file));
    let texts = daemon.site.messages();
    assert_eq!(texts.len(), 2);
    for (recipient, line) in [
        ("用户@xn--bcher-kva.example", "\nTo: 用户@bücher.example\n"),
        ("ö@xn--bcher-kva.example", "\nSubject: Grüße\n"),
    ] {
        let to = format!("\nDelivered-To: {recipient}\n");
        let text = texts.iter().find(|text| text.contains(&to)).expect(recipient);
        assert!(
            text.starts_with("Return-Path: <jürgen@xn--bcher-kva.example>\n"),
            "{text}"
        );
        assert!(text.contains(" with UTF8SMTP; ") && text.contains(line), "{text}");
    }
}
