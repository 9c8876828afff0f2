//! A log that cannot be written loses no mail and stops nobody, and standard error says what is wrong.

use std::fs;

use crate::harness::{Daemon, Site};

/// A daemon whose log goes there.
fn daemon(site: Site, target: &str) -> Daemon {
    site.config("logging", &format!("logging/file loglevel 7 {target}\n"));
    Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "2"])
}

/// Says so much that no pipe holds the records of it, and delivers a message.
fn goes_on(daemon: &Daemon, complaint: &str) {
    let mut client = daemon.client();
    let long = format!("NOOP {}", "x".repeat(1500));
    for _ in 0..60 {
        client.expect(250, &long);
    }
    assert_eq!(client.message("logged or not"), 250);
    client.expect(221, "QUIT");
    daemon.wait_for(complaint);
    assert_eq!(daemon.site.messages().len(), 1);
    // the records are on standard error instead
    daemon.wait_for("dispatching QUIT");
}

#[test]
fn the_disk_is_full() {
    goes_on(
        &daemon(Site::new(), "/dev/full"),
        "logging/file: No space left on device",
    );
}

#[test]
fn the_program_does_not_read() {
    let site = Site::new();
    // it ends with the daemon
    let idle = "while grep -q '^State:.[^ZX]' /proc/$PPID/status; do sleep 0.1; done 2>/dev/null\n";
    fs::write(site.path().join("idle"), idle).expect("written");
    goes_on(&daemon(site, "|. ./idle"), "logging/file: nobody reads from the pipe");
}

#[test]
fn the_program_has_ended() {
    goes_on(&daemon(Site::new(), "|exit 0"), "logging/file: Broken pipe");
}

#[test]
fn the_folder_has_vanished() {
    let site = Site::new();
    let folder = site.path().join("logs");
    let daemon = daemon(site, "reopen ./logs/all");
    fs::remove_dir_all(&folder).expect("removed");
    // nor can it be made again
    fs::write(&folder, "no folder").expect("written");
    goes_on(&daemon, "logging/file: ./logs/all: ");
}
