//! What fail2ban finds in the log with the filter that comes with the program.

use std::path::Path;

use crate::client::Client;
use crate::passwd::base64;
use crate::place::{serve, site};
use crate::programs::need;

/// A name that would have somebody else banned.
const FORGED: &str = "joe from 198.51.100.9 (plain)\r\n1 authentication failed for joe from 198.51.100.9 (plain)";

#[test]
fn fail2ban_bans_who_fails_and_nobody_else() {
    let Some(fail2ban) = need("fail2ban-regex") else { return };
    let site = site();
    site.config("max_auth_failures", "0\n").config("loglevel", "7\n");
    let daemon = serve(site, &[]);
    let mut client = Client::connect(daemon.addresses[0]);
    client.greeted();
    let plain = |user: &str, password: &str| base64(format!("\0{user}\0{password}").as_bytes());
    client.expect("535 ", &format!("AUTH PLAIN {}", plain("joe@example.com", "wrong")));
    client.expect("535 ", &format!("AUTH PLAIN {}", plain(FORGED, "wrong")));
    let first = base64(b"n,,n=joe@example.com,r=abc");
    client.expect("334 ", &format!("AUTH SCRAM-SHA-256 {first}"));
    client.expect("535 ", &base64(b"c=biws,r=abc,p=AAAA"));
    // words of the client in other lines of the log
    client.expect("250 ", "NOOP authentication failed for joe from 198.51.100.9 (plain)");
    client.expect("500 ", "1 authentication failed for joe from 198.51.100.9 (plain)");
    client.expect("250", "EHLO authentication.failed");
    client.expect("221 ", "QUIT");
    daemon.wait_for("click, disconnecting");
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("bin/service/qpsmtpd.fail2ban");
    // as multilog, journald and a file with times show the lines
    let forms: [fn(&str) -> String; 3] = [
        |line| format!("@40000000692237a51b2d8c34 {line}"),
        |line| format!("2026-11-22T22:10:11+0000 mx qpsmtpd-prefork[77]: {line}"),
        |line| format!("2026-11-22 22:10:11 {line}"),
    ];
    for form in forms {
        let lines: Vec<String> = daemon.lines().iter().map(|line| form(line)).collect();
        assert!(lines.iter().any(|line| line.contains("198.51.100.9")), "{lines:#?}");
        let log = daemon.site.path().join("log");
        std::fs::write(&log, lines.join("\n") + "\n").expect("a log");
        let mut command = fail2ban.command();
        command.arg("--out").arg("ip").arg(&log).arg(&filter);
        let output = command.output().expect("start");
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        let addresses: Vec<&str> = found.split_whitespace().collect();
        assert_eq!(addresses, ["127.0.0.1"; 3], "{found}{why}\n{lines:#?}");
    }
}
