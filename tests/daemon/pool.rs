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

/// Heaps of glibc beside the first: each begins at a multiple of 64 MiB, and is followed by what is set aside for it.
#[cfg(target_env = "gnu")]
fn heaps(pid: nix::unistd::Pid) -> usize {
    const APART: u64 = 64 << 20;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process");
    let regions: Vec<(u64, u64, &str)> = maps
        .lines()
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((number(from)?, number(to)?, rest.split(' ').next()?))
        })
        .collect();
    let heap = |pair: &[(u64, u64, &str)]| {
        let [(from, middle, rights), (next, end, others)] = pair else {
            return false;
        };
        from % APART == 0 && end - from == APART && middle == next && *rights == "rw-p" && *others == "---p"
    };
    regions.windows(2).filter(|pair| heap(pair)).count()
}

/// Each heap keeps what the largest of its sessions needed.
#[cfg(target_env = "gnu")]
#[test]
fn the_threads_of_a_worker_share_few_heaps() {
    let daemon = Daemon::start(&["--children", "1", "--sessions", "20", "--max-from-ip", "0"]);
    let mut clients: Vec<_> = (0..20).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_eq!(client.message("side by side"), 250);
    }
    let found = heaps(daemon.workers()[0]);
    assert!((1..4).contains(&found), "{found} heaps");
}
