//! SIGHUP: a new generation takes over and no client notices; a faulty one does not.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::sys::signal::Signal;

use crate::harness::{Client, Daemon};

#[test]
fn no_connection_fails_while_reloading() {
    let options = ["--children", "8", "--max-from-ip", "0", "--lifetime", "50"];
    let daemon = Daemon::start(&options);
    let address = daemon.addresses[0];
    let left = AtomicU32::new(2000);
    let more = || left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while more() {
                    let mut client = Client::connect(address);
                    assert_eq!(client.reply().0, 220);
                    client.expect(250, "HELO client.example.net").expect(221, "QUIT");
                    assert!(client.is_closed());
                }
            });
        }
        let mut generation = 1;
        while left.load(SeqCst) > 0 {
            daemon.signal(Signal::SIGHUP);
            generation += 1;
            daemon.wait_for(&format!("reloaded, generation {generation}"));
        }
        assert!(generation > 5, "only {generation} generations");
    });
}

#[test]
fn a_session_goes_on_and_the_next_one_is_of_the_new_generation() {
    let daemon = Daemon::start(&["--children", "2", "--idle-children", "1"]);
    let mut old = daemon.client();
    old.expect(250, "EHLO client.example.net").expect(250, "MAIL FROM:<>");
    daemon.site.config("plugins", "queue/maildir ./Maildir\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
    // Without rcpt_ok nobody decides about recipients. An old worker may still take one connection that comes at
    // the same moment.
    let refused = || {
        let mut new = daemon.client();
        new.expect(250, "EHLO client.example.net").expect(250, "MAIL FROM:<>");
        new.say("RCPT TO:<user@example.com>") == 450
    };
    assert!((0..3).any(|_| refused()));
    old.expect(250, "RCPT TO:<user@example.com>").expect(354, "DATA");
    old.expect(250, "Subject: x\r\n\r\ny\r\n.").expect(221, "QUIT");
    assert_eq!(daemon.site.messages().len(), 1);
}

#[test]
fn a_faulty_configuration_changes_nothing_and_is_logged() {
    let daemon = Daemon::start(&["--children", "1"]);
    let workers = daemon.workers();
    daemon
        .site
        .config("plugins", "rcpt_ok\nno_such_thing\nqueue/maildir ./Maildir\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("generation 1 serves on");
    daemon.wait_for("config/plugins:2:1: ");
    daemon.wait_for("^~~~");
    assert_eq!(daemon.client().message("still the old one"), 250);
    assert_eq!(daemon.workers(), workers);
    daemon.site.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
}
