//! `qpsmtpctl passwd`, and that others can check what it writes.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::harness::Site;
use crate::place::{PASSWORD, USER, file, serve, site};
use crate::programs::{need_python, succeed};

/// Runs it with this on stdin.
fn passwd(site: &Site, options: &[&str], input: &str) -> Output {
    let mut command = site.program("qpsmtpctl");
    command.arg("passwd").args(options).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let mut stdin = child.stdin.take().expect("stdin");
    // who refuses the user does not read
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the end")
}

const SCHEMES: [&str; 7] = ["scram", "scram-sha1", "argon2", "yescrypt", "bcrypt", "sha512", "clear"];

#[test]
fn each_scheme_lets_its_user_in() {
    let site = site();
    for scheme in SCHEMES {
        let user = format!("{scheme}@example.com");
        let done = passwd(&site, &[&user, "--scheme", scheme], &format!("{PASSWORD}\n"));
        assert!(
            done.status.success(),
            "{scheme}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    let written = std::fs::read_to_string(file(&site, "config/flat_auth_pw")).expect("the file");
    assert_eq!(
        written.matches(PASSWORD).count(),
        2,
        "in clear only where that is wanted: {written}"
    );
    let daemon = serve(site, &[]);
    for scheme in SCHEMES {
        let mut client = crate::client::Client::connect(daemon.addresses[0]);
        client.greeted();
        let plain = |password: &str| {
            let text = format!("\0{scheme}@example.com\0{password}");
            format!("AUTH PLAIN {}", base64(text.as_bytes()))
        };
        client.expect("535 5.7.8 ", &plain("wrong"));
        client.expect("235 2.7.0 ", &plain(PASSWORD));
    }
}

/// Base64, as a client sends it.
pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What crypt(3) of the system thinks of them.
const PYTHON: &str = r#"
import sys, warnings
warnings.simplefilter("ignore")
import crypt
seen = 0
for line in open(sys.argv[1]):
    user, word = line.rstrip("\n").split(":", 1)
    if user.split("@")[0] in ("yescrypt", "bcrypt", "sha512"):
        assert crypt.crypt(sys.argv[2], word) == word, line
        seen += 1
assert seen == 3, seen
"#;

#[test]
fn crypt_of_the_system_takes_them() {
    let Some(python) = need_python("crypt") else { return };
    let site = site();
    for scheme in ["yescrypt", "bcrypt", "sha512"] {
        let done = passwd(&site, &[&format!("{scheme}@example.com"), "--scheme", scheme], PASSWORD);
        assert!(done.status.success());
    }
    let mut command = python.command();
    command.args(["-c", PYTHON]).arg(file(&site, "config/flat_auth_pw"));
    succeed(command.arg(PASSWORD));
}

#[test]
fn what_is_not_right_changes_nothing() {
    let site = site();
    let before = std::fs::read(file(&site, "config/flat_auth_pw")).expect("the file");
    let long = "x".repeat(2000);
    for (user, input, why) in [
        ("joe", "secret\n", "a user is a name, @ and a domain"),
        ("a:b@example.com", "secret\n", "a user has no ':'"),
        ("a b@example.com", "secret\n", "no blank or control character"),
        ("a\u{7}@example.com", "secret\n", "no blank or control character"),
        (USER, "\n", "the password is empty"),
        (USER, "", "the password is empty"),
        (USER, "sec\tret\n", "the password has a control character"),
        (USER, &long, "more than 1023 bytes"),
    ] {
        let done = passwd(&site, &[user], input);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{user:?} {input:?}");
        assert!(told.contains(why) && !told.contains("secret"), "{told}");
    }
    let done = passwd(&site, &["ann@example.com", "--delete"], "");
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(
        std::fs::read(file(&site, "config/flat_auth_pw")).expect("the file"),
        before
    );
    let done = passwd(&site, &[USER, "--delete"], "");
    assert!(done.status.success());
    assert_eq!(
        std::fs::read(file(&site, "config/flat_auth_pw")).expect("the file"),
        b""
    );
}
