//! Workers that run out of what they need beside their messages: of programs that take them, and of threads for further
//! sessions. The client is asked to try again, or another worker serves it; who is served already notices nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::faults::{Limit, memory};
use crate::harness::{Daemon, Site, deliver};
use crate::process::eventually;
use crate::rights::may;
use crate::trace::state;

const PROGRAM: &str = "#!/bin/sh
cat >/dev/null && cat <&1 >/dev/null && echo queued >>\"$0.log\"
";

#[test]
fn a_program_that_cannot_be_started() {
    if !may(&["setpriv", "prlimit"]) {
        return;
    }
    let site = Site::new();
    let program = site.path().join("qmail-queue");
    fs::write(&program, PROGRAM).expect("write");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("mode");
    fs::set_permissions(site.path(), Permissions::from_mode(0o777)).expect("mode");
    let queued = || fs::read_to_string(program.with_file_name("qmail-queue.log")).unwrap_or_default();
    site.config(
        "plugins",
        &format!("rcpt_ok\nqueue/qmail-queue {}\n", program.display()),
    );
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "1"]);
    let mut client = daemon.client();
    assert_eq!(client.message("first"), 250);
    let worker = daemon.workers()[0];
    for limit in [Limit::Processes, Limit::Descriptors] {
        limit.set(worker, 0);
        let before = queued();
        let code = client.message("while nothing can be started");
        assert!(matches!(code, 451 | 452), "{code}");
        assert_eq!(queued(), before);
        daemon.wait_for("queue::qmail_2dqueue: ");
        limit.lift(worker);
        assert_eq!(client.message("afterwards"), 250);
    }
    assert_eq!(queued().lines().count(), 3);
}

/// Somebody is served by a worker with several sessions, which then can make no further thread: the next client is
/// served by another worker at once, and the first to its end.
#[test]
fn a_thread_that_cannot_be_made() {
    if !may(&["setpriv", "prlimit"]) {
        return;
    }
    for limit in [Limit::Processes, Limit::Descriptors, Limit::Memory] {
        let options = ["--listen-address", "127.0.0.1:0", "--children", "1", "--sessions", "4"];
        let daemon = Daemon::serve(Site::new(), &options);
        let mut first = daemon.client();
        first.begin_message();
        let worker = daemon.workers()[0];
        let most = match limit {
            Limit::Memory => memory(worker),
            Limit::Processes | Limit::Descriptors => 0,
        };
        limit.set(worker, most);
        // one may be told to come again
        eventually("the next client is served", || deliver(daemon.addresses[0], "next"));
        assert_ne!(daemon.workers(), [worker], "{limit:?}");
        limit.lift(worker);
        assert_eq!(first.say("Subject: first\r\n\r\nText.\r\n."), 250, "{limit:?}");
        first.expect(221, "QUIT");
        eventually("it has gone", || state(worker).is_none());
        assert_eq!(daemon.site.messages().len(), 2);
        daemon.wait_for(&format!("worker {worker} gives up: "));
    }
}

/// A message that is to stay in memory, and a worker that gets no more: it goes by way of the spool, and neither its
/// client nor the neighbour notices anything.
#[test]
fn a_message_that_memory_cannot_hold() {
    if !may(&["setpriv", "prlimit"]) {
        return;
    }
    let site = Site::new();
    site.config("size_threshold", "100000000\n");
    let options = ["--listen-address", "127.0.0.1:0", "--children", "1", "--sessions", "4"];
    let daemon = Daemon::serve(site, &options);
    let worker = daemon.workers()[0];
    let (mut large, mut neighbour) = (daemon.client(), daemon.client());
    assert_eq!(neighbour.message("before"), 250);
    neighbour.begin_message();
    large.begin_message().send("Subject: large\r\n\r\n");
    Limit::Memory.set(worker, memory(worker));
    // a thread may find some tens of megabytes that it has set apart before
    let line = format!("{}\r\n", "All work and no play. ".repeat(40));
    large.send(&line.repeat(60_000));
    assert_eq!(large.say("."), 250);
    assert_eq!(neighbour.say("Subject: small\r\n\r\nText.\r\n."), 250);
    assert_eq!(daemon.workers(), [worker]);
    let sizes: Vec<usize> = daemon.site.messages().iter().map(String::len).collect();
    assert_eq!(sizes.iter().filter(|size| **size > 50_000_000).count(), 1, "{sizes:?}");
    assert_eq!(sizes.len(), 3);
}
