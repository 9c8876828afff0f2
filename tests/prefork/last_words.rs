//! Workers that crash: what their clients are told, and that they die as they would have done anyway.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::Daemon;

pub fn a_crash_is_told_to_all_who_can_hear_of_it() {
    let daemon = Daemon::start("children=1 sessions=4 idle=1 max=0");
    let (mut one, mut two, mut mute) = (daemon.connect(), daemon.connect(), daemon.connect());
    let (pid, ..) = one.greeting();
    assert_eq!((two.greeting().0, mute.greeting().0), (pid, pid));
    assert_eq!(mute.say("mute"), "mute");
    let mut gone = daemon.connect();
    gone.greeting();
    assert_eq!(gone.say("quit"), "");
    assert_eq!(one.say("abort"), "crashed");
    assert_eq!(one.read(), "");
    assert_eq!((two.read(), two.read()), ("crashed".into(), String::new()));
    assert_eq!(mute.read(), "");
    daemon.wait_for(&format!("worker {pid} was killed by SIGABRT"));
}

/// Also to one that has sent more than was read.
pub fn any_fault_is_told_and_the_worker_dies_of_it() {
    let daemon = Daemon::start("children=1 idle=1");
    for signal in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
    ] {
        let mut client = daemon.connect();
        let (pid, ..) = client.greeting();
        kill(Pid::from_raw(pid), signal).expect("kill");
        assert_eq!((client.read(), client.read()), ("crashed".into(), String::new()));
        daemon.wait_for(&format!("worker {pid} was killed by {signal}"));
    }
    let mut client = daemon.connect();
    let (pid, ..) = client.greeting();
    assert_eq!(client.say("abort\nand much more\nthat nobody reads"), "crashed");
    daemon.wait_for(&format!("worker {pid} was killed by SIGABRT"));
}

/// A fault that the kernel finds: the words of Rust for it are not lost.
pub fn a_full_stack_is_told() {
    let daemon = Daemon::start("children=1 sessions=2 idle=1 max=0");
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    let (pid, ..) = one.greeting();
    assert_eq!(two.greeting().0, pid);
    assert_eq!((one.say("overflow"), two.read()), ("crashed".into(), "crashed".into()));
    daemon.wait_for("has overflowed its stack");
    daemon.wait_for(&format!("worker {pid} was killed by SIGABRT"));
}

pub fn a_panic_is_told_to_the_one_it_befell() {
    let daemon = Daemon::start("children=1 sessions=2 idle=1 max=0");
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    one.greeting();
    two.greeting();
    assert_eq!(one.say("panic"), "crashed");
    assert_eq!(one.read(), "");
    assert_eq!(two.say("still there"), "still there");
}

pub fn nothing_is_said_where_words_are_unwanted() {
    let daemon = Daemon::start("listen=127.0.0.1 listen=127.0.0.1 children=2 idle=2 max=1 silent=1");
    let mut first = daemon.connect();
    first.greeting();
    assert_eq!(daemon.connect().read(), "too many, 1 allowed");
    assert_eq!(crate::daemon::Client::connect(daemon.addresses[1]).read(), "");
}
