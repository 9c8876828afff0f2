//! Clients of others: GNU SASL, curl, swaks and Python.

use std::process::{Command, Output};

use crate::harness::{Daemon, Site};
use crate::place::{PASSWORD, USER, file, serve, site, tokens};
use crate::programs::{need, need_python, succeed};

fn port(daemon: &Daemon) -> String {
    daemon.addresses[0].port().to_string()
}

fn ca(site: &Site) -> String {
    file(site, "ssl/qpsmtpd-ca.crt").display().to_string()
}

/// Both outputs, for assertions.
fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}

fn run(command: &mut Command) -> String {
    text(&command.output().expect("start"))
}

/// The mechanisms of the messages that have arrived, as their trace tells them.
fn arrived(site: &Site) -> Vec<String> {
    let messages = site.messages();
    let trace = |message: &String| {
        let (_, rest) = message.split_once("auth=pass (")?;
        let (mechanism, rest) = rest.split_once(')')?;
        rest.starts_with(" smtp.auth=joe@example.com")
            .then(|| mechanism.to_owned())
    };
    let mut all: Vec<String> = messages.iter().filter_map(trace).collect();
    all.sort();
    all
}

/// GNU SASL checks the server's signature, too, and binds SCRAM to the TLS connection by itself.
#[test]
fn gsasl_logs_in_by_every_mechanism_it_shares() {
    let Some(gsasl) = need("gsasl") else { return };
    let daemon = serve(site(), &[]);
    let (address, ca) = (format!("127.0.0.1:{}", port(&daemon)), ca(&daemon.site));
    let own = ["ssl/qpsmtpd-server.crt", "ssl/qpsmtpd-server.key"].map(|name| file(&daemon.site, name));
    let log_in = |mechanism: &str, password: &str, more: &[&str]| {
        let mut command = gsasl.command();
        command.args([
            "--smtp",
            "--connect",
            &address,
            "--hostname=mx.example.com",
            "-m",
            mechanism,
        ]);
        command.args(["-a", USER, "-z", "", "-p", password]).args(more);
        run(&mut command)
    };
    let tls = ["--starttls", &format!("--x509-ca-file={ca}")];
    let certificate = [
        format!("--x509-cert-file={}", own[0].display()),
        format!("--x509-key-file={}", own[1].display()),
    ];
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"] {
        for more in [&["--no-starttls"][..], &[tls[0], tls[1], "--no-cb"]] {
            let told = log_in(mechanism, PASSWORD, more);
            let good = format!("235 2.7.0 {mechanism} authentication successful for {USER}");
            assert!(told.contains(&good), "{mechanism} {more:?}: {told}");
            let told = log_in(mechanism, "wrong", more);
            assert!(
                told.contains("535 5.7.8 ") && !told.contains("235 "),
                "{mechanism} {more:?}: {told}"
            );
        }
    }
    for mechanism in ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"] {
        let told = log_in(mechanism, PASSWORD, &tls);
        assert!(told.contains(&format!("235 2.7.0 {mechanism} ")), "{told}");
        let told = log_in(mechanism, "wrong", &tls);
        assert!(told.contains("535 5.7.8 ") && !told.contains("235 "), "{told}");
    }
    // it could bind the channel, and refuses to use a mechanism that does not
    let told = log_in("SCRAM-SHA-256", PASSWORD, &tls);
    assert!(!told.contains("235 "), "{told}");
    let told = log_in("EXTERNAL", "", &[tls[0], tls[1], &certificate[0], &certificate[1]]);
    assert!(
        told.contains(&format!("235 2.7.0 EXTERNAL authentication successful for {USER}")),
        "{told}"
    );
    let told = log_in("EXTERNAL", "", &tls);
    assert!(!told.contains("235 "), "{told}");
}

#[test]
fn curl_shows_tokens_passwords_and_certificates() {
    let Some(curl) = need("curl") else { return };
    let mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "EXTERNAL"];
    let site = site();
    std::fs::write(file(&site, "message"), "Subject: x\r\n\r\ntext\r\n").expect("a message");
    let daemon = serve(site, &[]);
    let send = |mechanism: &str, secret: &str| {
        // of two that take tokens it would choose one by itself
        daemon.site.config("auth_mechanisms", mechanism);
        let mut command = curl.command();
        command.args([
            "-sv",
            &format!("smtp://127.0.0.1:{}/client", port(&daemon)),
            "--ssl-reqd",
        ]);
        command.args([
            "--cacert",
            &ca(&daemon.site),
            "--login-options",
            &format!("AUTH={mechanism}"),
        ]);
        match mechanism {
            "OAUTHBEARER" | "XOAUTH2" => command.args(["--oauth2-bearer", secret, "--user", &format!("{USER}:")]),
            "EXTERNAL" => {
                let own = ["ssl/qpsmtpd-server.crt", "ssl/qpsmtpd-server.key"].map(|name| file(&daemon.site, name));
                command.arg("--cert").arg(&own[0]).arg("--key").arg(&own[1]);
                command.args(["--user", &format!("{secret}:")])
            }
            _ => command.args(["--user", &format!("{USER}:{secret}")]),
        };
        command.args(["--mail-from", USER, "--mail-rcpt", "user@elsewhere.example", "-T"]);
        let output = command.arg(file(&daemon.site, "message")).output().expect("start");
        (output.status.success(), text(&output))
    };
    for mechanism in mechanisms {
        let (good, bad) = match mechanism {
            "OAUTHBEARER" | "XOAUTH2" => (tokens::ES256, tokens::EXPIRED),
            "EXTERNAL" => (USER, "ann@example.com"),
            _ => (PASSWORD, "wrong"),
        };
        let (done, told) = send(mechanism, good);
        assert!(done && told.contains("< 235 2.7.0 "), "{mechanism}: {told}");
        let (done, told) = send(mechanism, bad);
        // of XOAUTH2 it does not wait for the end, once it has been told what is wrong
        let refused = if mechanism == "XOAUTH2" {
            "< 334 eyJ"
        } else {
            "< 535 5.7.8 "
        };
        assert!(!done && told.contains(refused), "{mechanism}: {told}");
    }
    let arrived = arrived(&daemon.site);
    assert_eq!(
        arrived,
        ["cram-md5", "external", "login", "oauthbearer", "plain", "xoauth2"]
    );
}

