//! Peers of others: OpenSSL, swaks, Python, GnuTLS, and the TLS of Postfix's client.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{Daemon, Site};
use crate::place::{PLUGINS, certificate, file, serve, site};
use crate::programs::{need, need_python, succeed};

/// Runs a command to its end with these words on its stdin.
fn run(command: &mut Command, input: &str) -> Output {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("start");
    let mut stdin = child.stdin.take().expect("stdin");
    // who has refused the handshake does not read
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the end")
}

/// Both outputs, for assertions.
fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}

fn ports(daemon: &Daemon) -> [String; 2] {
    [0, 1].map(|at| daemon.addresses[at].port().to_string())
}

/// `openssl s_client` with these options, over STARTTLS; QUIT at its end.
fn s_client(daemon: &Daemon, options: &[&str]) -> Option<Output> {
    let mut command = need("openssl")?.command();
    let [port, _] = ports(daemon);
    command.args([
        "s_client",
        "-starttls",
        "smtp",
        "-connect",
        &format!("127.0.0.1:{port}"),
    ]);
    command.arg("-CAfile").arg(file(&daemon.site, "ssl/qpsmtpd-ca.crt"));
    command.args(["-crlf", "-verify_return_error", "-ign_eof"]);
    Some(run(command.args(options), "QUIT\n"))
}

#[test]
fn openssl_speaks_both_versions() {
    let daemon = serve(site());
    for (version, cipher) in [
        ("-tls1_2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("-tls1_3", "TLS_AES_256_GCM_SHA384"),
    ] {
        let options = [
            version,
            "-verify_hostname",
            "mx.example.com",
            "-servername",
            "mx.example.com",
        ];
        let Some(output) = s_client(&daemon, &options) else {
            return;
        };
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("Cipher is {cipher}")), "{text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
        assert!(text.contains("221 2.0.0 mx.example.com"), "{text}");
        daemon.wait_for(&format!("TLS: {cipher}, TLSv1."));
    }
}

#[test]
fn openssl_with_another_name_is_shown_the_usual_certificate() {
    let daemon = serve(site());
    let Some(output) = s_client(&daemon, &["-servername", "unknown.example.org"]) else {
        return;
    };
    let text = text(&output);
    assert!(
        output.status.success() && text.contains("subject=") && text.contains("CN = mx.example.com"),
        "{text}"
    );
    daemon.wait_for("SNI unknown.example.org");
}

#[test]
fn openssl_with_an_old_protocol_is_refused() {
    let daemon = serve(site());
    let Some(output) = s_client(&daemon, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]) else {
        return;
    };
    let text = text(&output);
    assert!(!output.status.success() && !text.contains("221 "), "{text}");
    assert!(text.contains("SSL alert number"), "{text}");
    daemon.wait_for("tls: fail, TLS handshake: the client speaks neither TLS 1.2 nor 1.3");
}

#[test]
fn openssl_gets_the_certificate_it_can_use() {
    let site = site();
    certificate(&site, "rsa", &["--key", "rsa"]);
    let folder = "tls certs rsa";
    std::fs::copy(file(&site, "ssl/qpsmtpd-ca.crt"), file(&site, "rsa/ca")).expect("copied");
    for name in ["qpsmtpd-ca.crt", "qpsmtpd-ca.key"] {
        std::fs::remove_file(file(&site, &format!("rsa/{name}"))).expect("removed");
    }
    site.config("plugins", &PLUGINS.replace("tls", folder));
    let daemon = serve(site);
    let Some(openssl) = need("openssl") else {
        return;
    };
    let [port, _] = ports(&daemon);
    for (signatures, key) in [("RSA+SHA256:rsa_pss_rsae_sha256", "RSA"), ("ECDSA+SHA256", "ECDSA")] {
        let mut command = openssl.command();
        command.args([
            "s_client",
            "-starttls",
            "smtp",
            "-connect",
            &format!("127.0.0.1:{port}"),
        ]);
        command.args(["-tls1_3", "-ign_eof", "-sigalgs", signatures]);
        let output = run(&mut command, "QUIT\n");
        let text = text(&output);
        let shown = text
            .lines()
            .find(|line| line.starts_with("Peer signature type"))
            .unwrap_or_default();
        assert!(shown.contains(key), "{signatures}: {text}");
    }
}

