//! qpsmtpctl and the control socket of a running master.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{Client, Daemon, Site};
use crate::process::{Process, eventually};

impl Daemon {
    fn socket(&self) -> UnixStream {
        UnixStream::connect(self.site.path().join("tmp/control")).expect("the control socket")
    }
}

#[test]
fn the_socket_is_for_its_owner_alone_and_goes_with_the_daemon() {
    let mut daemon = Daemon::start(&["--children", "1"]);
    let path = daemon.site.path().join("tmp/control");
    let seen = std::fs::metadata(&path).expect("the control socket");
    assert!(seen.file_type().is_socket());
    assert_eq!(seen.permissions().mode() & 0o777, 0o600);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    assert!(!path.exists());
}

#[test]
fn a_socket_that_was_left_is_replaced() {
    let daemon = Daemon::start(&["--children", "1"]);
    let path = daemon.site.path().join("tmp/control");
    let kept = std::fs::metadata(&path).expect("the control socket").ino();
    // a second master with the same spool takes its place, and leaves it only to its own end
    let mut command = daemon.site.program("qpsmtpd-prefork");
    let options = ["--no-rdns", "--listen-address", "127.0.0.1:0", "--children", "2"];
    let mut second = Process::start(command.args(options));
    second.ready();
    assert_ne!(std::fs::metadata(&path).expect("the control socket").ino(), kept);
    second.wait_for("another master answers at tmp/control");
    assert_eq!(daemon.fact("most workers"), "2");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("all workers are gone");
    assert_eq!(daemon.fact("state"), "serving");
    second.signal(Signal::SIGTERM);
    assert!(second.wait().success());
    assert!(!path.exists());
}

