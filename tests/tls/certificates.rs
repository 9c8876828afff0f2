//! Certificates and keys: faults at the start, root's keys, renewal.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Client, settings};
use crate::harness::{Daemon, Site};
use crate::place::{PLUGINS, certificate, file, serve, site};
use crate::process::{Process, eventually};

/// What a daemon says that does not start.
fn refused(site: &Site) -> String {
    let mut process = Process::start(site.program("qpsmtpd-prefork").args(["--port", "0"]));
    assert_eq!(process.wait().code(), Some(78));
    process.lines().join("\n")
}

#[test]
fn faulty_files_keep_the_daemon_from_starting() {
    let site = site();
    let named = |key: &str| PLUGINS.replace("tls", &format!("tls ssl/qpsmtpd-server.crt {key}"));
    site.config("plugins", &named("ssl/missing.key"));
    let told = refused(&site);
    assert!(
        told.contains("config/plugins:1:28: tls: ssl/missing.key: cannot be read: No such file"),
        "{told}"
    );
    assert!(
        told.contains("\n                               ^~~~") && !told.contains("not offered"),
        "{told}"
    );
    site.config("plugins", &named("ssl/qpsmtpd-ca.key"));
    let told = refused(&site);
    assert!(
        told.contains("ssl/qpsmtpd-ca.key: is not the key of ssl/qpsmtpd-server.crt"),
        "{told}"
    );
    site.config("plugins", &named("ssl/qpsmtpd-server.key"));
    site.config("tls_protocols", "TLSv1\n");
    let told = refused(&site);
    assert!(
        told.contains("config/tls_protocols:1:1: tls: no protocol is left"),
        "{told}"
    );
}

#[test]
fn a_listener_with_tls_needs_a_certificate() {
    let site = Site::new();
    let mut process = Process::start(
        site.program("qpsmtpd-prefork")
            .args(["--listen-address", "smtps://127.0.0.1:0"]),
    );
    assert_eq!(process.wait().code(), Some(78));
    let told = process.lines().join("\n");
    assert!(told.contains("127.0.0.1:0 is to begin with TLS"), "{told}");
}

/// Whether a client that knows the CA of the site gets through.
fn is_trusted(daemon: &Daemon) -> bool {
    let settings = settings(&daemon.site, false);
    Client::connect(daemon.addresses[1]).try_encrypt(settings).is_ok()
}

#[test]
fn a_renewed_certificate_is_taken_at_hup() {
    let daemon = serve(site());
    assert!(is_trusted(&daemon));
    // of another CA
    for end in ["key", "crt"] {
        fs::remove_file(file(&daemon.site, &format!("ssl/qpsmtpd-ca.{end}"))).expect("removed");
    }
    certificate(&daemon.site, "ssl", &["--force"]);
    // the user who serves may have to read it
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(file(&daemon.site, "ssl/qpsmtpd-server.key"), readable).expect("permissions");
    assert!(!is_trusted(&daemon));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
    // a worker of before may serve one more
    eventually("the new certificate is shown", || is_trusted(&daemon));
    // what is faulty leaves everything as it was
    fs::write(file(&daemon.site, "ssl/qpsmtpd-server.key"), "no key").expect("written");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reload failed, generation 2 serves on");
    assert!(is_trusted(&daemon));
}

#[test]
fn root_s_keys_are_read_before_root_is_given_up() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give up root");
        return;
    }
    let site = site();
    let key = file(&site, "ssl/qpsmtpd-server.key");
    let mode = fs::metadata(&key).expect("the key").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    chown(&key, Some(0), Some(0)).expect("root's");
    let daemon = serve(site);
    assert!(is_trusted(&daemon));
    // nothing has changed: nothing to say
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
    assert!(daemon.lines().iter().all(|line| !line.contains("cannot be read")));
    assert!(is_trusted(&daemon));
    // a renewal that only root can read
    certificate(&daemon.site, "ssl", &["--force"]);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 3");
    daemon.wait_for("ssl/qpsmtpd-server.key: cannot be read: Permission denied");
    daemon.wait_for("what was read before is used on");
    assert!(is_trusted(&daemon));
}

/// Ends the last of those who have taken over.
struct Successor(Pid);

impl Successor {
    /// Starts one, and waits until it serves.
    fn of(daemon: &Daemon, master: Pid) -> Successor {
        let upgraded = || {
            let lines = daemon.lines();
            let mut told = lines
                .iter()
                .filter(|line| line.starts_with(&format!("{master} upgraded: process ")));
            told.next()?.split_whitespace().nth(3)?.parse().ok()
        };
        kill(master, Signal::SIGUSR2).expect("signal");
        eventually("an upgrade", || {
            let failed = daemon.lines().iter().any(|line| line.contains("upgrade failed"));
            assert!(!failed, "{:#?}", daemon.lines());
            upgraded().is_some()
        });
        Successor(Pid::from_raw(upgraded().expect("an upgrade")))
    }

    /// What it has open.
    fn open(&self) -> Vec<String> {
        let folder = format!("/proc/{}/fd", self.0);
        let links = fs::read_dir(folder).expect("descriptors").flatten();
        links
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
            .collect()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGINT);
    }
}

#[test]
fn root_s_keys_go_with_an_upgrade_by_another_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give up root");
        return;
    }
    let site = site();
    let key = file(&site, "ssl/qpsmtpd-server.key");
    chown(&key, Some(0), Some(0)).expect("root's");
    assert_eq!(fs::metadata(&key).expect("the key").permissions().mode() & 0o777, 0o600);
    let daemon = serve(site);
    assert!(is_trusted(&daemon));
    let first = Successor::of(&daemon, daemon.pid());
    daemon.wait_for(&format!("{} Running as user nobody", first.0));
    eventually("the former master ends", || {
        daemon.lines().iter().any(|line| line.contains("all workers are gone"))
    });
    assert!(is_trusted(&daemon), "the key was handed over");
    let open = first.open();
    assert!(open.iter().any(|name| name.contains("qpsmtpd board")), "{open:?}");
    assert!(
        !open.iter().any(|name| name.contains("qpsmtpd keys")),
        "it is read and gone: {open:?}"
    );
    // as before: a renewal that cannot be read is told, and the old key stays
    let renewed = fs::read(&key).expect("the key");
    fs::write(&key, renewed).expect("written");
    kill(first.0, Signal::SIGHUP).expect("signal");
    daemon.wait_for("what was read before is used on");
    // and so on to the next
    let second = Successor::of(&daemon, first.0);
    assert!(is_trusted(&daemon));
    drop((first, second));
}
