//! SIGUSR2: another program takes the daemon's place and no client notices; one that fails does not.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::harness::{Client, Daemon, Site};
use crate::process::eventually;

/// A daemon that others take over from; the last of them is ended when this is dropped.
struct Line(Daemon);

impl Line {
    /// Starts the program at `release` in the site's directory, which is a link to the present release.
    fn start(options: &[&str]) -> Line {
        let site = Site::new();
        let path = site.path().to_owned();
        release(&path, Path::new(env!("CARGO_BIN_EXE_qpsmtpd-prefork")));
        let mut command = Command::new(path.join("release"));
        command.current_dir(&path).env_clear().env("HOME", &path);
        command.env("PATH", "/usr/bin:/bin");
        command
            .args(["--listen-address", "127.0.0.1:0", "--no-rdns"])
            .args(options);
        Line(Daemon::run(site, &mut command))
    }

    /// Those who have taken over, the last one last.
    fn masters(&self) -> Vec<Pid> {
        let lines = self.0.lines();
        let told = lines.iter().filter_map(|line| {
            let (_, rest) = line.split_once("upgraded: process ")?;
            rest.split_once(' ')?.0.parse().ok()
        });
        std::iter::once(self.0.pid()).chain(told.map(Pid::from_raw)).collect()
    }

    fn master(&self) -> Pid {
        self.masters().pop().expect("the first")
    }

    /// Upgrades and returns the new master.
    fn upgrade(&self) -> Pid {
        let before = self.masters().len();
        kill(self.master(), Signal::SIGUSR2).expect("signal");
        eventually("an upgrade", || self.masters().len() > before);
        self.master()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for master in self.masters() {
            // those that have ended already are not there any more
            let _ = kill(master, Signal::SIGINT);
        }
    }
}

fn release(place: &Path, program: &Path) {
    let fresh = place.join("fresh");
    symlink(program, &fresh).expect("link");
    std::fs::rename(fresh, place.join("release")).expect("rename");
}

#[test]
fn no_connection_fails_while_upgrading() {
    let line = Line::start(&["--children", "8", "--max-from-ip", "0", "--lifetime", "50"]);
    let address = line.0.addresses[0];
    let upgrades = AtomicU32::new(0);
    let served = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while upgrades.load(SeqCst) < 4 {
                    let mut client = Client::connect(address);
                    assert_eq!(client.reply().0, 220);
                    client.expect(250, "HELO client.example.net").expect(221, "QUIT");
                    assert!(client.is_closed());
                    served.fetch_add(1, SeqCst);
                }
            });
        }
        for _ in 0..4 {
            let before = served.load(SeqCst);
            line.upgrade();
            eventually("sessions", || served.load(SeqCst) > before + 20);
            upgrades.fetch_add(1, SeqCst);
        }
    });
    eventually("the former masters end", || {
        let lines = line.0.lines();
        lines
            .iter()
            .filter(|line| line.contains("all workers are gone"))
            .count()
            == 4
    });
    assert_eq!(line.masters().len(), 5);
}

#[test]
fn a_session_goes_on_and_its_master_ends_with_it() {
    let line = Line::start(&["--children", "2", "--idle-children", "1", "--pid-file", "pid"]);
    let pid_file = line.0.site.path().join("pid");
    let pid = || {
        std::fs::read_to_string(&pid_file)
            .expect("pid file")
            .trim()
            .parse()
            .map(Pid::from_raw)
    };
    assert_eq!(pid(), Ok(line.master()));
    let mut old = line.0.client();
    old.begin_message();
    let new = line.upgrade();
    assert_eq!(pid(), Ok(new));
    assert_eq!(line.0.client().message("new"), 250);
    assert_eq!(old.say("Subject: old\r\n\r\nText.\r\n."), 250);
    assert!(!line.0.lines().iter().any(|line| line.contains("all workers are gone")));
    old.expect(221, "QUIT");
    line.0.wait_for("all workers are gone");
    assert_eq!(line.0.client().message("newer"), 250);
    assert_eq!(pid(), Ok(new), "the former master leaves the file alone");
    assert_eq!(line.0.site.messages().len(), 3);
}

#[test]
fn if_the_new_one_fails_the_old_one_serves_on() {
    let line = Line::start(&["--children", "2", "--pid-file", "pid"]);
    let place = line.0.site.path().to_owned();
    let old = line.master();
    let fails = |words: &str| {
        kill(old, Signal::SIGUSR2).expect("signal");
        line.0.wait_for(words);
        assert_eq!(line.0.client().message("still"), 250);
        assert_eq!(
            std::fs::read_to_string(place.join("pid")).expect("pid file").trim(),
            old.to_string()
        );
    };
    line.0.site.config("plugins", "no_such_plugin\n");
    fails("upgrade failed, this master serves on");
    // to stderr, and in the log of the one who serves on
    eventually("the fault", || {
        line.0
            .lines()
            .iter()
            .filter(|line| line.contains("no_such_plugin"))
            .count()
            >= 2
    });
    line.0.site.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");
    release(&place, Path::new("/bin/false"));
    fails("the new program ended before it served");
    release(&place, &place.join("nowhere/qpsmtpd-prefork"));
    fails("/release: No such file");
    release(&place, Path::new(env!("CARGO_BIN_EXE_qpsmtpd-prefork")));
    assert_ne!(line.upgrade(), old);
    assert_eq!(line.0.client().message("new"), 250);
}

