//! What the daemon tells a service manager that wants to be told (sd_notify(3)): a socket in the place of systemd's.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::Signal;

use crate::account::settled;
use crate::harness::{Daemon, Site};
use crate::process::PATIENCE;

/// The end of systemd.
struct Manager(UnixDatagram);

impl Manager {
    fn hears(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a message in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// The next message that is no sign of life.
    fn news(&self) -> String {
        loop {
            let message = self.next();
            if !message.starts_with("WATCHDOG=1\n") {
                return message;
            }
        }
    }
}

fn start(site: Site, name: &str, more: &[(&str, &str)]) -> Daemon {
    let mut command = site.program("qpsmtpd-prefork");
    command.args(["--no-rdns", "--listen-address", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", name).envs(more.iter().copied());
    Daemon::run(site, &mut command)
}

#[test]
fn systemd_is_told_of_start_reload_and_end() {
    let _user = settled();
    let site = Site::new();
    let path = site.path().join("notify");
    let manager = Manager::hears(UnixDatagram::bind(&path).expect("bind"));
    let all = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, all).expect("permissions");
    let watchdog = [("WATCHDOG_USEC", "20000")];
    let mut daemon = start(site, path.to_str().expect("a path"), &watchdog);
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\nSTATUS=generation 1, "), "{ready}");
    for _ in 0..3 {
        let sign = manager.next();
        assert!(sign.starts_with("WATCHDOG=1\nSTATUS=generation 1, "), "{sign}");
    }

    daemon.signal(Signal::SIGHUP);
    let reloading = manager.news();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let since = since
        .and_then(|rest| rest.lines().next())
        .and_then(|text| text.parse::<u64>().ok());
    assert!(since.is_some_and(|microseconds| microseconds > 0), "{reloading}");
    let ready = manager.news();
    assert!(ready.starts_with("READY=1\nSTATUS=generation 2, "), "{ready}");

    daemon.site.config("plugins", "no_such_thing\n");
    daemon.signal(Signal::SIGHUP);
    assert!(manager.news().starts_with("RELOADING=1\n"));
    let failed = manager.news();
    assert!(failed.starts_with("READY=1\nSTATUS=generation 2, "), "{failed}");
    assert!(failed.contains("the last reload failed"), "{failed}");

    daemon.signal(Signal::SIGTERM);
    let stopping = manager.news();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn abstract_sockets_will_do_and_nobody_asks_for_signs_of_life() {
    let _user = settled();
    let name = format!("qpsmtpd-service-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::hears(UnixDatagram::bind_addr(&address).expect("bind"));
    // Meant for another process.
    let watchdog = [("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")];
    let mut daemon = start(Site::new(), &format!("@{name}"), &watchdog);
    assert!(manager.next().starts_with("READY=1\n"));
    daemon.signal(Signal::SIGTERM);
    let stopping = manager.next();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert_eq!(daemon.wait().code(), Some(0));
}
