//! Tests of the plugin queue/qmail-queue with a stand-in that speaks its protocol: it keeps message and envelope, says
//! words on descriptor 6 and exits as told.

use std::fs;

use super::*;

struct Site {
    t: Kit,
    dir: tempfile::TempDir,
}

/// A stand-in that runs `last` after it has read message and envelope as qmail-queue does.
fn stand_in(last: &str, arguments: &str) -> Site {
    program(
        &format!("cat >\"$0.message\"\ncat <&1 >\"$0.envelope\"\n{last}\n"),
        arguments,
    )
}

fn program(text: &str, arguments: &str) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmail-queue");
    script(&path, text);
    let mut t = Kit::load(&DECLARATION, &format!("{} {arguments}", path.display()));
    t.mail("<\"joe d\"@sender.example>").declined();
    t.accept("a@x.example");
    t.accept("postmaster");
    t.message("Message-ID: <1@x>\n\nbody\n");
    Site { t, dir }
}

impl Site {
    fn kept(&self, what: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("qmail-queue.{what}"))).unwrap()
    }

    fn ask(&mut self) -> Outcome {
        self.t.ask(Event::Queue)
    }
}

#[test]
fn message_and_envelope() {
    let mut site = stand_in("", "");
    let text = site.ask().ok().text;
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!((words[0], words[2], words[4]), ("Queued!", "qp", "<1@x>"));
    assert!(
        words[1].parse::<u64>().is_ok() && words[3].parse::<u32>().is_ok(),
        "{text}"
    );
    assert_eq!(site.kept("message"), "Message-ID: <1@x>\n\nbody\n");
    assert_eq!(
        site.kept("envelope"),
        "Fjoe d@sender.example\0Ta@x.example\0Tpostmaster\0\0"
    );
    let log = site.t.logged();
    let path = site.dir.path().join("qmail-queue");
    let line = format!(
        "(queue) queue::qmail_2dqueue: (for {}) Queuing to {}",
        site.t.s.number,
        path.display()
    );
    assert!(log.contains(&line), "{log:?}");
}

#[test]
fn the_null_sender_and_large_messages() {
    let mut site = stand_in("", "");
    site.t.mail("").declined();
    for n in 0..9000 {
        site.t.accept(&format!("user{n}@x.example"));
    }
    let text = format!("A: b\n\n{}\n", "\u{e9}".repeat(500_000));
    site.t.message(&text);
    site.t.s.message().unwrap().body.path().unwrap();
    let answer = site.ask().ok().text;
    assert_eq!(answer.split(' ').count(), 4, "no Message-Id after the number: {answer}");
    assert!(site.kept("message") == text);
    let envelope = site.kept("envelope");
    assert!(envelope.starts_with("F\0Tuser0@") && envelope.ends_with("Tuser8999@x.example\0\0"));
}

#[test]
fn every_exit_code() {
    let mut site = stand_in("exit $(cat \"$0.code\")", "");
    for (code, verdict, status) in [
        (1, Verdict::DenySoft, "4.3.0"),
        (11, Verdict::Deny, "5.1.3"),
        (31, Verdict::Deny, "5.3.0"),
        (40, Verdict::Deny, "5.3.0"),
        (51, Verdict::DenySoft, "4.3.0"),
        (52, Verdict::DenySoft, "4.3.0"),
        (53, Verdict::DenySoft, "4.3.0"),
        (54, Verdict::DenySoft, "4.3.0"),
        (61, Verdict::DenySoft, "4.3.0"),
        (62, Verdict::DenySoft, "4.3.0"),
        (63, Verdict::DenySoft, "4.3.0"),
        (64, Verdict::DenySoft, "4.3.0"),
        (65, Verdict::DenySoft, "4.3.0"),
        (66, Verdict::DenySoft, "4.3.0"),
        (71, Verdict::DenySoft, "4.3.0"),
        (72, Verdict::DenySoft, "4.4.1"),
        (73, Verdict::DenySoft, "4.4.1"),
        (74, Verdict::DenySoft, "4.4.2"),
        (81, Verdict::DenySoft, "4.3.0"),
        (82, Verdict::DenySoft, "4.3.0"),
        (91, Verdict::DenySoft, "4.3.0"),
        (100, Verdict::DenySoft, "4.3.0"),
        (115, Verdict::Deny, "5.1.3"),
        (255, Verdict::DenySoft, "4.3.0"),
    ] {
        fs::write(site.dir.path().join("qmail-queue.code"), code.to_string()).unwrap();
        let outcome = site.ask().is(verdict).status(status);
        assert!(
            outcome.text.contains(&format!("Unable to queue message ({code})")),
            "{}",
            outcome.text
        );
    }
    // whatever the code, only 0 is a success
    for code in 1..256 {
        let Refusal { verdict, status, .. } = refusal(code, b"Oyes");
        assert!(verdict.denies() && verdict.is_soft() == (status.0 == 4), "{code}");
    }
}