#[test]
fn without_a_master_or_a_socket_nobody_answers() {
    let daemon = Daemon::start(&["--children", "1", "--control", "none"]);
    assert!(!daemon.site.path().join("tmp/control").exists());
    let output = daemon.ctl(&["status"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tmp/control"));
}

#[test]
fn shows_sessions_workers_counts_and_limits() {
    let site = Site::new();
    site.config("message_rate", "100/60\n");
    let options = ["--children", "3", "--idle-children", "1"];
    let daemon = Daemon::serve(site, &[&["--listen-address", "127.0.0.1:0"][..], &options].concat());
    assert_eq!(daemon.client().message("counted"), 250);
    let mut client = daemon.client();
    client
        .expect(250, "EHLO client.example.net")
        .expect(250, "MAIL FROM:<>");
    client
        .expect(250, "RCPT TO:<user@example.com>")
        .expect(550, "RCPT TO:<user@elsewhere.example>");
    eventually("one session is left", || daemon.rows(&["list"]).len() == 1);

    let sessions = daemon.rows(&["list"]);
    assert_eq!(
        (&*sessions[0][2], &*sessions[0][5]),
        ("127.0.0.1", "rcpt"),
        "{sessions:?}"
    );
    let workers = daemon.rows(&["workers"]);
    let busy = workers
        .iter()
        .find(|worker| worker[3] == "busy")
        .expect("a busy worker");
    assert_eq!(busy[1], sessions[0][1], "the session's worker");
    assert_eq!(busy[4], "1");

    let facts = [
        "state",
        "sessions",
        "connections",
        "accepted",
        "recipients",
        "refused recipients",
    ];
    assert_eq!(
        facts.map(|name| daemon.fact(name)),
        ["serving", "1", "2", "1", "2", "1"]
    );
    assert!(daemon.fact("bytes").parse::<u64>().expect("bytes") > 10);
    let plugins = daemon.rows(&["plugins"]);
    let of = |plugin: &str| plugins.iter().find(|row| row[0] == plugin).expect("a plugin").clone();
    assert_eq!(of("rcpt_ok")[1..6], ["rcpt", "3", "0", "2", "1"], "{plugins:?}");
    assert_eq!(of("queue::maildir")[1..5], ["queue", "1", "0", "1"], "{plugins:?}");
    let limits = daemon.rows(&["limits"]);
    let of = |name: &str| limits.iter().find(|row| row[0] == name).expect("a limit")[1..].join(" ");
    assert!(of("children").starts_with("3 "), "{limits:?}");
    assert_eq!(of("sessions"), "3 1 -");
    assert_eq!(of("max_from_ip"), "10 1 127.0.0.1 (1)");
    assert_eq!(of("max_from_net"), "- 1 127.0.0.0 (1)");
    let here = daemon.addresses[0];
    assert_eq!(of("max_per_listener"), format!("- 1 {here} (1)"));
    assert_eq!(of("message_rate"), "100/60 2 127.0.0.1 (2)");
    assert_eq!(of("connection_rate"), "- 0 -");
    assert!(
        daemon
            .told(&["metrics"])
            .contains("\nqpsmtpd_messages_total{result=\"accepted\"} 1\n")
    );
    let json = daemon.told(&["list", "--json"]);
    assert!(
        json.starts_with("[{\"id\":2,") && json.contains("\"peer\":\"127.0.0.1\""),
        "{json}"
    );
    let top = daemon.told(&["top", "--rounds", "2", "--every", "0"]);
    assert_eq!(top.matches("accepted 1 (0.0/s)").count(), 2, "{top}");
    assert!(
        top.contains("rcpt_ok") && top.contains("127.0.0.1") && !top.contains('\x1b'),
        "{top}"
    );
}

#[test]
fn list_tells_the_oldest_or_the_newest() {
    let daemon = Daemon::start(&["--children", "3"]);
    let _clients: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    let ids = |words: &[&str]| {
        daemon
            .rows(words)
            .into_iter()
            .map(|row| row[0].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&["list"]), ["1", "2", "3"]);
    assert_eq!(ids(&["list", "2"]), ["1", "2"]);
    assert_eq!(ids(&["list", "-2"]), ["3", "2"]);
}

#[test]
fn kill_ends_the_sessions_of_an_address_or_one_with_550() {
    let daemon = Daemon::start(&["--children", "3"]);
    let (mut first, mut second, mut third) = (daemon.client(), daemon.client(), daemon.client());
    assert_eq!(daemon.told(&["kill", "2"]), "1 session killed\n");
    assert_eq!(second.reply().0, 550);
    assert!(second.is_closed());
    first.expect(250, "NOOP");
    eventually("the session is gone", || daemon.rows(&["list"]).len() == 2);
    assert_eq!(daemon.told(&["kill", "127.0.0.1"]), "2 sessions killed\n");
    assert_eq!((first.reply().0, third.reply().0), (550, 550));
    eventually("all sessions are gone", || daemon.fact("sessions") == "0");
    assert!(
        daemon
            .refused(&["kill", "127.0.0.1"])
            .contains("there is no session of 127.0.0.1")
    );
    assert!(daemon.refused(&["kill", "nobody"]).contains("neither"));
    assert_eq!(daemon.fact("killed"), "3");
    daemon.client().expect(250, "NOOP");
}

/// Many more than there would be room for if each had to be read by all sessions.
#[test]
fn any_number_of_kills_is_heard_and_orders_after_them() {
    let daemon = Daemon::start(&["--children", "1", "--sessions", "3", "--lifetime", "10000"]);
    let mut bystander = daemon.client();
    let mut line = BufReader::new(daemon.socket());
    let mut text = String::new();
    line.read_line(&mut text).expect("greeting");
    for number in 2..700 {
        let mut victim = daemon.client();
        let command = format!("kill {number}\n");
        line.get_mut().write_all(command.as_bytes()).expect("send");
        assert_eq!(victim.reply().0, 550);
        text.clear();
        for _ in 0..3 {
            line.read_line(&mut text).expect("answer");
        }
        assert_eq!(text, "ok\n1 session killed\n.\n");
    }
    bystander.expect(250, "NOOP");
    assert_eq!(daemon.told(&["kill", "1"]), "1 session killed\n");
    assert_eq!(bystander.reply().0, 550);
    let mut last = daemon.client();
    assert_eq!(daemon.told(&["shutdown"]), "ending\n");
    assert_eq!(last.reply().0, 421);
}

#[test]
fn a_message_of_a_session_that_is_killed_has_broken_off() {
    let daemon = Daemon::start(&["--children", "1"]);
    let mut client = daemon.client();
    client.begin_message().send("Subject: never ends\r\n");
    daemon.told(&["kill", "1"]);
    assert_eq!(client.reply().0, 550);
    eventually("it is counted", || daemon.fact("broken") == "1");
    assert_eq!((&*daemon.fact("rejected"), &*daemon.fact("deferred")), ("0", "0"));
}

#[test]
fn pause_puts_clients_off_and_continue_serves_them() {
    let daemon = Daemon::start(&["--children", "2"]);
    let mut before = daemon.client();
    assert_eq!(daemon.told(&["pause"]), "PAUSED\n");
    assert_eq!(daemon.connect().reply().0, 451);
    before.expect(250, "NOOP");
    assert_eq!(daemon.fact("state"), "paused");
    assert_eq!(daemon.told(&["continue"]), "UNPAUSED\n");
    daemon.client().expect(250, "NOOP");
    daemon.wait_for("paused by the operator: new clients are put off with 451");
    daemon.wait_for("new clients are served again");
}

#[test]
fn drain_answers_when_the_last_session_has_ended() {
    let daemon = Daemon::start(&["--children", "2"]);
    let mut last = daemon.client();
    let mut drain = daemon.site.program("qpsmtpctl");
    let mut drain = drain.arg("drain").stdout(Stdio::piped()).spawn().expect("qpsmtpctl");
    eventually("it drains", || daemon.fact("state") == "draining");
    assert_eq!(daemon.connect().reply().0, 421);
    last.expect(250, "NOOP");
    assert!(drain.try_wait().expect("wait").is_none(), "a session is left");
    last.expect(221, "QUIT");
    assert!(drain.wait().expect("wait").success());
    let mut told = String::new();
    drain
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut told)
        .expect("text");
    assert_eq!(told, "no session is left\n");
    assert_eq!(
        daemon.told(&["drain"]),
        "no session is left\n",
        "at once if there is none"
    );
    assert_eq!(daemon.told(&["continue"]), "UNPAUSED\n");
    daemon.client().expect(250, "NOOP");
}

#[test]
fn reload_waits_for_the_generation_or_prints_the_faults() {
    let daemon = Daemon::start(&["--children", "1"]);
    assert_eq!(daemon.client().message("before"), 250);
    assert_eq!(daemon.told(&["reload"]), "generation 2\n");
    daemon
        .site
        .config("plugins", "rcpt_ok\nno_such_thing\nqueue/maildir ./Maildir\n");
    let faults = daemon.refused(&["reload"]);
    assert!(
        faults.contains("config/plugins:2:1: ") && faults.contains("^~~~"),
        "{faults}"
    );
    assert_eq!(daemon.fact("generation"), "2");
    daemon
        .site
        .config("plugins", "hosts_allow\nrcpt_ok\nqueue/maildir ./Maildir\n");
    assert_eq!(daemon.told(&["reload"]), "generation 3\n");
    assert_eq!(daemon.client().message("after"), 250);
    let plugins = daemon.rows(&["plugins"]);
    let queue = plugins.iter().find(|row| row[0] == "queue::maildir").expect("queue");
    assert_eq!(queue[2], "2", "totals go on over reloads");
}

#[test]
fn the_log_level_holds_for_sessions_that_are_on() {
    let daemon = Daemon::start(&["--children", "1"]);
    let mut client = daemon.client();
    assert_eq!(daemon.told(&["log-level"]), "LOGINFO\n");
    daemon.told(&["log-level", "error"]);
    client.expect(250, "NOOP quietly").expect(250, "NOOP silently");
    assert_eq!(daemon.told(&["log-level", "default"]), "log level LOGINFO\n");
    client.expect(250, "NOOP first").expect(250, "NOOP loudly");
    daemon.wait_for("dispatching NOOP loudly");
    assert!(!daemon.lines().iter().any(|line| line.contains("silently")));
    assert!(daemon.refused(&["log-level", "loud"]).contains("no log level"));
}

/// Of one plugin, over reloads, whoever logs.
#[test]
fn the_log_level_of_a_plugin_is_its_own() {
    for logging in ["", "logging/warn LOGERROR\n"] {
        let site = Site::new();
        site.config("loglevel", "4\n").config("logging", logging);
        let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "2"]);
        let mut client = daemon.client();
        assert_eq!(client.message("unseen"), 250);
        assert_eq!(
            daemon.told(&["log-level", "debug", "rcpt_ok"]),
            "log level of rcpt_ok LOGDEBUG\n"
        );
        daemon.told(&["log-level", "info", "queue/maildir"]);
        assert_eq!(
            daemon.told(&["log-level"]),
            "LOGWARN\nqueue::maildir LOGINFO\nrcpt_ok LOGDEBUG\n"
        );
        assert_eq!(
            daemon.told(&["log-level", "--json"]),
            "[{\"plugin\":null,\"loglevel\":\"LOGWARN\"},{\"plugin\":\"queue::maildir\",\"loglevel\":\"LOGINFO\"},\
             {\"plugin\":\"rcpt_ok\",\"loglevel\":\"LOGDEBUG\"}]\n"
        );
        assert_eq!(client.message("seen"), 250);
        daemon.wait_for("(rcpt) rcpt_ok: pass");
        assert_eq!(daemon.told(&["reload"]), "generation 2\n");
        assert_eq!(daemon.client().message("seen again"), 250);
        eventually("it holds for the new generation", || {
            daemon
                .lines()
                .iter()
                .filter(|line| line.contains("(rcpt) rcpt_ok: pass"))
                .count()
                == 2
        });
        assert_eq!(
            daemon.told(&["log-level", "default", "rcpt_ok"]),
            "log level of rcpt_ok as configured\n"
        );
        daemon.told(&["log-level", "default"]);
        assert_eq!(daemon.told(&["log-level"]), "LOGWARN\n");
        assert!(
            daemon
                .refused(&["log-level", "info", "rcpt_okay"])
                .contains("there is no plugin")
        );
        assert!(daemon.lines().iter().all(|line| !line.contains("dispatching")));
        // the level of all is heeded by the logging plugins, too
        daemon.told(&["log-level", "info"]);
        daemon.client().expect(250, "NOOP loudly");
        daemon.wait_for("dispatching NOOP loudly");
    }
}

