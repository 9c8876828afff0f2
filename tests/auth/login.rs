//! Clients that log in.

use std::process::Stdio;

use qpsmtpd::plugin::base64;

use crate::harness::{Daemon, Site};
use crate::programs::{need, need_python};

/// The user whom all counterparts know, and the password; it must be in no log.
pub const USER: &str = "joe@example.com";
/// The password.
pub const PASSWORD: &str = "Geheim=1$\"x";
/// What a client shows that does not know it.
pub const WRONG: &str = "Geraten=2";

/// A daemon with this line in config/plugins, and more files of the configuration.
pub fn serve(line: &str, files: &[(&str, &str)]) -> Daemon {
    let site = Site::new();
    site.config(
        "plugins",
        &format!("{line}\nauth/authdeny\nrcpt_ok\nqueue/maildir ./Maildir\n"),
    );
    // all clients have the same address, and none is made to wait for what another has got wrong
    site.config("loglevel", "7").config("auth_delay", "0");
    for (name, text) in files {
        site.config(name, text);
    }
    Daemon::serve(site, &["--listen-address", "127.0.0.1:0"])
}

/// The code of the answer to AUTH PLAIN.
pub fn login(daemon: &Daemon, user: &str, password: &str) -> u16 {
    let mut client = daemon.client();
    client.expect(250, "EHLO client.example.net");
    let response = base64(format!("\0{user}\0{password}").as_bytes());
    let code = client.say(&format!("AUTH PLAIN {response}"));
    // whoever is in may send to anybody, nobody else may
    client.expect(250, "MAIL FROM:<joe@example.com>");
    client.expect(if code == 235 { 250 } else { 550 }, "RCPT TO:<someone@example.org>");
    code
}

/// Right and wrong passwords, by PLAIN and LOGIN, from swaks and smtplib.
pub fn check(daemon: &Daemon) {
    assert_eq!(login(daemon, USER, PASSWORD), 235);
    assert_eq!(login(daemon, USER, WRONG), 535);
    assert_eq!(login(daemon, "nobody@example.com", PASSWORD), 535);
    by_swaks(daemon);
    by_smtplib(daemon);
    keeps_secrets(daemon);
    // a kernel may be too old for it, or a plugin may need more than a session does
    let walls = ["workers are not confined", "Landlock failed", "seccomp failed"];
    let lines = daemon.lines();
    assert!(
        !lines.iter().any(|line| walls.iter().any(|words| line.contains(words))),
        "{lines:#?}"
    );
}

/// As [`check`], but for plugins whose programs forbid confinement.
pub fn check_unconfined(daemon: &Daemon) {
    assert_eq!(login(daemon, USER, PASSWORD), 235);
    assert_eq!(login(daemon, USER, WRONG), 535);
    by_swaks(daemon);
    by_smtplib(daemon);
    keeps_secrets(daemon);
}

/// Whether the password was said anywhere in the log.
pub fn keeps_secrets(daemon: &Daemon) {
    let encoded = base64(PASSWORD.as_bytes());
    for line in daemon.lines() {
        assert!(
            !line.contains("Geheim") && !line.contains("Geraten") && !line.contains(&encoded),
            "{line}"
        );
    }
}

/// The one who knows cannot be asked: 454, and the log says why.
pub fn check_unavailable(daemon: &Daemon, why: &str) {
    assert_eq!(login(daemon, USER, PASSWORD), 454);
    assert_eq!(login(daemon, USER, WRONG), 454);
    daemon.wait_for(&format!("error, {why}"));
    keeps_secrets(daemon);
}

fn by_swaks(daemon: &Daemon) {
    let Some(swaks) = need("swaks") else {
        return;
    };
    for (mechanism, password, succeeds) in [
        ("PLAIN", PASSWORD, true),
        ("LOGIN", PASSWORD, true),
        ("LOGIN", WRONG, false),
    ] {
        let mut command = swaks.command();
        command.args([
            "--server",
            "127.0.0.1",
            "--port",
            &daemon.addresses[0].port().to_string(),
        ]);
        command.args(["--auth", mechanism, "--auth-user", USER, "--auth-password", password]);
        command.args(["--quit-after", "AUTH", "--helo", "client.example.net"]);
        let output = command.output().expect("swaks");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), succeeds, "{mechanism}: {text}");
    }
}

const SMTPLIB: &str = r#"
import smtplib, sys
port, user, right, wrong = int(sys.argv[1]), *sys.argv[2:]
with smtplib.SMTP("127.0.0.1", port) as smtp:
    try:
        smtp.login(user, wrong)
        sys.exit("logged in with a wrong password")
    except smtplib.SMTPAuthenticationError as why:
        assert why.smtp_code == 535, why
with smtplib.SMTP("127.0.0.1", port) as smtp:
    smtp.ehlo()
    smtp.esmtp_features["auth"] = "PLAIN LOGIN"
    smtp.login(user, right)
    smtp.sendmail(user, ["user@example.com"], "Subject: x\r\n\r\nText.\r\n")
"#;

fn by_smtplib(daemon: &Daemon) {
    let Some(python) = need_python("smtplib") else {
        return;
    };
    let port = daemon.addresses[0].port().to_string();
    let mut command = python.command();
    command.args(["-c", SMTPLIB, &port, USER, PASSWORD, WRONG]);
    let output = command.stdout(Stdio::piped()).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = daemon.site.messages();
    assert!(
        messages.iter().any(|message| message.contains("Subject: x")),
        "{messages:?}"
    );
}