#[test]
fn its_own_words() {
    for (said, verdict, status, text) in [
        ("Dno such luck (#5.7.1)", Verdict::Deny, "5.7.1", "no such luck"),
        ("Zlater (#4.2.2)\\n", Verdict::DenySoft, "4.2.2", "later"),
        ("Dspam", Verdict::Deny, "5.3.0", "spam"),
        ("Zx (#9.9)", Verdict::DenySoft, "4.3.0", "x (#9.9)"),
        (
            "Kfine",
            Verdict::DenySoft,
            "4.3.0",
            "Unable to queue message (82): temporary problem",
        ),
        (
            "D",
            Verdict::DenySoft,
            "4.3.0",
            "Unable to queue message (82): temporary problem",
        ),
    ] {
        let mut site = stand_in(&format!("printf '{said}' >&6; exit 82"), "");
        assert_eq!(site.ask().is(verdict).status(status).text, text);
    }
}

#[test]
fn failures_of_the_program() {
    stand_in("kill -9 $$", "")
        .ask()
        .deferred("crashed (signal 9)")
        .status("4.3.0");
    stand_in("sleep 1000", "timeout 1").ask().deferred("took too long");
    // not even an exit code of 0 is believed from one that has not read the message and the envelope
    for (text, size) in [("exit 0", 300_000), ("exit 0", 10), ("cat >/dev/null", 10)] {
        let mut site = program(text, "");
        site.t.message(&format!("A: b\n\n{}\n", "x".repeat(size)));
        site.ask().deferred("Unable to queue message (54)");
    }
    let mut site = stand_in("", "");
    fs::remove_file(site.dir.path().join("qmail-queue")).unwrap();
    site.t.ask(Event::Queue).declined().says("Unable to queue message");
    assert!(site.t.logged().iter().any(|line| line.contains("error, cannot run ")));
}

#[test]
fn which_program() {
    let choose = |argument: Option<&str>, queue: Option<&str>, qmail: Option<&str>| {
        let mut plugin = QmailQueue {
            path: argument.map(PathBuf::from),
            timeout: 1,
            smtputf8: false,
            program: PathBuf::new(),
        };
        plugin.choose(queue.map(PathBuf::from), qmail.map(PathBuf::from));
        plugin.program.to_string_lossy().into_owned()
    };
    assert_eq!(choose(None, None, None), "/var/qmail/bin/qmail-queue");
    assert_eq!(choose(None, None, Some("/q")), "/q/bin/qmail-queue");
    assert_eq!(choose(Some("/a"), None, Some("/q")), "/a");
    assert_eq!(choose(Some("/a"), Some("/b"), None), "/b");
    let faults = |arguments| Kit::faults(&DECLARATION, arguments);
    assert!(faults("qmail-queue")[0].contains("must begin with /"));
    assert!(faults("/nonexistent/qmail-queue")[0].contains("there is no program"));
    assert!(faults("/bin/sh more")[0].contains("unknown argument"));
}

#[test]
fn what_is_not_ascii_is_taken_if_told_so() {
    let takes = |arguments: &str| Kit::load(&DECLARATION, arguments).takes().utf8;
    assert!(!takes("/bin/sh") && takes("/bin/sh smtputf8"));
}
