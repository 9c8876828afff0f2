//! How many workers a connection wakes.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::daemon::{Client, Daemon};

/// Twenty workers wait, 1,000 connections come one after the other; wake-ups for nothing are counted.
///
/// Most of those never leave the kernel: it finds that the connection has been taken and lets the worker
/// sleep on. They show in the context switches of the workers.
pub fn one_connection_wakes_one_worker() {
    let mut daemon = Daemon::start("children=20 idle=0 max=0 lifetime=100000");
    // One session for everybody, so that all have got as far as waiting.
    let mut clients: Vec<Client> = (0..10).map(|_| daemon.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.greeting().1, 1));
    drop(clients);
    let before = switches(&daemon);
    for _ in 0..1000 {
        let mut client = Client::connect(daemon.addresses[0]);
        client.greeting();
        client.say("quit");
    }
    let switches = switches(&daemon) - before;
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let lines = daemon.lines();
    let counts = lines
        .iter()
        .filter_map(|line| line.split_once("wake-ups for nothing: "));
    let empty: u32 = counts.map(|(_, number)| number.parse::<u32>().expect("a number")).sum();
    println!("1,000 connections: {empty} empty wake-ups, {switches} context switches");
    assert!(empty < 200, "{empty} wake-ups for nothing");
    assert!(switches < 6_000, "{switches} context switches");
}

/// How often the workers have gone to sleep.
fn switches(daemon: &Daemon) -> u64 {
    let slept = |pid: &Pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse::<u64>().ok())
            .expect("a number")
    };
    daemon.workers().iter().map(slept).sum()
}