/// A service manager watches over its own children alone.
#[test]
fn the_new_master_is_no_child_of_the_old_one() {
    let line = Line::start(&["--children", "2"]);
    let old = line.master();
    let mut held = line.0.client();
    let new = line.upgrade();
    let status = std::fs::read_to_string(format!("/proc/{new}/status")).expect("status");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    assert!(parent.is_some_and(|pid| pid != old.to_string()), "{status}");
    assert!(Path::new(&format!("/proc/{old}")).exists());
    held.expect(221, "QUIT");
}

#[test]
fn the_end_of_the_new_master_is_that_of_the_old_one() {
    let line = Line::start(&["--children", "4"]);
    let mut busy = line.0.client();
    busy.begin_message();
    let mut idle = line.0.client();
    let new = line.upgrade();
    let mut fresh = line.0.client();
    fresh.begin_message();
    kill(new, Signal::SIGTERM).expect("signal");
    assert_eq!(idle.reply().0, 421);
    assert_eq!(fresh.say("Subject: fresh\r\n\r\nText.\r\n."), 250);
    assert_eq!(fresh.reply().0, 421);
    // the new one waits for the session of the old one
    assert_eq!(busy.say("Subject: busy\r\n\r\nText.\r\n."), 250);
    let ended = || {
        let lines = line.0.lines();
        let ends = lines.iter().filter(|line| line.contains("all workers are gone"));
        ends.map(|line| line.split(' ').next().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    eventually("both end", || ended().len() == 2);
    assert_eq!(ended(), [line.masters()[0].to_string(), new.to_string()]);
    assert_eq!(line.0.site.messages().len(), 2);
}

#[test]
fn who_ends_takes_a_new_one_that_hangs_along() {
    let mut line = Line::start(&["--children", "2"]);
    let place = line.0.site.path().to_owned();
    let hangs = place.join("hangs");
    std::fs::write(&hangs, "#!/bin/sh\necho it hangs >&2\nexec sleep 1000\n").expect("write");
    std::fs::set_permissions(&hangs, PermissionsExt::from_mode(0o755)).expect("mode");
    release(&place, &hangs);
    line.0.signal(Signal::SIGUSR2);
    line.0.wait_for("it hangs");
    assert_eq!(line.0.client().message("meanwhile"), 250);
    line.0.signal(Signal::SIGTERM);
    // it shares the standard error whose end is waited for here
    assert!(line.0.wait().success());
}

/// Limits hold over both masters, whichever of them serves.
#[test]
fn sessions_and_rates_are_counted_on() {
    let limits = ["--max-from-ip", "4", "--max-per-listener", "6", "--children", "8"];
    let line = Line::start(&limits);
    line.0.site.config("message_rate", "3/3600\n");
    let address = line.0.addresses[0];
    let from = |last: u8| Client::connect_from([127, 0, 0, last].into(), address);
    let greeted = |last: u8| {
        let mut client = from(last);
        assert_eq!(client.reply().0, 220);
        client
    };
    assert_eq!(line.0.client().message("one"), 250);
    let mut held = vec![greeted(1), greeted(1), greeted(1)];
    line.upgrade();
    held.push(greeted(1));
    assert_eq!(from(1).reply().0, 451, "three with the old master, one with the new");
    held.push(greeted(2));
    held.push(greeted(2));
    assert_eq!(from(3).reply().0, 421, "six by this listener");
    held.remove(0).expect(221, "QUIT");
    eventually("its seat is free", || from(1).reply().0 == 220);
    // two messages are left of the rate, in sessions of either master
    assert_eq!(held[0].message("two"), 250);
    held.pop();
    eventually("room by the listener", || {
        let mut client = from(1);
        let in_ = client.reply().0 == 220;
        in_.then(|| assert_eq!(client.message("three"), 250));
        in_
    });
    held[1].expect(250, "EHLO client.example.net");
    assert_eq!(held[1].say("MAIL FROM:<>") / 100, 4, "the rate is used up");
    let counted = line.0.fact("accepted");
    assert_eq!(counted, "3", "by both");
}

/// The old master dies before its sessions end: no seat of theirs stays taken.
#[test]
fn a_former_master_that_is_killed_leaks_no_seat() {
    let line = Line::start(&["--max-from-ip", "3", "--children", "4"]);
    let old = line.master();
    let _held: Vec<Client> = (0..3).map(|_| line.0.client()).collect();
    let workers = line.0.workers();
    line.upgrade();
    assert_eq!(line.0.connect().reply().0, 451);
    // its workers die while it cannot clear up after them, and so does it before it can
    kill(old, Signal::SIGSTOP).expect("stop");
    for worker in &workers {
        // one that waited for a connection has gone by itself
        let _ = kill(*worker, Signal::SIGKILL);
    }
    assert_eq!(line.0.connect().reply().0, 451, "the seats are still taken");
    kill(old, Signal::SIGKILL).expect("kill");
    line.0.wait_for("of the dead master");
    let mut three: Vec<Client> = Vec::new();
    eventually("their seats are free", || line.0.fact("sessions") == "0");
    for _ in 0..3 {
        three.push(line.0.client());
    }
    assert_eq!(line.0.connect().reply().0, 451);
    assert_eq!(three[0].message("served"), 250);
}

#[test]
fn counts_go_on_and_what_is_laid_out_otherwise_begins_anew() {
    let line = Line::start(&["--children", "2"]);
    assert_eq!(line.0.client().message("counted"), 250);
    let plugins = || line.0.rows(&["plugins"]);
    let of = |rows: &[Vec<String>], plugin: &str| rows.iter().find(|row| row[0] == plugin).map(|row| row[2].clone());
    eventually("the counts", || of(&plugins(), "queue::maildir") == Some("1".into()));
    // another plugin comes first, and the numbers of the others stay theirs
    line.0
        .site
        .config("plugins", "noop_counter\nrcpt_ok\nqueue/maildir ./Maildir\n");
    line.upgrade();
    assert_eq!(line.0.client().message("counted too"), 250);
    eventually("the counts", || of(&plugins(), "queue::maildir") == Some("2".into()));
    assert_eq!(
        (line.0.fact("accepted"), line.0.fact("connections")),
        ("2".into(), "2".into())
    );
    // a release with another layout: here, more workers
    let script = "#!/bin/sh\nexec PROGRAM \"$@\" --sessions 2\n";
    let other = line.0.site.path().join("other");
    std::fs::write(&other, script.replace("PROGRAM", env!("CARGO_BIN_EXE_qpsmtpd-prefork"))).expect("write");
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o755)).expect("mode");
    release(line.0.site.path(), &other);
    line.upgrade();
    line.0
        .wait_for("board of the former master cannot be used, and begin anew: it is laid out as ");
    assert_eq!(line.0.client().message("served"), 250);
    assert_eq!(line.0.fact("accepted"), "3");
}