#[test]
fn swaks_logs_in() {
    let Some(swaks) = need("swaks") else { return };
    let daemon = serve(site(), &[]);
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
        let command = |password: &str| {
            let mut command = swaks.command();
            command.args([
                "--server",
                "127.0.0.1",
                "--port",
                &port(&daemon),
                "--tls",
                "--auth",
                mechanism,
            ]);
            command.args(["--auth-user", USER, "--auth-password", password]);
            command.args(["--from", USER, "--to", "user@elsewhere.example"]);
            command
        };
        succeed(&mut command(PASSWORD));
        let told = run(&mut command("wrong"));
        assert!(told.contains("535 5.7.8 "), "{told}");
    }
    assert_eq!(arrived(&daemon.site), ["cram-md5", "login", "plain"]);
}

/// Logs in by each mechanism, wrongly and rightly, and delivers to a foreign domain.
const PYTHON: &str = r#"
import smtplib, ssl, sys
port, ca, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.create_default_context(cafile=ca)
for mechanism in ["CRAM-MD5", "PLAIN", "LOGIN"]:
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.starttls(context=context)
        smtp.ehlo()
        smtp.user, smtp.password = user, "wrong"
        handler = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
        try:
            smtp.auth(mechanism, handler)
            sys.exit(mechanism + " let in by a wrong password")
        except smtplib.SMTPAuthenticationError as refused:
            assert refused.smtp_code == 535, refused
        smtp.password = password
        code, words = smtp.auth(mechanism, handler)
        assert code == 235, (code, words)
        smtp.sendmail(user, ["user@elsewhere.example"], "Subject: x\r\n\r\ntext\r\n")
with smtplib.SMTP("127.0.0.1", port) as smtp:
    smtp.starttls(context=context)
    smtp.login(user, password)
"#;

#[test]
fn python_logs_in() {
    let Some(python) = need_python("ssl") else { return };
    let daemon = serve(site(), &[]);
    let mut command = python.command();
    succeed(command.args(["-c", PYTHON, &port(&daemon), &ca(&daemon.site), USER, PASSWORD]));
    assert_eq!(arrived(&daemon.site), ["cram-md5", "login", "plain"]);
}

/// Makes tokens by PyJWT with keys of its own and writes them with their JWK set.
const ISSUER: &str = r#"
import jwt, json, sys, time
from cryptography.hazmat.primitives.asymmetric import rsa, ec, ed25519
from jwt.algorithms import RSAAlgorithm, ECAlgorithm
keys = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())}
makers = {"RS256": RSAAlgorithm(RSAAlgorithm.SHA256), "ES256": ECAlgorithm(ECAlgorithm.SHA256)}
jwks = []
for name, key in keys.items():
    jwk = makers[name].to_jwk(key.public_key())
    jwk = json.loads(jwk) if isinstance(jwk, str) else jwk
    jwks.append({**jwk, "kid": name, "use": "sig"})
open(sys.argv[1], "w").write(json.dumps({"keys": jwks}))
claims = {"iss": "https://issuer.example", "aud": ["mail", "web"], "scope": "smtp", "email": sys.argv[2],
          "iat": int(time.time()), "exp": int(time.time()) + 600}
for name, key in keys.items():
    print(jwt.encode(claims, key, algorithm=name, headers={"kid": name}))
"#;

/// Fresh tokens of a fresh issuer, whose keys take the place of others while the daemon runs.
#[test]
fn fresh_tokens_of_another_issuer_s_keys() {
    let (Some(python), Some(curl)) = (need_python("jwt, cryptography"), need("curl")) else {
        return;
    };
    let daemon = serve(site(), &[]);
    let keys = file(&daemon.site, "jwks.json");
    let beside = file(&daemon.site, "jwks.json.new");
    let made = python
        .command()
        .args(["-c", ISSUER])
        .arg(&beside)
        .arg(USER)
        .output()
        .expect("python");
    assert!(made.status.success(), "{}", text(&made));
    let send = |token: &str| {
        let mut command = curl.command();
        command.args([
            "-sv",
            &format!("smtp://127.0.0.1:{}/client", port(&daemon)),
            "--ssl-reqd",
        ]);
        command.args([
            "--cacert",
            &ca(&daemon.site),
            "--login-options",
            "AUTH=OAUTHBEARER",
            "--oauth2-bearer",
            token,
        ]);
        command.args(["--user", &format!("{USER}:"), "-X", "NOOP"]);
        run(&mut command)
    };
    let tokens = String::from_utf8(made.stdout).expect("text");
    assert_eq!(tokens.lines().count(), 2);
    for token in tokens.lines() {
        let told = send(token);
        assert!(told.contains("< 535 "), "keys that are not there yet: {told}");
    }
    std::fs::rename(&beside, &keys).expect("renamed");
    for token in tokens.lines() {
        let told = send(token);
        assert!(told.contains("< 235 "), "{told}");
    }
}
