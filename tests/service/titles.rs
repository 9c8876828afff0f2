//! `--pretty-child`: what ps shows says what each process does.

use nix::unistd::Pid;

use crate::account::settled;
use crate::harness::{Daemon, Site};
use crate::process::eventually;

/// As ps reads it.
fn command_line(pid: Pid) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).expect("a command line");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.trim_end_matches('\0').replace('\0', " ")
}

#[test]
fn processes_are_named_for_what_they_do() {
    let _user = settled();
    let options = [
        "--listen-address",
        "127.0.0.1:0",
        "--children",
        "4",
        "--idle-children",
        "1",
        "--status-listen",
        "127.0.0.1:0",
    ];
    let daemon = Daemon::serve(Site::new(), &[&options[..], &["--pretty-child"]].concat());
    let master = || command_line(daemon.pid());
    let worker = |title: &str| daemon.workers().into_iter().any(|pid| command_line(pid) == title);
    eventually("an idle master", || {
        master() == "qpsmtpd master, generation 1, 0/4 busy"
    });
    eventually("an idle worker", || worker("qpsmtpd worker, waiting"));
    eventually("the status page", || worker("qpsmtpd status page"));
    let mut client = daemon.client();
    eventually("a greeted client", || worker("qpsmtpd worker [127.0.0.1] GREETED"));
    client.begin_message();
    eventually("a client that sends", || worker("qpsmtpd worker [127.0.0.1] DATA"));
    eventually("a busy master", || master() == "qpsmtpd master, generation 1, 1/4 busy");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("a reload", || master() == "qpsmtpd master, generation 2, 1/4 busy");
    client.expect(250, "Subject: x\r\n\r\nText.\r\n.").expect(221, "QUIT");
    eventually("nothing to do", || master() == "qpsmtpd master, generation 2, 0/4 busy");
}

#[test]
fn without_it_they_keep_their_command_line() {
    let _user = settled();
    let daemon = Daemon::start(&[]);
    let line = command_line(daemon.pid());
    assert!(line.contains("qpsmtpd-prefork --no-rdns --listen-address"), "{line}");
}
