//! The units under a living systemd: it starts, reloads, restarts and ends the daemon, holds its sockets, keeps its log.

use crate::machine::Machine;
use crate::process::eventually;

/// The unit that most is about.
const DAEMON: &str = "qpsmtpd.service";
const HELO: &str = "EHLO client.example.net";

impl Machine {
    /// Enables and starts a unit as the README says.
    fn enable(&self, unit: &str) {
        self.sh(&format!("systemctl enable --now /opt/qpsmtpd/bin/service/{unit}"));
    }

    /// No process of the daemon is there, and nobody listens.
    #[track_caller]
    fn is_empty(&self) {
        // the process that asks has another name
        let left = self.sh("cat /proc/[0-9]*/comm | grep -c '^qpsmtpd' || true");
        assert_eq!(left.trim(), "0", "{}", self.sh("ps ax"));
        assert!(!self.listens(25));
    }

    fn listens(&self, port: u16) -> bool {
        let table = self.sh("cat /proc/net/tcp /proc/net/tcp6");
        let wanted = format!(":{port:04X}");
        let listening = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(3) == Some(&"0A") && fields[1].ends_with(&wanted)
        };
        table.lines().any(listening)
    }
}

#[test]
fn systemd_starts_reloads_restarts_and_stops_it() {
    let Some(machine) = Machine::with_daemon() else { return };
    machine.enable(DAEMON);
    let running = [("ActiveState", "active"), ("SubState", "running")];
    machine.expect(DAEMON, &running);
    machine.expect(DAEMON, &[("StatusText", "generation 1, 5 workers")]);
    assert_eq!(machine.property("qpsmtpd", "UnitFileState"), "enabled");
    machine.send(25, HELO);
    assert_eq!(machine.messages(), 1);
    machine.logged(DAEMON, "250 Queued!");
    assert_eq!(machine.sh("stat -c %U /opt/qpsmtpd/Maildir"), "smtpd\n");

    machine.sh("systemctl reload qpsmtpd");
    machine.expect(DAEMON, &running);
    assert!(machine.property(DAEMON, "StatusText").starts_with("generation 2, "));
    // The fault is seen by who asks, and the old configuration goes on.
    machine.set("plugins", "no_such_plugin");
    assert!(!machine.try_sh("systemctl reload qpsmtpd").status.success());
    machine.expect(DAEMON, &running);
    let status = machine.property(DAEMON, "StatusText");
    assert!(
        status.starts_with("generation 2, ") && status.ends_with("; the last reload failed"),
        "{status}"
    );
    machine.logged(DAEMON, "config/plugins:1:1: unknown plugin 'no_such_plugin'");
    // What matters more than the rest is marked so, and the marks are not left in the words.
    let errors = machine.journal(DAEMON, "-p err");
    let fault = errors
        .lines()
        .any(|line| line.contains("unknown plugin 'no_such_plugin'"));
    assert!(fault && !errors.contains("sender ok"), "{errors}");
    let all = machine.journal(DAEMON, "");
    assert!(
        all.contains("sender ok") && !all.lines().any(|line| line.starts_with('<')),
        "{all}"
    );
    machine.send(25, HELO);
    // A restart would not do: it fails, is not tried again, and says why.
    assert!(!machine.try_sh("systemctl restart qpsmtpd").status.success());
    machine.expect(
        DAEMON,
        &[("ActiveState", "failed"), ("ExecMainStatus", "78"), ("NRestarts", "0")],
    );
    machine.is_empty();
    machine.set("plugins", "rcpt_ok\nqueue/maildir ./Maildir");
    machine.sh("systemctl restart qpsmtpd");
    machine.expect(DAEMON, &running);

    // Open transactions may finish before it ends.
    let mut busy = machine.connect(25);
    busy.expect("220", "");
    busy.begin(HELO);
    machine.sh("systemctl stop --no-block qpsmtpd");
    machine.logged(DAEMON, "ending; open transactions have 30 s");
    machine.expect(DAEMON, &[("ActiveState", "deactivating")]);
    busy.expect("250", "Subject: x\r\n\r\nText.\r\n.");
    busy.expect("421", "");
    machine.sh("systemctl stop qpsmtpd");
    machine.expect(DAEMON, &[("ActiveState", "inactive"), ("Result", "success")]);
    machine.is_empty();
    assert_eq!(machine.messages(), 3);
}

