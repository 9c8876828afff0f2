//! SIGTERM and SIGINT: nothing that was accepted is lost, everybody is told, nothing is left.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Site, deliver};
use crate::process::eventually;

#[test]
fn idle_clients_get_421() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start(&[]);
        let (mut fresh, mut greeted) = (daemon.client(), daemon.client());
        greeted.expect(250, "EHLO client.example.net");
        daemon.signal(signal);
        for client in [&mut fresh, &mut greeted] {
            // reply() insists on CRLF.
            assert_eq!(client.reply().0, 421);
            assert!(client.is_closed());
        }
        eventually("no new connections", || {
            TcpStream::connect(daemon.addresses[0]).is_err()
        });
        assert_eq!(daemon.wait().code(), Some(0));
    }
}

#[test]
fn a_transaction_may_finish() {
    let mut daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    client.begin_message().send("Subject: in flight\r\n\r\nfirst half, ");
    let mut idle = daemon.client();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(idle.reply().0, 421);
    assert_eq!(client.say("second half\r\n."), 250);
    assert_eq!(client.reply().0, 421);
    assert_eq!(daemon.wait().code(), Some(0));
    let messages = daemon.site.messages();
    assert!(messages.len() == 1 && messages[0].contains("first half, second half\n"));
}

#[test]
fn a_transaction_that_does_not_finish_gets_421() {
    let mut daemon = Daemon::start(&["--grace", "0"]);
    let mut client = daemon.client();
    client.begin_message().send("Subject: never ends\r\n\r\n");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(client.reply().0, 421);
    assert!(client.is_closed());
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.site.messages().is_empty());
}

/// Clients deliver as fast as they can while the daemon ends: what got its 250 is in the maildir, once, and
/// nothing else is.
#[test]
fn what_was_accepted_is_there() {
    let mut daemon = Daemon::start(&["--children", "10", "--max-from-ip", "0"]);
    let address = daemon.addresses[0];
    let (accepted, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for number in 0..10 {
            let (accepted, ended) = (&accepted, &ended);
            scope.spawn(move || {
                // until the server goes
                let mut subjects = (0..).map(|message| format!("{number}-{message}"));
                while subjects.next().is_some_and(|subject| deliver(address, &subject)) {
                    accepted.fetch_add(1, SeqCst);
                }
                ended.store(true, SeqCst);
            });
        }
        while accepted.load(SeqCst) < 50 && !ended.load(SeqCst) {
            std::thread::yield_now();
        }
        daemon.signal(Signal::SIGTERM);
    });
    assert_eq!(daemon.wait().code(), Some(0));
    let accepted = accepted.into_inner();
    assert!(accepted >= 50, "{accepted}");
    assert_eq!(daemon.site.messages().len(), accepted);
}

/// A program in the place of qmail-queue that takes longer than the grace.
#[test]
fn programs_do_not_outlive_the_daemon() {
    let site = Site::new();
    let program = site.path().join("qmail-queue");
    fs::write(&program, "#!/bin/sh\necho program $$ >&2\nexec sleep 300\n").expect("write");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("mode");
    site.config(
        "plugins",
        &format!("rcpt_ok\nqueue/qmail-queue {}\n", program.display()),
    );
    let mut daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--grace", "1"]);
    let mut client = daemon.client();
    client.begin_message().send("Subject: x\r\n\r\n.\r\n");
    let words = daemon.wait_for("program ");
    let number = words.rsplit(' ').next().expect("a number");
    let alive = || {
        let stat = fs::read_to_string(Path::new("/proc").join(number).join("stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    assert!(alive());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    eventually("the program has gone", || !alive());
    assert!(client.is_closed());
}
