//! Workers that run out of what they need beside their messages: of programs that take them, and of threads for further
//! sessions. The client is asked to try again, or another worker serves it; who is served already notices nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::faults::{Limit, memory, open_files};
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

/// The program has become root, and takes for ever: the client hears so in time, and so does the next.
#[test]
fn a_program_that_cannot_be_killed() {
    if !may(&["cc"]) {
        return;
    }
    let site = Site::new();
    let program = site.path().join("qmail-queue");
    let source = program.with_extension("c");
    fs::write(
        &source,
        "#include <unistd.h>\nint main(void) { setuid(0); alarm(300); for (;;) pause(); }\n",
    )
    .expect("write");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).status();
    assert!(compiled.expect("cc").success());
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("mode");
    site.config(
        "plugins",
        &format!("rcpt_ok\nqueue/qmail-queue {} timeout 1\n", program.display()),
    );
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "1"]);
    let worker = daemon.workers();
    let mut client = daemon.client();
    let alive = || -> Vec<Pid> {
        let words = daemon.lines().join("\n");
        let numbers = words
            .split("process ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse().ok());
        numbers.map(Pid::from_raw).filter(|pid| state(*pid).is_some()).collect()
    };
    assert_eq!(client.message("one"), 452);
    daemon.wait_for("cannot be killed");
    assert_eq!(client.message("two"), 452);
    eventually("both go on", || alive().len() == 2);
    for pid in alive() {
        kill(pid, Signal::SIGKILL).expect("kill");
    }
    // those that have ended are buried when the next one is run
    assert_eq!(client.message("three"), 452);
    eventually("the third goes on", || alive().len() == 1);
    kill(alive()[0], Signal::SIGKILL).expect("kill");
    assert_eq!(daemon.workers(), worker);
    assert!(daemon.site.messages().is_empty());
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
            _ => 0,
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

/// What is asked of the client while a list cannot be opened, the list does not go on asking when it can be again.
#[test]
fn a_list_that_could_not_be_opened_once() {
    if !may(&["setpriv", "prlimit"]) {
        return;
    }
    let daemon = Daemon::serve(Site::new(), &["--listen-address", "127.0.0.1:0", "--children", "1"]);
    assert_eq!(daemon.client().message("first"), 250);
    let worker = daemon.workers()[0];
    for name in ["rcpthosts", "morercpthosts.cdb"] {
        let file = daemon.site.path().join("config").join(name);
        if name.ends_with(".cdb") {
            let mut writer = cdb2::CDBWriter::create(&file).expect("a writer");
            writer.add(b"example.net", b"").expect("room");
            writer.finish().expect("written");
        } else {
            daemon.site.config(name, "example.com\nexample.net\n");
        }
        // later changes of it would show
        eventually("the edit is old", || {
            let changed = fs::metadata(&file).expect("file").ctime() as u64;
            let age = UNIX_EPOCH
                .elapsed()
                .expect("clock")
                .saturating_sub(Duration::from_secs(changed));
            age > Duration::from_secs(3)
        });
        // the connection is the last that it can have
        Limit::Descriptors.set(worker, open_files(worker) + 1);
        assert_eq!(to_another_domain(&daemon), 450, "{name}");
        Limit::Descriptors.lift(worker);
        assert_eq!(to_another_domain(&daemon), 550, "{name}");
    }
    assert_eq!(daemon.workers(), [worker]);
}

/// The answer to a recipient whom no list names.
fn to_another_domain(daemon: &Daemon) -> u16 {
    let mut client = daemon.client();
    client.expect(250, "EHLO client.example.net");
    client.expect(250, "MAIL FROM:<sender@example.net>");
    let code = client.say("RCPT TO:<box@example.org>");
    client.expect(221, "QUIT");
    code
}