#[test]
fn systemd_brings_back_a_master_that_was_killed() {
    let Some(machine) = Machine::with_daemon() else { return };
    machine.enable(DAEMON);
    let mut open = machine.connect(25);
    open.expect("220", "");
    let first = machine.property(DAEMON, "MainPID");
    machine.sh(&format!("kill -KILL {first}"));
    eventually("another master", || {
        machine.property(DAEMON, "NRestarts") == "1" && machine.property(DAEMON, "ActiveState") == "active"
    });
    assert_ne!(machine.property(DAEMON, "MainPID"), first);
    machine.send(25, HELO);
}

#[test]
fn systemd_knows_the_new_master_after_an_upgrade() {
    let Some(machine) = Machine::with_daemon() else { return };
    machine.sh("mkdir /etc/systemd/system/qpsmtpd.service.d
         printf '[Service]\\nWatchdogSec=2\\n' >/etc/systemd/system/qpsmtpd.service.d/watchdog.conf");
    machine.enable(DAEMON);
    let old = machine.property(DAEMON, "MainPID");
    let mut former = machine.connect(25);
    former.expect("220", "");
    former.begin(HELO);
    let told = machine.sh("cd /opt/qpsmtpd && bin/qpsmtpctl upgrade");
    let new = machine.property(DAEMON, "MainPID");
    assert_eq!(told, format!("process {new} serves\n"));
    assert_ne!(new, old);
    // Signs of life of the new master, as its own watchdog wants them.
    let sign = || {
        machine
            .property(DAEMON, "WatchdogTimestampMonotonic")
            .parse::<u64>()
            .expect("a time")
    };
    let since = sign();
    eventually("signs of life", || sign() > since + 4_000_000);
    machine.expect(
        DAEMON,
        &[("MainPID", &new), ("NRestarts", "0"), ("ActiveState", "active")],
    );
    machine.send(25, HELO);
    machine.sh("systemctl reload qpsmtpd");

    // The end is that of both, and neither is killed.
    machine.sh("systemctl stop --no-block qpsmtpd");
    machine.logged(DAEMON, &format!("{old} ending; open transactions"));
    former.expect("250", "Subject: x\r\n\r\nText.\r\n.");
    machine.sh("systemctl stop qpsmtpd");
    machine.expect(DAEMON, &[("ActiveState", "inactive"), ("Result", "success")]);
    machine.is_empty();
    assert_eq!(machine.messages(), 2);
}

#[test]
fn systemd_holds_the_socket_of_the_daemon() {
    let Some(machine) = Machine::with_daemon() else { return };
    machine.sh("systemctl link /opt/qpsmtpd/bin/service/qpsmtpd.service");
    machine.enable("qpsmtpd.socket");
    machine.expect(DAEMON, &[("ActiveState", "inactive")]);
    machine.send(25, HELO);
    machine.expect(DAEMON, &[("ActiveState", "active")]);
    // Also by the one who takes the socket over from the first, and by the one after it.
    machine.sh("cd /opt/qpsmtpd && bin/qpsmtpctl upgrade");
    machine.send(25, HELO);
    machine.sh("systemctl stop qpsmtpd.service");
    machine.expect(DAEMON, &[("ActiveState", "inactive"), ("Result", "success")]);
    assert!(machine.listens(25));
    machine.send(25, HELO);
    machine.sh("systemctl stop qpsmtpd.socket qpsmtpd.service");
    machine.is_empty();
    assert_eq!(machine.messages(), 3);

    // Another socket, whose name says what is spoken there.
    machine.sh(
        "printf '[Socket]\\nListenStream=2400\\nFileDescriptorName=lmtp\\nService=qpsmtpd.service\\n' \\
             >/etc/systemd/system/qpsmtpd-lmtp.socket
         systemctl daemon-reload
         systemctl start qpsmtpd.socket qpsmtpd-lmtp.socket",
    );
    const LHLO: &str = "LHLO client.example.net";
    machine.send(2400, LHLO);
    machine.send(25, HELO);
    machine.sh("cd /opt/qpsmtpd && bin/qpsmtpctl upgrade");
    machine.send(2400, LHLO);
    machine.send(25, HELO);
    assert_eq!(machine.messages(), 7);
}

#[test]
fn systemd_starts_a_process_for_each_connection() {
    let Some(machine) = Machine::with_daemon() else { return };
    machine.sh("cd /opt/qpsmtpd && mkdir tmp Maildir && chown smtpd tmp Maildir");
    machine.sh("systemctl link /opt/qpsmtpd/bin/service/qpsmtpd-single@.service");
    machine.enable("qpsmtpd-single.socket");
    let mut waiting = machine.connect(25);
    waiting.expect("220", "");
    machine.send(25, HELO);
    waiting.begin(HELO);
    eventually("the end of one", || {
        machine.property("qpsmtpd-single.socket", "NConnections") == "1"
    });
    machine.expect("qpsmtpd-single.socket", &[("NAccepted", "2")]);
    waiting.expect("250", "Subject: x\r\n\r\nText.\r\n.");
    waiting.expect("221", "QUIT");
    eventually("their end", || {
        machine.property("qpsmtpd-single.socket", "NConnections") == "0"
    });
    assert_eq!(machine.messages(), 2);
    machine.logged("'qpsmtpd-single@*'", "250 Queued!");
    let failed = machine.sh("systemctl list-units --failed --plain --no-legend 'qpsmtpd*'");
    assert_eq!(failed, "");
    machine.sh("systemctl stop qpsmtpd-single.socket");
    machine.is_empty();
}

#[test]
fn the_unit_takes_what_it_need_not_have() {
    let Some(machine) = Machine::with_daemon() else { return };
    machine.enable(DAEMON);
    let master = machine.property(DAEMON, "MainPID");
    let status = machine.sh(&format!("cat /proc/{master}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches(':').trim().to_owned())
    };
    assert_eq!(field("CapEff").as_deref(), Some("0000000000000000"));
    assert_eq!(field("Seccomp").as_deref(), Some("2"));
    // qmail-queue changes its user: for the sake of such programs the unit must not take that away.
    assert_eq!(field("NoNewPrivs").as_deref(), Some("0"));
    let within = |words: &str| {
        let words = format!("nsenter -t {master} --mount sh -c '{words}'");
        machine.try_sh(&words).status.success()
    };
    assert!(!within("touch /usr/x") && !within("touch /etc/x") && !within("touch /home/x"));
    assert!(within("touch /opt/qpsmtpd/tmp/x") && within("touch /var/x") && within("touch /tmp/x"));

    // A key that only root can read.
    machine.sh("cd /opt/qpsmtpd && bin/qpsmtpctl cert --CN mx.example.com && chown -R root config/ssl && chmod 600 config/ssl/*");
    machine.set("plugins", "tls\nrcpt_ok\nqueue/maildir ./Maildir");
    machine.sh("systemctl restart qpsmtpd");
    machine.sh("openssl s_client -starttls smtp -connect 127.0.0.1:25 -brief </dev/null");
    machine.send(25, HELO);

    let score = machine.sh("systemd-analyze security --no-pager --threshold=50 qpsmtpd.service");
    assert!(score.contains("Overall exposure level"), "{score}");
    let verdict =
        machine.try_sh("systemd-analyze verify /opt/qpsmtpd/bin/service/*.service /opt/qpsmtpd/bin/service/*.socket");
    let words = String::from_utf8_lossy(&verdict.stderr).into_owned();
    assert!(verdict.status.success() && !words.contains("qpsmtpd"), "{words}");
}