#[test]
fn qpsmtpctl_waits_for_the_new_master_and_speaks_to_it() {
    let line = Line::start(&["--children", "2"]);
    let ask = |word: &str| {
        let output = line
            .0
            .site
            .program("qpsmtpctl")
            .args(word.split(' '))
            .output()
            .expect("qpsmtpctl");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    line.0.site.config("plugins", "no_such_plugin\n");
    let (code, _, why) = ask("upgrade");
    assert_eq!(code, Some(1));
    assert!(
        why.starts_with("not upgraded\n") && why.contains("no_such_plugin"),
        "{why}"
    );
    line.0.site.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");
    let mut old = line.0.client();
    let (code, told, why) = ask("upgrade");
    assert_eq!(code, Some(0), "{why}");
    // the answer may come before the line of the log
    eventually("the log", || line.masters().len() > 1);
    assert_eq!(told, format!("process {} serves\n", line.master()));
    // The new master has the socket, and keeps it when the old one ends.
    let sessions = ask("list").1;
    assert!(
        sessions.contains("127.0.0.1"),
        "also those of the old master: {sessions}"
    );
    let mut other = line.0.client();
    assert_eq!(ask("kill 1").1, "1 session killed\n");
    assert_eq!(old.reply().0, 550, "by the new master");
    other.expect(221, "QUIT");
    line.0.wait_for("all workers are gone");
    let (code, _, why) = ask("status");
    assert_eq!(code, Some(0), "{why}");
}

#[test]
fn a_socket_that_belongs_to_another_user_is_handed_on() {
    if !Uid::effective().is_root() {
        return eprintln!("SKIPPED: not root");
    }
    let place = Site::empty();
    let path = place.path().join("lmtp");
    let socket = format!("unix:{}", path.display());
    let line = Line::start(&["--listen-address", &socket, "--socket-owner", "daemon"]);
    let owner = std::fs::metadata(&path).expect("the socket").uid();
    assert_ne!(owner, 0);
    line.upgrade();
    assert_eq!(Client::connect_unix(&path).reply().0, 220);
    assert_eq!(std::fs::metadata(&path).expect("the socket").uid(), owner);
}
