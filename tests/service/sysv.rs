//! The script for System V init: every action, and the exit codes of the LSB.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::account::settled;
use crate::place::{Place, client, lives, project};
use crate::process::eventually;

struct Script {
    place: Place,
}

impl Script {
    fn command(&self, action: &str) -> Command {
        // not by its path: another user may not come so far
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(std::fs::read_to_string(project().join("bin/service/qpsmtpd.init")).expect("the script"));
        command.args(["qpsmtpd.init", action]).env("DIR", self.place.path());
        command.env("PIDFILE", self.place.path().join("pid")).current_dir("/");
        command
    }

    fn run(&self, action: &str) -> Output {
        self.command(action).output().expect("run")
    }

    /// The exit code of an action, and what it has said.
    fn code(&self, action: &str) -> (Option<i32>, String) {
        let output = self.run(action);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    fn expect(&self, code: i32, action: &str) -> String {
        let (real, said) = self.code(action);
        assert_eq!(real, Some(code), "{action}: {said}");
        said
    }

    fn master(&self) -> Pid {
        let text = std::fs::read_to_string(self.place.path().join("pid")).expect("the pid file");
        Pid::from_raw(text.trim().parse().expect("a pid"))
    }

    fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log/qpsmtpd.log")).unwrap_or_default()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.run("stop");
    }
}

fn address(said: &str) -> std::net::SocketAddr {
    let line = said.lines().find_map(|line| line.strip_prefix("listening on "));
    line.expect("a listener").parse().expect("an address")
}

#[test]
fn every_action_and_every_exit_code() {
    if !Uid::effective().is_root() {
        return eprintln!("SKIPPED: not root");
    }
    let _user = settled();
    let script = Script {
        place: Place::new("qpsmtpd"),
    };
    let log = script.place.path().join("log");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&log, all).expect("permissions");
    script.place.config(
        "logging",
        &format!("logging/file loglevel LOGINFO {}/qpsmtpd.log\n", log.display()),
    );

    script.expect(3, "status");
    script.expect(0, "stop");
    script.expect(7, "reload");
    script.expect(0, "try-restart");
    script.expect(3, "status");
    script.expect(2, "no-such-action");
    script.expect(0, "configtest");

    let said = script.expect(0, "start");
    assert!(!said.contains("no logging plugin"), "{said}");
    assert_eq!(client(address(&said)).message("under init"), 250);
    script.expect(0, "status");
    assert!(script.expect(0, "start").contains("is running"));
    // whoever could read the pid file could lock it
    let stranger = script.command("status").uid(65534).gid(65534).output().expect("run");
    assert_eq!(stranger.status.code(), Some(4), "unknown to others: {stranger:?}");
    let master = script.master();

    script.expect(0, "reload");
    eventually("a reload", || script.daemon_log().contains("reloaded, generation 2"));
    script.place.config("plugins", "no_such_thing\n");
    for action in ["configtest", "reload", "force-reload", "restart", "try-restart"] {
        let said = script.expect(6, action);
        assert!(said.contains("config/plugins:1:1: "), "{said}");
    }
    assert_eq!(script.master(), master, "it runs on");
    script.place.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");

    let said = script.expect(0, "restart");
    eventually("its end", || !lives(master));
    assert_eq!(client(address(&said)).message("restarted"), 250);

    // Killed, it leaves its file behind, which the next one replaces.
    let master = script.master();
    kill(master, Signal::SIGKILL).expect("kill");
    eventually("its end", || !lives(master));
    script.expect(1, "status");
    let said = script.expect(0, "start");
    assert_eq!(client(address(&said)).message("after a crash"), 250);
    script.expect(0, "stop");
    script.expect(3, "status");
    assert_eq!(script.place.messages(), 3);
}

#[test]
fn what_is_missing_or_faulty_has_its_code() {
    let _user = settled();
    let place = Place::new("qpsmtpd");
    let script = Script { place };
    script.place.config("plugins", "no_such_thing\n");
    if Uid::effective().is_root() {
        script.expect(6, "start");
    } else {
        script.expect(4, "start");
    }
    std::fs::remove_file(script.place.path().join("bin/qpsmtpd-prefork")).expect("remove");
    script.expect(5, "start");
    script.expect(5, "stop");
    script.expect(3, "status");
}
