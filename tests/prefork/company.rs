//! Several sessions in one worker: what they share, and what they do not.

use std::collections::HashSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Client, Daemon};
use crate::process::eventually;

/// So many greeted clients, and the process that serves each.
fn clients(daemon: &Daemon, count: usize) -> (Vec<Client>, Vec<i32>) {
    let greeted = |_| {
        let mut client = daemon.connect();
        let (pid, ..) = client.greeting();
        (client, pid)
    };
    (0..count).map(greeted).unzip()
}

pub fn a_worker_fills_its_seats_and_others_wait() {
    let daemon = Daemon::start("children=1 sessions=3 idle=1 max=0");
    let (mut three, pids) = clients(&daemon, 3);
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 1, "{pids:?}");
    for client in &mut three {
        assert_eq!(client.say("side by side"), "side by side");
    }
    let mut fourth = daemon.connect();
    assert_eq!(three[1].say("quit"), "");
    assert_eq!(fourth.greeting(), (pids[0], 1, 3));
}

pub fn workers_are_made_when_seats_become_few() {
    let daemon = Daemon::start("children=3 sessions=4 idle=1 max=0");
    let (_clients, pids) = clients(&daemon, 12);
    let mut counts: Vec<usize> = daemon
        .workers()
        .iter()
        .map(|worker| pids.iter().filter(|pid| **pid == worker.as_raw()).count())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [4, 4, 4]);
}

pub fn a_panic_ends_one_session_and_the_worker_leaves_after_the_others() {
    let daemon = Daemon::start("children=2 sessions=3 idle=1 max=0");
    let (mut two, pids) = clients(&daemon, 2);
    assert_eq!(pids[0], pids[1]);
    assert_eq!(two[0].say("panic"), "crashed");
    daemon.wait_for(&format!("ended in a panic; worker {} leaves", pids[0]));
    assert_eq!(two[1].say("still there"), "still there");
    // It may take some more until it has heard that it must not.
    eventually("another worker", || daemon.connect().greeting().0 != pids[0]);
    assert_eq!(two[1].say("quit"), "");
    daemon.wait_for(&format!("cleaning up after {}", pids[0]));
}

pub fn orders_reach_every_session() {
    let mut daemon = Daemon::start("children=2 sessions=8 idle=0 max=0");
    let (mut idle, _) = clients(&daemon, 6);
    let (mut busy, _) = clients(&daemon, 6);
    busy.iter_mut()
        .for_each(|client| assert_eq!(client.say("begin"), "begin"));
    daemon.signal(Signal::SIGTERM);
    for client in &mut idle {
        assert_eq!(client.read(), "goodbye");
    }
    for client in &mut busy {
        assert_eq!(client.say("going on"), "going on");
        assert_eq!(client.say("end"), "end");
        assert_eq!(client.read(), "goodbye");
    }
    assert_eq!(daemon.wait().code(), Some(0));
}

pub fn sessions_do_not_outlive_the_master() {
    let mut daemon = Daemon::start("children=2 sessions=8 idle=0 max=0");
    let (mut clients, _) = clients(&daemon, 10);
    daemon.signal(Signal::SIGKILL);
    for client in &mut clients {
        assert_eq!(client.read(), "goodbye");
    }
    daemon.wait();
}

pub fn a_reload_lets_sessions_go_on() {
    let daemon = Daemon::start("children=3 sessions=2 idle=1 max=0");
    let (mut old, pids) = clients(&daemon, 2);
    // More orders than their line could hold if each were a byte.
    for generation in 2..400 {
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for(&format!("reloaded, generation {generation}"));
    }
    eventually("the last generation", || daemon.connect().greeting().1 == 399);
    for client in &mut old {
        assert_eq!(client.say("still here"), "still here");
    }
    kill(Pid::from_raw(pids[0]), Signal::SIGTERM).expect("signal");
    assert_eq!(old[0].read(), "goodbye");
}

pub fn slow_clients_of_an_old_generation_leave_the_new_one_all_its_workers() {
    let daemon = Daemon::start("children=3 sessions=8 idle=0 max=0");
    let (mut old, pids) = clients(&daemon, 24);
    let mut seen = HashSet::new();
    let mut slow: Vec<Client> = old
        .drain(..)
        .zip(&pids)
        .filter_map(|(client, pid)| seen.insert(*pid).then_some(client))
        .collect();
    assert_eq!(slow.len(), 3, "one with each worker");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
    eventually("the new generation", || daemon.connect().greeting().1 == 2);
    let (_new, pids) = clients(&daemon, 24);
    assert_eq!(
        pids.iter()
            .filter(|pid| !seen.contains(*pid))
            .collect::<HashSet<_>>()
            .len(),
        3
    );
    for client in &mut slow {
        assert_eq!(client.say("still here"), "still here");
    }
}

pub fn the_slowest_go_when_too_many_workers_leave() {
    let daemon = Daemon::start("children=1 sessions=64 idle=1 max=0");
    let mut slow = Vec::new();
    for generation in 1..=30 {
        let mut client = daemon.connect();
        eventually("the new generation", || daemon.connect().greeting().1 == generation);
        client.greeting();
        slow.push(client);
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for(&format!("reloaded, generation {}", generation + 1));
    }
    assert_eq!(slow[0].read(), "goodbye");
    assert_eq!(slow[29].say("still here"), "still here");
    daemon.wait_for("too many workers leave slowly");
}

pub fn a_worker_leaves_after_its_lifetime_and_its_last_session() {
    let daemon = Daemon::start("children=2 sessions=2 idle=1 lifetime=3 max=0");
    let (mut first, pids) = clients(&daemon, 1);
    let others: Vec<i32> = (0..4).map(|_| daemon.connect().greeting().0).collect();
    assert!(others.iter().filter(|pid| **pid == pids[0]).count() <= 2, "{others:?}");
    assert_eq!(first[0].say("still here"), "still here");
    assert_eq!(first[0].say("quit"), "");
    daemon.wait_for(&format!("cleaning up after {}", pids[0]));
}

pub fn a_worker_that_leaves_slowly_is_replaced() {
    let daemon = Daemon::start("children=1 sessions=4 idle=1 lifetime=2 max=0");
    let (mut slow, pids) = clients(&daemon, 1);
    // it serves a second one, and no more
    assert_eq!(clients(&daemon, 1).1, pids);
    let (_others, next) = clients(&daemon, 1);
    assert_ne!(next, pids);
    assert_eq!(slow[0].say("still here"), "still here");
}

pub fn the_limit_is_exact_over_threads_and_processes() {
    let daemon = Daemon::start("children=4 sessions=16 idle=0 max=7");
    assert_eq!(daemon.stampede(200), (7, 193));
    eventually("there is room again", || daemon.connect().read().starts_with("hello"));
}
