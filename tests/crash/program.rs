//! A program that takes the messages, and a worker that can start none: the client is asked to try again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::faults::Limit;
use crate::harness::{Daemon, Site};
use crate::programs::need;

const PROGRAM: &str = "#!/bin/sh
cat >/dev/null && cat <&1 >/dev/null && echo queued >>\"$0.log\"
";

#[test]
fn a_program_that_cannot_be_started() {
    if ["setpriv", "prlimit"].iter().any(|name| need(name).is_none()) {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: a_program_that_cannot_be_started: not root");
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