#[test]
fn swaks_sends_by_starttls_and_by_tls_alone() {
    let daemon = serve(site());
    let Some(swaks) = need("swaks") else {
        return;
    };
    let [clear, encrypted] = ports(&daemon);
    for (port, option) in [(clear, "--tls"), (encrypted, "--tls-on-connect")] {
        let mut command = swaks.command();
        command.args(["--server", "127.0.0.1", "--port", &port, option, "--tls-verify"]);
        command
            .arg("--tls-ca-path")
            .arg(file(&daemon.site, "ssl/qpsmtpd-ca.crt"));
        command.args(["--tls-sni", "mx.example.com", "--helo", "client.example.net"]);
        command.args(["--from", "sender@example.net", "--to", "user@example.com"]);
        succeed(&mut command);
    }
    let messages = daemon.site.messages();
    assert_eq!(messages.len(), 2);
    assert!(
        messages.iter().all(|message| message.contains(" with ESMTPS (TLS_")),
        "{messages:?}"
    );
}

/// Delivers by STARTTLS and by TLS alone; a large message; and none after a handshake with a CA nobody knows.
const PYTHON: &str = r#"
import smtplib, ssl, sys
clear, encrypted, ca = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=ca)
large = "Subject: large\r\n\r\n" + ("x" * 70 + "\r\n") * 40000
with smtplib.SMTP("127.0.0.1", clear) as smtp:
    smtp.starttls(context=context)
    assert not smtp.has_extn("starttls")
    smtp.sendmail("sender@example.net", ["user@example.com"], large)
    assert smtp.has_extn("requiretls"), smtp.esmtp_features
    smtp.sendmail("sender@example.net", ["user@example.com"], "Subject: two\r\n\r\ntext\r\n")
with smtplib.SMTP_SSL("127.0.0.1", encrypted, context=context) as smtp:
    assert smtp.sock.version() == "TLSv1.3"
    smtp.sendmail("sender@example.net", ["user@example.com"], large)
try:
    smtplib.SMTP_SSL("127.0.0.1", encrypted, context=ssl.create_default_context())
    sys.exit("trusted a CA that nobody knows")
except ssl.SSLCertVerificationError:
    pass
"#;

#[test]
fn python_delivers_small_and_large() {
    let daemon = serve(site());
    let Some(python) = need_python("ssl") else {
        return;
    };
    let mut command = python.command();
    command.args(["-c", PYTHON]).args(ports(&daemon));
    succeed(command.arg(file(&daemon.site, "ssl/qpsmtpd-ca.crt")));
    let messages = daemon.site.messages();
    let large = messages.iter().filter(|message| message.len() > 40_000 * 71);
    assert_eq!((messages.len(), large.count()), (3, 2));
}

#[test]
fn gnutls_checks_the_certificate() {
    let daemon = serve(site());
    let Some(gnutls) = need("gnutls-cli") else {
        return;
    };
    let [clear, encrypted] = ports(&daemon);
    for (port, more) in [(clear, &["--starttls-proto=smtp"][..]), (encrypted, &[])] {
        let mut command = gnutls.command();
        command
            .args(["--port", &port, "--verify-hostname=mx.example.com", "--crlf"])
            .args(more);
        command
            .arg("--x509cafile")
            .arg(file(&daemon.site, "ssl/qpsmtpd-ca.crt"));
        let output = run(command.arg("127.0.0.1"), "QUIT\n");
        let text = text(&output);
        // it fails, as it is the server that closes
        assert!(
            text.contains("The certificate is trusted") && text.contains("221 2.0.0 "),
            "{text}"
        );
        assert!(text.contains("(TLS1.3"), "{text}");
    }
}

#[test]
fn postfix_s_client_verifies_the_name() {
    let daemon = serve(site());
    let Some(finger) = need("posttls-finger") else {
        return;
    };
    let [port, _] = ports(&daemon);
    let config = tempfile::tempdir().expect("a folder");
    std::fs::write(
        config.path().join("main.cf"),
        "compatibility_level = 3.6\nmail_owner = daemon\nsetgid_group = mail\n",
    )
    .expect("written");
    let verify = |site: &Site, name: &str| {
        let mut command = finger.command();
        command
            .env("MAIL_CONFIG", config.path())
            .args(["-c", "-l", "verify", "-F"]);
        command.arg(absolute(&file(site, "ssl/qpsmtpd-ca.crt")));
        text(&run(command.args([&format!("[127.0.0.1]:{port}"), name]), ""))
    };
    let told = verify(&daemon.site, "mx.example.com");
    assert!(told.contains("Verified TLS connection established"), "{told}");
    assert!(told.contains("TLSv1.3 with cipher TLS_AES_256_GCM_SHA384"), "{told}");
    let told = verify(&daemon.site, "other.example.com");
    assert!(told.contains("hostname mismatch"), "{told}");
}

fn absolute(path: &Path) -> &Path {
    assert!(path.is_absolute());
    path
}
