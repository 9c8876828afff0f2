//! One session of `qpsmtpd` as tcpserver would start it: what the environment says of the client counts.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Speaks to `qpsmtpd` with these variables and returns its replies, a line each.
fn talk(config: &Path, variables: &[(&str, &str)], words: &[&str]) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qpsmtpd"))
        .arg("--config")
        .arg(config)
        .current_dir(config)
        .env_remove("RELAYCLIENT")
        .env("TCPREMOTEIP", "192.0.2.7")
        .env("TCPREMOTEHOST", "client.example")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("qpsmtpd starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(words.join("\r\n").as_bytes()).expect("it listens");
    input.write_all(b"\r\n").expect("it listens");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A folder of configuration whose only local domain is example.com.
fn config() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("me", "mx.example.org"),
        ("plugins", "relay\nrcpt_ok\nqueue/maildir ./Maildir"),
        ("rcpthosts", "example.com"),
        ("spool_dir", &dir.path().join("spool").display().to_string()),
    ] {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

#[test]
fn relayclient_opens_the_relay_and_is_appended() {
    let dir = config();
    let words = [
        "HELO client.example",
        "MAIL FROM:<>",
        "RCPT TO:<joe@elsewhere.example>",
        "QUIT",
    ];
    let replies = |variables: &[(&str, &str)]| talk(dir.path(), variables, &words)[3].clone();
    assert!(replies(&[]).starts_with("550 5.7.1"));
    assert_eq!(
        replies(&[("RELAYCLIENT", "")]),
        "250 2.1.5 <joe@elsewhere.example>, recipient ok"
    );
    assert_eq!(
        replies(&[("RELAYCLIENT", ".gateway")]),
        "250 2.1.5 <joe@elsewhere.example.gateway>, recipient ok"
    );
    // no address can be made of it: the mail must not go where the suffix would have kept it from going
    assert!(replies(&[("RELAYCLIENT", "@ x")]).starts_with("501 5.1.3"));
    std::fs::write(dir.path().join("norelayclients"), "192.0.2.").expect("a file");
    assert!(replies(&[("RELAYCLIENT", "")]).starts_with("550 5.7.1"));
}
