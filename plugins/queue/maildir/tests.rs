//! Tests of the plugin queue/maildir, against the file system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

struct Site {
    t: Kit,
    dir: tempfile::TempDir,
}

/// A kit whose plugin delivers below a directory of its own, with a message for some recipients.
fn site(arguments: &str, recipients: &[&str]) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let mut t = Kit::load(&DECLARATION, &format!("{}/mail {arguments}", dir.path().display()));
    t.mail("joe@sender.example").declined();
    recipients.iter().for_each(|who| t.accept(who));
    t.message("Subject: x\nMessage-ID:\n <1@x>\n\nbody\n");
    Site { t, dir }
}

impl Site {
    /// The messages in a folder, sorted.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join(folder)).unwrap();
        let mut texts: Vec<String> = entries
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        texts.sort();
        texts
    }

    fn mode(&self, path: &Path) -> u32 {
        fs::metadata(self.dir.path().join(path)).unwrap().permissions().mode() & 0o777
    }
}

#[test]
fn one_file_for_all_recipients() {
    let mut site = site("", &["a@x.example", "<\"b c\"@y.example>"]);
    for _ in 0..2 {
        assert_eq!(site.t.ask(Event::Queue).ok().text, "Queued! <1@x>");
    }
    let expected = "Return-Path: <joe@sender.example>\nDelivered-To: \"b\\ c\"@y.example\nDelivered-To: a@x.example\n\
                    Subject: x\nMessage-ID:\n <1@x>\n\nbody\n";
    assert_eq!(site.files("mail/new"), [expected; 2]);
    assert_eq!((site.files("mail/tmp").len(), site.files("mail/cur").len()), (0, 0));
    assert_eq!(site.mode("mail/new".as_ref()), 0o700);
    assert!(
        site.t.message_text().starts_with("Subject: x\n"),
        "the message itself is not changed"
    );
}

#[test]
fn a_message_without_a_name() {
    let mut site = site("", &["a@x.example"]);
    for (header, text) in [
        ("Subject: x", "Queued! (it has no Message-Id)"),
        ("Message-Id:", "Queued! (it has no Message-Id)"),
        ("Message-Id: 1@x", "Queued! <1@x>"),
    ] {
        site.t.message(&format!("{header}\n\nbody\n"));
        assert_eq!(site.t.ask(Event::Queue).ok().text, text, "{header}");
    }
}

#[test]
fn a_file_for_each_recipient() {
    let mut site = site("%d/%l 770", &["A@X.example", "b@x.example", "postmaster"]);
    site.t.config("me", &["here.example"]);
    site.t.ask(Event::Queue).ok();
    for (folder, to) in [
        ("mail/x.example/A", "A@X.example"),
        ("mail/x.example/b", "b@x.example"),
        ("mail/here.example/postmaster", "postmaster"),
    ] {
        let expected =
            format!("Return-Path: <joe@sender.example>\nDelivered-To: {to}\nSubject: x\nMessage-ID:\n <1@x>\n\nbody\n");
        assert_eq!(site.files(&format!("{folder}/new")), [expected]);
    }
    assert_eq!(site.mode("mail/x.example/A".as_ref()), 0o770);
    let name = fs::read_dir(site.dir.path().join("mail/x.example/b/new"))
        .unwrap()
        .next();
    assert_eq!(site.mode(&name.unwrap().unwrap().path()), 0o660);
}

#[test]
fn one_file_for_those_who_share_a_maildir() {
    let mut site = site(
        "%l",
        &["joe@a.example", "ann@a.example", "joe@b.example", "joe@c.example"],
    );
    site.t.ask(Event::Queue).ok();
    let file = |to: &[&str]| {
        let to: String = to.iter().map(|who| format!("Delivered-To: {who}\n")).collect();
        format!("Return-Path: <joe@sender.example>\n{to}Subject: x\nMessage-ID:\n <1@x>\n\nbody\n")
    };
    assert_eq!(
        site.files("mail/joe/new"),
        [file(&["joe@c.example", "joe@b.example", "joe@a.example"])]
    );
    assert_eq!(site.files("mail/ann/new"), [file(&["ann@a.example"])]);
}

#[test]
fn an_address_that_makes_no_directory_refuses_all() {
    let mut site = site("%l", &["a@x.example", "<\"..\"@x.example>"]);
    site.t.ask(Event::Queue).denied("directory").status("5.1.3");
    assert!(!site.dir.path().join("mail").exists());
    assert!(site.t.logged().iter().any(|line| line.contains("fail, ")));
}

