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

/// A proxy that comes by way of the super-server: what tcprules says of the proxy does not hold for its clients.
#[test]
fn what_is_said_of_a_proxy_is_not_said_of_its_clients() {
    let dir = config();
    std::fs::write(dir.path().join("proxy_networks"), "192.0.2.7").expect("a file");
    std::fs::write(dir.path().join("xclient_networks"), "192.0.2.7").expect("a file");
    std::fs::write(dir.path().join("databytes"), "1000").expect("a file");
    let variables = [
        ("RELAYCLIENT", ".rewrite"),
        ("DATABYTES", "5000"),
        ("TCPLOCALHOST", "inside.example"),
    ];
    let said = |first: &[&str]| {
        let words = [
            "EHLO client.example",
            "MAIL FROM:<> SIZE=2000",
            "MAIL FROM:<>",
            "RCPT TO:<joe@elsewhere.example>",
        ];
        talk(dir.path(), &variables, &[first, &words, &["QUIT"]].concat()).join("\n")
    };
    // of the proxy itself, which only looks whether we are there, it holds
    let own = said(&["PROXY UNKNOWN"]);
    assert!(
        own.contains("SIZE 5000\n") && own.contains("250 2.1.5 <joe@elsewhere.example.rewrite>"),
        "{own}"
    );
    let clients = [
        said(&["PROXY TCP4 203.0.113.9 192.0.2.1 5555 25"]),
        said(&["PROXY UNKNOWN", "XCLIENT ADDR=203.0.113.9"]),
    ];
    for client in clients {
        assert!(
            client.contains("SIZE 1000\n") && client.contains("552 5.3.4"),
            "{client}"
        );
        assert!(client.contains("550 5.7.1") && !client.contains("rewrite"), "{client}");
    }
}
