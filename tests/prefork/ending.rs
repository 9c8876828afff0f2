//! Ending: by SIGTERM and SIGINT, by the death of the master, and what is left behind.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::daemon::{Client, Daemon, make_readable};
use crate::process::eventually;

pub fn term_lets_transactions_finish_and_says_goodbye_to_the_rest() {
    let mut daemon = Daemon::start("idle=3");
    let (mut idle, mut busy) = (daemon.connect(), daemon.connect());
    idle.greeting();
    busy.greeting();
    assert_eq!(busy.say("begin"), "begin");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(idle.read(), "goodbye");
    // a session that was just about to look hears of it before the listeners are closed
    eventually("no new connections", || {
        TcpStream::connect(daemon.addresses[0]).is_err()
    });
    assert_eq!(busy.say("going on"), "going on");
    assert_eq!(busy.say("end"), "end");
    assert_eq!(busy.read(), "goodbye");
    assert_eq!(daemon.wait().code(), Some(0));
}

pub fn transactions_end_with_the_grace_time() {
    let mut daemon = Daemon::start("idle=1 grace=300");
    let mut busy = daemon.connect();
    busy.greeting();
    busy.say("begin");
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(busy.read(), "goodbye");
    assert!(start.elapsed() >= Duration::from_millis(290));
    assert_eq!(daemon.wait().code(), Some(0));
}

pub fn who_hears_nothing_is_killed() {
    let mut daemon = Daemon::start("idle=1 grace=10");
    let mut deaf = daemon.connect();
    let (pid, ..) = deaf.greeting();
    deaf.say("stubborn");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(deaf.read(), "");
    daemon.wait_for(&format!("worker {pid} did not end in time"));
    assert_eq!(daemon.wait().code(), Some(0));
}

pub fn a_second_interrupt_hastens() {
    let mut daemon = Daemon::start("idle=1 grace=60000");
    let mut busy = daemon.connect();
    busy.greeting();
    busy.say("begin");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("ending");
    daemon.signal(Signal::SIGINT);
    assert_eq!(busy.read(), "goodbye");
    assert_eq!(daemon.wait().code(), Some(0));
}

pub fn connections_in_the_queue_are_told() {
    let mut daemon = Daemon::start("children=1 idle=1");
    let mut served = daemon.connect();
    served.greeting();
    let mut queued = daemon.connect();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(queued.read(), "shutting down");
    assert_eq!(served.read(), "goodbye");
    assert_eq!(daemon.wait().code(), Some(0));
}

pub fn workers_do_not_outlive_their_master() {
    let mut daemon = Daemon::start("children=4 idle=4");
    let address = daemon.addresses[0];
    let mut client = daemon.connect();
    client.greeting();
    daemon.signal(Signal::SIGKILL);
    assert_eq!(client.read(), "goodbye");
    daemon.wait();
    TcpListener::bind(address).expect("the port is free");
}

pub fn who_finishes_without_a_master_is_in_nobodys_way() {
    let mut daemon = Daemon::start("children=2 idle=1 grace=60000");
    let address = daemon.addresses[0];
    let mut busy = daemon.connect();
    busy.greeting();
    assert_eq!(busy.say("begin"), "begin");
    daemon.signal(Signal::SIGKILL);
    eventually("a free port", || TcpListener::bind(address).is_ok());
    assert_eq!(busy.say("going on"), "going on");
    assert_eq!(busy.say("end"), "end");
    assert_eq!(busy.read(), "goodbye");
    daemon.wait();
}

pub fn term_to_a_worker_ends_that_worker() {
    let daemon = Daemon::start("children=2 idle=2");
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    let ((pid, ..), _) = (one.greeting(), two.greeting());
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signal");
    assert_eq!(one.read(), "goodbye");
    assert_eq!(two.say("and me"), "and me");
    daemon.wait_for(&format!("cleaning up after {pid}"));
    assert_ne!(daemon.connect().greeting().0, pid);
}

pub fn other_signals_to_a_worker_do_nothing() {
    let daemon = Daemon::start("children=1 idle=1");
    let mut client = daemon.connect();
    let (pid, ..) = client.greeting();
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        kill(Pid::from_raw(pid), signal).expect("signal");
    }
    assert_eq!(client.say("still here"), "still here");
}

pub fn faults_at_the_start_are_printed() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("faults"), "plugins:1: what?\n").expect("write");
    make_readable(place.path());
    let mut daemon = Daemon::launch(&format!("dir={}", place.path().display()));
    assert_eq!(daemon.wait().code(), Some(78));
    assert_eq!(daemon.lines().last().map(String::as_str), Some("plugins:1: what?"));
}

pub fn the_pid_file_keeps_a_second_one_out() {
    let mut first = Daemon::start("idle=1 pid=$DIR/pid");
    let path = first.directory.path().join("pid");
    let text = std::fs::read_to_string(&path).expect("pid file");
    assert_eq!(text, format!("{}\n", first.pid()));
    let mut second = Daemon::launch(&format!("pid={}", path.display()));
    assert_eq!(second.wait().code(), Some(73));
    assert!(second.lines().iter().any(|line| line.contains("another master runs")));
    drop(Client::connect(first.addresses[0]));
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait().code(), Some(0));
    // Emptied where the user we became may not remove it from root's directory.
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), "");
}

pub fn detaches_when_ready() {
    let mut daemon = Daemon::start("idle=1 detach=1 pid=$DIR/pid pretty=1");
    // The launcher ends with 0, and nobody holds its stderr any more.
    assert_eq!(daemon.wait().code(), Some(0));
    let text = std::fs::read_to_string(daemon.directory.path().join("pid")).expect("pid file");
    let master = Pid::from_raw(text.trim().parse().expect("a pid"));
    assert_ne!(master, daemon.pid());
    let (worker, ..) = daemon.connect().greeting();
    let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("a name");
    assert_eq!(
        (name(master.as_raw()), name(worker)),
        ("qpsmtpd master\n".into(), "qpsmtpd child\n".into())
    );
    kill(master, Signal::SIGTERM).expect("signal");
    eventually("the daemon ends", || kill(master, None).is_err());
}

pub fn root_becomes_another_and_owns_its_directories() {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: not root");
    }
    let daemon = Daemon::start("idle=1 own=$DIR/spool/deep");
    let spool = std::fs::metadata(daemon.directory.path().join("spool/deep")).expect("made");
    assert_eq!(spool.mode() & 0o777, 0o700);
    let (worker, ..) = daemon.connect().greeting();
    for pid in [daemon.pid().as_raw(), worker] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let ids = |key: &str| -> Vec<u32> {
            let line = status.lines().find(|line| line.starts_with(key)).expect(key);
            line.split_whitespace()
                .skip(1)
                .map(|id| id.parse().expect("a number"))
                .collect()
        };
        assert_eq!(ids("Uid:"), [spool.uid(); 4]);
        assert!(!ids("Gid:").contains(&0) && !ids("Groups:").contains(&0));
        assert_ne!(spool.uid(), 0);
    }
}
