//! Where messages go: the queue plugins in workers as they are, confined and without privileges.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Daemon, Site};

const HERE: [&str; 2] = ["--listen-address", "127.0.0.1:0"];

fn site(queue: &str) -> Site {
    let site = Site::new();
    site.config("plugins", &format!("rcpt_ok\n{queue}\n"));
    site
}

#[test]
fn a_maildir_for_each_recipient() {
    let mut daemon = Daemon::serve(site("queue/maildir ./mail %d/%l"), &HERE);
    let mut client = daemon.client();
    for subject in ["one", "two"] {
        assert_eq!(client.message(subject), 250);
    }
    let new = daemon.site.path().join("mail/example.com/user/new");
    assert_eq!(fs::read_dir(&new).expect("new").count(), 2);
    // what vanishes is made again
    let maildir = daemon.site.path().join("mail/example.com");
    fs::remove_dir_all(maildir).expect("remove");
    assert_eq!(client.message("three"), 250);
    assert_eq!(fs::read_dir(&new).expect("new").count(), 1);
    client.expect(221, "QUIT");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn a_maildir_whose_folders_vanish() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    for folder in ["tmp", "new"] {
        fs::remove_dir_all(daemon.site.path().join("Maildir").join(folder)).expect("remove");
        let codes: Vec<u16> = (0..2).map(|_| client.message(folder)).collect();
        // it may be asked to try again, once
        assert!(matches!(codes[..], [250 | 451, 250]), "{codes:?}");
    }
}

/// A program that takes messages as qmail-queue does, and refuses those that hold the word.
const STAND_IN: &str = "#!/bin/sh
exec 3<&1
message=$(cat) && envelope=$(tr '\\0' '|' <&3) || exit 54
case $message in *refuse*) printf 'Dnot that (#5.7.1)' >&6; exit 82;; *bug*) exit 81;; esac
echo \"$envelope $TCPREMOTEIP\" >\"$0.queued\"
";

#[test]
fn qmail_queue() {
    let site = Site::new();
    let program = site.path().join("qmail-queue");
    fs::write(&program, STAND_IN).expect("write");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("mode");
    fs::set_permissions(site.path(), PermissionsExt::from_mode(0o777)).expect("mode");
    site.config(
        "plugins",
        &format!("rcpt_ok\nqueue/qmail-queue {}\n", program.display()),
    );
    let daemon = Daemon::serve(site, &HERE);
    let mut client = daemon.client();
    assert_eq!(client.message("refuse this"), 552);
    assert_eq!(client.message("a bug"), 452);
    let answer = client
        .begin_message()
        .try_say("Subject: fine\r\n\r\nText.\r\n.")
        .expect("a reply");
    assert_eq!(answer.0, 250);
    assert!(
        answer.1.starts_with("2.6.0 Queued! ") && answer.1.contains(" qp "),
        "{}",
        answer.1
    );
    let queued = fs::read_to_string(program.with_file_name("qmail-queue.queued")).expect("queued");
    assert_eq!(queued, "Fsender@example.net|Tuser@example.com|| 127.0.0.1\n");
    let pid = daemon
        .lines()
        .iter()
        .find_map(|line| Some(line.split_once(" (queue) queue::qmail_2dqueue: (for ")?.0.to_owned()));
    let pid = pid.expect("a line about it");
    daemon.wait_for(&format!(
        "{pid} (queue) queue::qmail_2dqueue: (for {pid}) Queuing to {}",
        program.display()
    ));
}
