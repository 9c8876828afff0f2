//! What becomes of accepted messages: the files, modes and envelopes of the queue plugins of both.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Daemon, Site};
use crate::perl::Perl;
use crate::site::{Both, delivered, usual};
use crate::wire::Side;

/// A message with a name, lines of every kind, and two recipients, one of them with a capital in the domain.
const MESSAGE: &str = "hello
C: MAIL FROM:<from@example.net>
S: 250
C: RCPT TO:<Joe+x@Example.com>
S: 250
C: RCPT TO:<ann@sub.example.com>
S: 250
data
C: Received: from elsewhere
C\\ \\tby here; somewhen\\r\\n
C: Message-Id: <1@example.net>
C\\ Subject: \\xe4\\r\\n
C: To: joe@example.com,
C:  ann@sub.example.com
C:
C: ..
C: ..dot
C\\ \\xff\\x80 and \\{90:long}\\r\\n
C:
C: .
S: 250
quit
";

/// What varies: the numbers of a name, the host, the release, the date.
fn masked(text: &[u8], patterns: &[(&str, &str)]) -> String {
    let replace = |text: String, (pattern, name): &(&str, &str)| {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        pattern.replace_all(&text, *name).into_owned()
    };
    patterns.iter().fold(text.escape_ascii().to_string(), replace)
}

const RELEASE: (&str, &str) = (r"\(qpsmtpd/[0-9.]+\)", "(qpsmtpd/RELEASE)");
const DATE: (&str, &str) = (r"\w{3}, \d+ \w{3} \d{4} [\d:]{8} [+-]\d{4}", "DATE");

fn message(text: &[u8]) -> String {
    masked(&usual(text), &[RELEASE, DATE])
}

/// All that lies below a folder: its mode, and what a message says.
fn tree(folder: &Path, at: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes().to_owned();
        let name = masked(&name, &[(r"^\d+\.P\d+M\d+Q\d+\.[\w.-]+$", "NAME")]);
        let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
        let inside = format!("{at}/{name}");
        match path.is_dir() {
            true => {
                found.insert(inside.clone(), format!("{mode:o}"));
                tree(&path, &inside, found);
            }
            false => {
                let text = fs::read(&path).expect("a message");
                let mut lines = text.split_inclusive(|byte| *byte == b'\n');
                let top: Vec<&[u8]> = lines.by_ref().take(2).collect();
                let rest: Vec<&[u8]> = lines.collect();
                let top = top.concat().escape_ascii().to_string();
                found.insert(inside, format!("{mode:o} {top}{}", message(&rest.concat())));
            }
        }
    }
}

#[test]
fn a_maildir_for_each_recipient() {
    let Some(perl) = Perl::need() else {
        return;
    };
    for arguments in ["%d/%l", "%u 770", "%l"] {
        let plugins = ["rcpt_ok", &format!("queue/maildir ./mail {arguments}")];
        let both = Both::serve(&perl, &[("rcpthosts", "example.com\n.example.com\n")], &plugins);
        both.play(MESSAGE);
        let [theirs, ours] = [Side::Original, Side::Ours].map(|side| {
            let mut found = BTreeMap::new();
            tree(&both.place(side).join("mail"), "", &mut found);
            found
        });
        // a domain is the same in capitals (RFC 5321 2.4); the original makes another folder for it
        let lower = |(path, text): (String, String)| (path.replace("Example.com", "example.com"), text);
        let theirs: BTreeMap<String, String> = theirs.into_iter().map(lower).collect();
        assert!(
            theirs.keys().filter(|path| path.ends_with("new/NAME")).count() == 2,
            "{theirs:#?}"
        );
        assert_eq!(ours, theirs, "{arguments}");
    }
}

#[test]
fn one_maildir() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let plugins = ["rcpt_ok", "queue/maildir ./Maildir"];
    let both = Both::serve(&perl, &[("rcpthosts", "example.com\n.example.com\n")], &plugins);
    both.play(MESSAGE);
    let [theirs, ours] = [Side::Original, Side::Ours].map(|side| {
        let messages = delivered(&both.place(side));
        assert_eq!(messages.len(), 1, "{side:?}");
        (messages[0].envelope.clone(), message(&messages[0].text))
    });
    assert_eq!(ours, theirs);
}

/// A program that takes messages as qmail-queue does, and writes them into a folder.
const STAND_IN: &str = "#!/bin/sh
exec 3<&1
cat >\"$0.message\" && cat <&3 >\"$0.envelope\"
";

#[test]
fn qmail_queue() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("permissions");
    let program = folder.path().join("qmail-queue");
    fs::write(&program, STAND_IN).expect("write");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("permissions");
    let plugins = ["rcpt_ok", &format!("queue/qmail-queue {}", program.display())];
    let both = Both::serve(&perl, &[("rcpthosts", "example.com\n.example.com\n")], &plugins);
    let mut got = Vec::new();
    for (side, address) in both.sides() {
        let mut client = crate::harness::Client::connect(address);
        assert_eq!(client.reply().0, 220);
        client
            .expect(250, "EHLO client.example")
            .expect(250, "MAIL FROM:<from@example.net>");
        client
            .expect(250, "RCPT TO:<joe@example.com>")
            .expect(250, "RCPT TO:<ann@sub.example.com>");
        client.expect(354, "DATA");
        let text = "Message-Id: <1@example.net>\r\nSubject: x\r\n\r\n..\r\ntext\r\n.";
        let (code, words) = client.try_say(text).expect("a reply");
        assert_eq!(code, 250, "{side:?}: {words}");
        client.expect(221, "QUIT");
        let file = |end: &str| {
            let path = program.with_file_name(format!("qmail-queue.{end}"));
            let text = fs::read(&path).expect("a file");
            fs::remove_file(path).expect("remove");
            text
        };
        let words = words.strip_prefix("2.6.0 ").unwrap_or(&words).to_owned();
        let words = masked(words.as_bytes(), &[(r"\d+ qp \d+", "TIME qp PID")]);
        let trace = masked(
            message(&file("message")).as_bytes(),
            &[(r"\[?127\.0\.0\.1\]? \(HELO|Unknown \(HELO", "NAME (HELO")],
        );
        got.push((words, trace, file("envelope").escape_ascii().to_string()));
    }
    assert_eq!(got[0].0, "Queued! TIME qp PID <1@example.net>");
    assert_eq!(
        got[0].2,
        r"Ffrom@example.net\x00Tjoe@example.com\x00Tann@sub.example.com\x00\x00"
    );
    assert_eq!(got[1], got[0]);
}

#[test]
fn smtp_forward() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let behind = Site::new();
    behind
        .config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n")
        .config("rcpthosts", "example.com\n.example.com\n");
    let behind = Daemon::serve(behind, &["--listen-address", "127.0.0.1:0"]);
    let forward = format!("queue/smtp-forward 127.0.0.1 {}", behind.addresses[0].port());
    let both = Both::serve(
        &perl,
        &[("rcpthosts", "example.com\n.example.com\n")],
        &["rcpt_ok", &forward],
    );
    both.play(MESSAGE);
    let messages = delivered(behind.site.path());
    assert_eq!(messages.len(), 2);
    // above this stands the trace of two servers
    let [theirs, ours] = [&messages[0], &messages[1]].map(|one| {
        let text = one.text.escape_ascii().to_string();
        let (_, sent) = text.split_once("Received: from elsewhere").expect("the message");
        (one.envelope.clone(), sent.to_owned())
    });
    assert_eq!(ours, theirs);
}