#[test]
fn all_or_nothing() {
    let mut site = site("%l", &["a@x.example", "b@x.example", "c@x.example"]);
    site.t.ask(Event::Queue).ok();
    let root = site.dir.path().join("mail");
    // c cannot be written, and then cannot be published
    for broken in ["tmp", "new"] {
        let path = root.join("c").join(broken);
        let aside = root.join("aside");
        fs::rename(&path, &aside).unwrap();
        symlink("/proc/version", &path).unwrap();
        site.t.ask(Event::Queue).declined().says("try again later");
        assert!(
            site.t
                .logged()
                .iter()
                .any(|line| line.contains("error, cannot deliver into "))
        );
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        for who in ["a", "b", "c"] {
            let found = (
                site.files(&format!("mail/{who}/tmp")).len(),
                site.files(&format!("mail/{who}/new")).len(),
            );
            assert_eq!(found, (0, 1), "{who} after broken {broken}");
        }
    }
    site.t.ask(Event::Queue).ok();
    assert_eq!(site.files("mail/c/new").len(), 2);
}

#[test]
fn an_unusable_maildir_keeps_nothing() {
    let mut site = site("", &["a@x.example"]);
    let root = site.dir.path().join("mail");
    fs::create_dir_all(root.join("tmp")).unwrap();
    fs::write(root.join("new"), "no directory").unwrap();
    site.t.ask(Event::Queue).declined();
    assert_eq!(site.files("mail/tmp").len(), 0);
    fs::remove_file(root.join("new")).unwrap();
    site.t.ask(Event::Queue).ok();
}

#[test]
fn a_maildir_that_vanishes_is_made_again() {
    let mut site = site("", &["a@x.example"]);
    site.t.ask(Event::Queue).ok();
    fs::remove_dir_all(site.dir.path().join("mail")).unwrap();
    site.t.ask(Event::Queue).ok();
    assert_eq!(site.files("mail/new").len(), 1);
}

#[test]
fn old_files_in_tmp_are_swept() {
    let mut site = site("", &["a@x.example"]);
    let tmp = site.dir.path().join("mail/tmp");
    fs::create_dir_all(&tmp).unwrap();
    for (name, hours) in [("old", 37), ("young", 35)] {
        let file = fs::File::create(tmp.join(name)).unwrap();
        let age = std::time::Duration::from_secs(hours * 3600);
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    }
    site.t.ask(Event::Queue).ok();
    assert_eq!((tmp.join("old").exists(), tmp.join("young").exists()), (false, true));
}

#[test]
fn large_and_odd_messages_are_whole() {
    let mut site = site("", &["a@x.example"]);
    let large = format!("A: b\n\n{}\n", "x".repeat(300_000));
    for text in ["", "A: b\n", "\nbody without header\n", &large] {
        site.t.message(text);
        site.t.ask(Event::Queue).ok();
        // the body in a file
        site.t.s.message().unwrap().body.path().unwrap();
        site.t.ask(Event::Queue).ok();
    }
    let files = site.files("mail/new");
    let top = "Return-Path: <joe@sender.example>\nDelivered-To: a@x.example\n";
    let whole = |text: &str| files.iter().filter(|file| **file == format!("{top}{text}")).count();
    assert_eq!(
        ["", "A: b\n", "\nbody without header\n", &large].map(whole),
        [2, 2, 2, 2]
    );
}

#[test]
fn arguments() {
    let owned = |arguments: &str| {
        let t = Kit::load(&DECLARATION, arguments);
        t.owned_dirs()
    };
    assert_eq!(owned("M").len(), 4);
    assert_eq!(owned("M 750"), owned("M"));
    assert_eq!(owned("M mode 750"), owned("M"));
    assert_eq!(owned("M %u 750"), [PathBuf::from("M")]);
    for (arguments, part) in [
        ("", "'dir' is missing"),
        ("M x", "neither a pattern nor a mode"),
        ("M %x", "only %l, %d and %u"),
        ("M ../%u", "below the directory"),
        ("M %u 9", "three octal digits"),
        ("M %u 700 more", "unknown argument"),
    ] {
        let faults = Kit::faults(&DECLARATION, arguments);
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{arguments}: {faults:?}"
        );
    }
}
