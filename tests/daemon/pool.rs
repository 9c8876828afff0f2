//! The pool: workers that die are replaced, workers that have served enough leave.

use std::collections::HashSet;

use nix::sys::signal::{Signal, kill};

use crate::harness::Daemon;
use crate::process::eventually;

#[test]
fn killed_workers_are_replaced() {
    let daemon = Daemon::start(&["--children", "3", "--idle-children", "3"]);
    eventually("three workers", || daemon.workers().len() == 3);
    let mut client = daemon.client();
    let before = daemon.workers();
    before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).expect("kill"));
    assert_eq!(client.reply().0, 0, "its session is gone");
    assert_eq!(daemon.client().message("after the killing"), 250);
    eventually("three others", || {
        let now = daemon.workers();
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
    for pid in before {
        daemon.wait_for(&format!("worker {pid} was killed by SIGKILL"));
    }
}

#[test]
fn idle_workers_are_kept_up_to_the_most() {
    let daemon = Daemon::start(&["--children", "4", "--idle-children", "1"]);
    eventually("one worker", || daemon.workers().len() == 1);
    let first = daemon.client();
    eventually("one more", || daemon.workers().len() == 2);
    let clients: Vec<_> = (0..3).map(|_| daemon.client()).collect();
    assert_eq!(daemon.workers().len(), 4);
    // Nobody is refused for want of workers: the fifth waits.
    let mut fifth = daemon.connect();
    drop(first);
    assert_eq!(fifth.reply().0, 220);
    drop(clients);
}

#[test]
fn workers_leave_after_their_lifetime() {
    let daemon = Daemon::start(&["--children", "1", "--idle-children", "1", "--lifetime", "5", "--debug"]);
    for session in 0..20 {
        assert_eq!(daemon.client().message(&session.to_string()), 250);
    }
    let lines = daemon.lines();
    let greetings = lines.iter().filter(|line| line.contains(" 220 "));
    let pids: HashSet<&str> = greetings.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(pids.len(), 4, "{lines:#?}");
    assert_eq!(daemon.site.messages().len(), 20);
}

/// Sessions of one process are told apart in the log by a number of their own.
#[test]
fn a_worker_serves_several_sessions() {
    let daemon = Daemon::start(&["--children", "1", "--sessions", "3"]);
    let mut clients = [daemon.client(), daemon.client(), daemon.client()];
    for client in &mut clients {
        assert_eq!(client.message("side by side"), 250);
    }
    assert_eq!(daemon.workers().len(), 1);
    assert_eq!(daemon.site.messages().len(), 3);
    let lines = daemon.lines();
    let greetings = lines.iter().filter(|line| line.contains(" 220 "));
    let numbers: HashSet<&str> = greetings.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(numbers, HashSet::from(["1", "2", "3"]), "{lines:#?}");
}
