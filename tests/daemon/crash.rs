//! Workers that crash: what is recorded, and that a message that kills them does so twice at most.

use std::io::Read;
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};

use crate::harness::{Client, Daemon, Site};
use crate::process::eventually;

/// A message at whose delivery the worker is killed: recorded twice, then put off and kept.
#[test]
fn a_message_that_kills_is_set_aside() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("address").port();
    let site = Site::new();
    site.config("plugins", &format!("rcpt_ok\nqueue/smtp-forward 127.0.0.1 {port}\n"));
    site.config("spool_dir", "./spool\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "1"]);
    let send = |subject: &str| -> Client {
        let mut client = daemon.client();
        client
            .begin_message()
            .send(&format!("Subject: {subject}\r\n\r\nText.\r\n.\r\n"));
        client
    };
    for _ in 0..2 {
        let mut client = send("deadly");
        // The worker waits for this server when it is killed.
        let _next = silent.accept().expect("a connection");
        let worker = daemon.workers()[0];
        kill(worker, Signal::SIGKILL).expect("kill");
        assert_eq!(client.reply().0, 0);
        let record = daemon.wait_for(&format!("crash of {worker}: "));
        assert!(record.contains(" with 127.0.0.1:"), "{record}");
        assert!(
            record.contains("at decide, in queue::smtp_2dforward at hook queue, message "),
            "{record}"
        );
    }
    let (code, text) = send("deadly").reply();
    assert_eq!(code, 451, "{text}");
    daemon.wait_for("workers crashed over this message; put off, a copy is deadly-");
    let spool = std::fs::read_dir(daemon.site.path().join("spool")).expect("the spool");
    let paths = spool.map(|entry| entry.expect("an entry").path());
    let names: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains("/deadly-"))
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let kept = std::fs::read_to_string(&names[0]).expect("the copy");
    assert!(kept.contains("Subject: deadly\n\nText.\n"), "{kept}");
    // Another message goes its way.
    let _client = send("harmless");
    silent.accept().expect("a connection");
}

/// A worker that dies of a fault while it decides a message, or between two commands, says so.
#[test]
fn the_client_of_a_worker_that_crashes_gets_421() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("address").port();
    let site = Site::new();
    site.config("plugins", &format!("rcpt_ok\nqueue/smtp-forward 127.0.0.1 {port}\n"));
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "1"]);
    let mut client = daemon.client();
    client.begin_message().send("Subject: x\r\n\r\nText.\r\n.\r\nNOOP\r\n");
    let (mut next, _) = silent.accept().expect("a connection");
    kill(daemon.workers()[0], Signal::SIGSEGV).expect("kill");
    let (code, text) = client.reply();
    assert_eq!(code, 421, "{text}");
    assert!(text.starts_with("4.3.0 "), "{text}");
    assert!(client.is_closed());
    daemon.wait_for("in queue::smtp_2dforward at hook queue, message ");
    // the words are for the client alone
    let mut heard = Vec::new();
    let _ = next.read_to_end(&mut heard);
    assert_eq!(heard, b"");

    let mut idle = daemon.client();
    kill(daemon.workers()[0], Signal::SIGABRT).expect("kill");
    assert_eq!(idle.reply().0, 421);
    assert!(idle.is_closed());
}

#[test]
fn who_is_told_to_leave_has_not_crashed() {
    let mut daemon = Daemon::start(&["--children", "1"]);
    let _client = daemon.client();
    let worker = daemon.workers()[0];
    kill(worker, Signal::SIGTERM).expect("signal");
    eventually("it leaves", || !daemon.workers().contains(&worker));
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert!(daemon.lines().iter().all(|line| !line.contains("crash of")));
}