#[test]
fn shutdown_waits_for_the_end() {
    let mut daemon = Daemon::start(&["--children", "2"]);
    let mut client = daemon.client();
    assert_eq!(daemon.told(&["shutdown"]), "ending\n");
    assert_eq!(client.reply().0, 421);
    assert!(daemon.wait().success());
}

#[test]
fn the_protocol_is_versioned_bounded_and_never_in_the_way() {
    let daemon = Daemon::start(&["--children", "1"]);
    let mut line = BufReader::new(daemon.socket());
    let mut text = String::new();
    line.read_line(&mut text).expect("greeting");
    assert_eq!(text, "qpsmtpd-control 1\n");
    line.get_mut()
        .write_all(b"PAUSE\nnonsense\nJSON Version\nContinue\nquit\n")
        .expect("send");
    text.clear();
    line.read_to_string(&mut text).expect("answers");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        text,
        format!(
            "ok\nPAUSED\n.\nError - unknown command 'nonsense', try help\n.\nok\n\"qpsmtpd {version}\"\n.\nok\nUNPAUSED\n.\n"
        )
    );
    // a line without an end
    let mut endless = daemon.socket();
    let _ = endless.write_all(&[b'x'; 4096]);
    let mut rest = Vec::new();
    let _ = endless.read_to_end(&mut rest);
    assert_eq!(String::from_utf8_lossy(&rest), "qpsmtpd-control 1\n");
    // clients that ask much and read nothing
    let deaf: Vec<UnixStream> = (0..8).map(|_| daemon.socket()).collect();
    for mut client in &deaf {
        client.set_nonblocking(true).expect("nonblocking");
        while client.write(b"metrics\n").is_ok() {}
    }
    assert_eq!(daemon.fact("state"), "serving");
    daemon.client().expect(250, "NOOP");
    // more than it takes
    let many: Vec<UnixStream> = (0..40).map(|_| daemon.socket()).collect();
    daemon.client().expect(250, "NOOP");
    drop((deaf, many));
    eventually("it answers again", || daemon.ctl(&["status"]).status.success());
}

#[test]
fn with_json_refusals_are_json() {
    let site = Site::new();
    let ask = |words: &[&str]| {
        let output = site.program("qpsmtpctl").args(words).output().expect("qpsmtpctl");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, told) = ask(&["status", "--json"]);
    assert_eq!(code, Some(69));
    assert!(
        told.starts_with("{\"error\":\"no answer at ") && told.ends_with("\"}\n"),
        "{told}"
    );

    let daemon = Daemon::start(&[]);
    daemon.site.config("plugins", "no_such_plugin\n");
    let output = daemon.site.program("qpsmtpctl").args(["reload", "--json"]).output();
    let output = output.expect("qpsmtpctl");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("{\"error\":\"not reloaded\\u000a"), "{told}");
    assert!(
        told.contains("unknown plugin 'no_such_plugin'") && told.lines().count() == 1,
        "{told}"
    );
}
