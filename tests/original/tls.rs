//! STARTTLS with the same certificate: what is offered before and after it, and the trace.

use std::fs;

use crate::harness::Site;
use crate::perl::Perl;
use crate::programs::{need, succeed};
use crate::site::{Both, delivered};

#[test]
fn starttls() {
    let (Some(perl), Some(swaks)) = (Perl::need(), need("swaks")) else {
        return;
    };
    let keys = Site::empty();
    fs::create_dir(keys.path().join("ssl")).expect("a folder");
    succeed(keys.program("qpsmtpctl").args(["cert", "--CN", "mx.example.org"]));
    let file = |name: &str| keys.path().join("ssl").join(name).display().to_string();
    let [cert, key, ca] = ["qpsmtpd-server.crt", "qpsmtpd-server.key", "qpsmtpd-ca.crt"].map(file);
    let tls = format!("tls {cert} {key} {ca}");
    let settings = [
        ("tls_before_auth", "1\n"),
        ("rcpthosts", "example.com\n"),
        ("flat_auth_pw", "joe@example.com:secret\n"),
    ];
    let plugins = [&tls, "auth/auth_flat_file", "rcpt_ok", "queue/maildir ./Maildir"];
    let both = Both::serve(&perl, &settings, &plugins);
    let mut seen = Vec::new();
    // release 0.94 tells the cipher before the protocol, later ones behind it, as we do (catalogue 1.5)
    let form = regex::Regex::new(r"with (\(\S+ encrypted\) ESMTPSA|ESMTPSA \(\S+ encrypted\).*);").expect("a pattern");
    for (side, address) in both.sides() {
        let mut command = swaks.command();
        command.args(["--server", "127.0.0.1", "--port", &address.port().to_string(), "--tls"]);
        command.args([
            "--helo",
            "client.example",
            "--from",
            "from@example.net",
            "--to",
            "to@elsewhere.example",
        ]);
        command.args([
            "--auth",
            "PLAIN",
            "--auth-user",
            "joe@example.com",
            "--auth-password",
            "secret",
        ]);
        let output = command.output().expect("swaks");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{side:?}: {text}");
        // `<-` is in clear, `<~` is not
        let offered = |arrow: &str, word: &str| {
            let offers = text.lines().filter_map(|line| line.trim().strip_prefix(arrow));
            offers
                .filter(|line| line.get(6..).is_some_and(|line| line.starts_with(word)))
                .count()
        };
        seen.push(["STARTTLS", "AUTH", "PIPELINING"].map(|word| (offered("<-", word), offered("<~", word))));
        let codes = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("<~").map(|line| line.trim()));
        let codes: Vec<&str> = codes.filter_map(|line| line.get(..4)?.strip_suffix(' ')).collect();
        assert_eq!(
            codes,
            ["250", "235", "250", "250", "354", "250", "221"],
            "{side:?}: {text}"
        );
        let message = delivered(&both.place(side)).pop().expect("a message");
        let message = String::from_utf8_lossy(&message.text).into_owned();
        assert!(
            message.contains("auth=pass (plain) smtp.auth=joe@example.com\n"),
            "{side:?}: {message}"
        );
        assert!(form.is_match(&message), "{side:?}: {message}");
    }
    assert_eq!(seen[0], [(1, 0), (0, 1), (1, 1)], "the original");
    assert_eq!(seen[1], seen[0]);
    // the log tools look for these words; STARTTLS is no unrecognized command here (catalogue 14.2)
    let log = both.original.end();
    for (side, log) in [("the original", log), ("we", both.ours.lines())] {
        let tells = |line: &String| line.contains(") tls: TLS setup returning");
        assert!(log.iter().any(tells), "{side}: {log:#?}");
    }
}
