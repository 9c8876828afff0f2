//! A configuration that the user who serves may not look into: it is not an empty one.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::harness::{Daemon, Site};
use crate::process::Process;

/// A folder that nobody may look into but root, as long as this lives.
struct Shut<'a>(&'a Path);

impl Shut<'_> {
    fn new(folder: &Path) -> Shut<'_> {
        set_permissions(folder, Permissions::from_mode(0o600)).expect("mode");
        Shut(folder)
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        set_permissions(self.0, Permissions::from_mode(0o755)).expect("mode");
    }
}

/// Started with `options`, it says that it cannot look into ./config, and ends.
fn does_not_start(site: &Site, options: &[&str]) {
    let mut command = site.program("qpsmtpd-prefork");
    command.args(["--listen-address", "127.0.0.1:0"]).args(options);
    let mut process = Process::start(&mut command);
    assert_eq!(process.wait().code(), Some(78), "{:#?}", process.lines());
    process.wait_for("config: cannot look into this folder: Permission denied");
}

#[test]
fn the_daemon_does_not_start_without_its_configuration() {
    let site = Site::new();
    let config = site.path().join("config");
    let shut = Shut::new(&config);
    does_not_start(&site, &[]);
    does_not_start(&site, &["--config", "config"]);
    drop(shut);
    // somebody else could not even go there
    if Uid::effective().is_root() {
        let _shut = Shut::new(site.path());
        does_not_start(&site, &[]);
    }
}

#[test]
fn a_reload_does_not_take_away_the_configuration() {
    let daemon = Daemon::start(&[]);
    let config = daemon.site.path().join("config");
    let _shut = Shut::new(&config);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reload failed, generation 1 serves on");
    daemon.wait_for("config: cannot look into this folder: Permission denied");
    // what its folder says is unknown, and so it puts off whom it cannot decide about
    let mut client = daemon.client();
    client
        .expect(250, "EHLO client.example.net")
        .expect(250, "MAIL FROM:<>");
    client.expect(450, "RCPT TO:<user@example.com>");
}
