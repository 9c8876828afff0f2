//! Canaries: a new configuration is given to some workers first, and their sessions decide.

use std::process::{Child, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::Daemon;
use crate::process::eventually;

/// Nobody decides about recipients with these, so that all are put off.
const PUTS_OFF: &str = "queue/maildir ./Maildir\n";
const SOUND: &str = "rcpt_ok\nqueue/maildir ./Maildir\n";

/// qpsmtpctl waiting for the end of a trial.
struct Waiting(Child);

impl Daemon {
    /// Begins a trial with one worker, and waits until that has begun.
    fn try_out(&self, span: &str, generation: u32) -> Waiting {
        let mut command = self.site.program("qpsmtpctl");
        command.args(["reload", "--canary", "1", "--for", span]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let waiting = Waiting(child.expect("qpsmtpctl"));
        self.wait_for(&format!("generation {generation} is on trial: 1 worker for "));
        waiting
    }

    /// A session with a message; the code of what came of its recipient.
    fn session(&self) -> u16 {
        let mut client = self.client();
        client
            .expect(250, "EHLO client.example.net")
            .expect(250, "MAIL FROM:<>");
        let code = client.say("RCPT TO:<user@example.com>");
        if code == 250 {
            client.expect(354, "DATA").expect(250, "Subject: x\r\n\r\ny\r\n.");
        }
        client.expect(221, "QUIT");
        code
    }

    fn generations(&self) -> Vec<String> {
        self.rows(&["workers"]).into_iter().map(|row| row[2].clone()).collect()
    }
}

impl Waiting {
    fn goes_on(&mut self) -> bool {
        self.0.try_wait().expect("wait").is_none()
    }

    fn output(self) -> Output {
        self.0.wait_with_output().expect("qpsmtpctl")
    }

    /// What it complains of.
    fn refused(self) -> String {
        let output = self.output();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

#[test]
fn what_does_no_worse_is_promoted() {
    let daemon = Daemon::start(&["--children", "3", "--idle-children", "2"]);
    assert_eq!(daemon.session(), 250);
    daemon
        .site
        .config("plugins", "noop_counter\nrcpt_ok\nqueue/maildir ./Maildir\n");
    let mut waiting = daemon.try_out("5s", 2);
    while waiting.goes_on() {
        assert_eq!(daemon.session(), 250);
    }
    let output = waiting.output();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.starts_with("generation 2, promoted: no worse in "), "{output:?}");
    assert!(!told.contains(" in 0 sessions"), "they have their share: {told}");
    assert_eq!(
        (daemon.fact("generation"), daemon.fact("on trial")),
        ("2".into(), "-".into())
    );
    eventually("all are of the new one", || {
        daemon.generations().iter().all(|generation| generation == "2")
    });
    daemon.wait_for("generation 2 is promoted");
    assert_eq!(daemon.session(), 250);
}

#[test]
fn what_puts_all_mail_off_is_rolled_back_before_its_time() {
    puts_all_off(&["--children", "3", "--idle-children", "2"]);
}

#[test]
fn so_it_is_with_many_sessions_in_a_worker() {
    puts_all_off(&["--children", "3", "--idle-children", "12", "--sessions", "4"]);
}

fn puts_all_off(options: &[&str]) {
    let daemon = Daemon::start(options);
    for _ in 0..40 {
        assert_eq!(daemon.session(), 250);
    }
    daemon.site.config("plugins", PUTS_OFF);
    let mut waiting = daemon.try_out("1h", 2);
    assert!(
        daemon.fact("on trial").starts_with("generation 2, 1 worker, "),
        "{}",
        daemon.fact("on trial")
    );
    let mut codes = Vec::new();
    while waiting.goes_on() {
        assert!(codes.len() < 1000, "no verdict");
        codes.push(daemon.session());
    }
    assert!(codes.contains(&450) && codes.contains(&250), "{codes:?}");
    let words = waiting.refused();
    assert!(
        words.starts_with("generation 2 is rolled back, generation 1 serves on: "),
        "{words}"
    );
    assert!(words.contains("sessions, the old configuration 0 of "), "{words}");
    daemon.wait_for("generation 2 is rolled back");
    eventually("they are gone", || {
        daemon.generations().iter().all(|generation| generation == "1")
    });
    assert_eq!(daemon.session(), 250);
    // a configuration that comes after it is tried like any other
    daemon.site.config("plugins", SOUND);
    assert_eq!(daemon.told(&["reload"]), "generation 3\n");
}

#[test]
fn a_crash_rolls_back_at_once() {
    let daemon = Daemon::start(&["--children", "3", "--idle-children", "2"]);
    let waiting = daemon.try_out("1h", 2);
    let canary = || daemon.rows(&["workers"]).into_iter().find(|row| row[2] == "2");
    eventually("a worker", || canary().is_some());
    let pid: i32 = canary().expect("a worker")[1].parse().expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    let words = waiting.refused();
    assert!(
        words.contains(&format!("its worker {pid} was killed by SIGKILL")),
        "{words}"
    );
    eventually("the old ones serve", || daemon.generations() == ["1", "1"]);
    assert_eq!(daemon.session(), 250);
}

#[test]
fn another_reload_takes_its_place_if_it_is_sound() {
    let daemon = Daemon::start(&["--children", "3"]);
    let mut first = daemon.try_out("1h", 2);
    daemon.site.config("plugins", "no_such_plugin\n");
    assert!(daemon.refused(&["reload"]).contains("no_such_plugin"));
    assert!(first.goes_on() && daemon.fact("on trial").starts_with("generation 2"));
    daemon.site.config("plugins", SOUND);
    let mut second = daemon.try_out("1h", 3);
    assert!(first.refused().contains("another configuration was loaded meanwhile"));
    assert!(second.goes_on());
    assert_eq!(daemon.told(&["reload", "--canary", "0"]), "generation 4\n");
    assert!(second.refused().contains("generation 3 is rolled back"));
    eventually("all are of the last", || {
        daemon.generations().iter().all(|generation| generation == "4")
    });
}

#[test]
fn an_upgrade_waits_a_drain_does_not_and_a_shutdown_ends_it() {
    let mut daemon = Daemon::start(&["--children", "3"]);
    let mut waiting = daemon.try_out("1h", 2);
    assert!(daemon.refused(&["upgrade"]).contains("a configuration is on trial"));
    assert_eq!(daemon.told(&["drain"]), "no session is left\n");
    assert!(waiting.goes_on());
    daemon.told(&["continue"]);
    assert_eq!(daemon.session(), 250);
    daemon.told(&["shutdown"]);
    assert!(
        waiting
            .refused()
            .contains("the trial is broken off: the daemon is ending")
    );
    assert!(daemon.wait().success());
}

#[test]
fn hup_tries_as_the_options_say() {
    let daemon = Daemon::start(&["--children", "3", "--canary", "2", "--canary-for", "1"]);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("generation 2 is on trial: 2 workers for 1 s");
    daemon.wait_for("generation 2 is promoted: no worse in 0 sessions");
    assert!(
        daemon
            .refused(&["reload", "--canary", "3"])
            .contains("at least one has to keep the old")
    );
    let mut command = daemon.site.program("qpsmtpd-prefork");
    let output = command
        .args(["--canary", "15", "--listen-address", "127.0.0.1:0"])
        .output();
    let output = output.expect("qpsmtpd-prefork");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("there may be 15 in all"),
        "{output:?}"
    );
}
