//! Where messages go: the queue plugins in workers as they are, confined and without privileges.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::process::Command;

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

/// Whoever starts us may say how long a file may become (`ulimit -f`, LimitFSIZE=). What is longer is put off, as by a
/// full disk; no session ends by it, neither this one nor those beside it.
#[test]
fn a_message_longer_than_any_file_may_be() {
    let site = site("queue/maildir ./Maildir");
    site.config("spool_dir", "./spool\n");
    let program = site.program("qpsmtpd-prefork");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 40000; exec \"$@\"", "sh"]);
    command.arg(program.get_program()).arg("--no-rdns").args(HERE);
    command.args(["--children", "1", "--sessions", "3"]);
    command.current_dir(site.path()).env("HOME", site.path());
    let daemon = Daemon::run(site, &mut command);
    let worker = daemon.workers();
    let (mut client, mut neighbour) = (daemon.client(), daemon.client());
    neighbour.begin_message();
    client.begin_message().send("Subject: long\r\n\r\n");
    let line = format!("{}\r\n", "x".repeat(900));
    for _ in 0..24 {
        client.send(&line.repeat(1000));
    }
    assert_eq!(client.say("."), 452);
    assert_eq!(client.message("short"), 250);
    assert_eq!(neighbour.say("Subject: beside it\r\n\r\nText.\r\n."), 250);
    assert_eq!(daemon.workers(), worker);
    assert_eq!(daemon.site.messages().len(), 2);
    let spool = fs::read_dir(daemon.site.path().join("spool"));
    let left = spool
        .expect("spool")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file()));
    assert_eq!(left.count(), 0);
}
