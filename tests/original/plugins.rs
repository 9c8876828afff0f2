//! Plugins of both that need more than a conversation in a file: files of their own, many clients, a client that computes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::Client;
use crate::perl::Perl;
use crate::programs::{need, succeed};
use crate::site::{Both, original, ours, site};
use crate::wire::Side;

#[test]
fn rcpt_map() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let users = "# users of the domain\nann@example.com OK fine\nbob@example.com DENYSOFT not now\n\
                 eve@example.com DENY go away\ntim@example.com DECLINED perhaps\nlast@example.com DENY_DISCONNECT bye\n";
    let map = "rcpt_map domain Example.com file ../config/users default DENY=nobody_of_that_name";
    let settings = [("users", users), ("rcpthosts", "example.com\nexample.org\n")];
    let both = Both::serve(&perl, &settings, &[map, "rcpt_ok"]);
    both.play(
        "hello mail
C: RCPT TO:<ann@example.com>
S: 250
C: RCPT TO:<Ann@EXAMPLE.com>
S: 250
C: RCPT TO:<bob@example.com>
S: 450
C: RCPT TO:<eve@example.com>
S: 550
C: RCPT TO:<tim@example.com>
S: 250
C: RCPT TO:<jim@example.com>
S: 550
C: RCPT TO:<jim@example.org>
S: 250
C: RCPT TO:<jim@example.net>
S: 550
C: RCPT TO:<postmaster>
S: 250
C: RCPT TO:<last@example.com>
S: 550
S!
",
    );
}

#[test]
fn help() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let both = Both::serve(
        &perl,
        &[("mail", "MAIL FROM:<address>\nbegins\n")],
        &["help help_dir ../config"],
    );
    let mut replies = Vec::new();
    for (_, address) in both.sides() {
        let mut client = Client::connect(address);
        assert_eq!(client.reply().0, 220);
        replies.push(
            [
                "HELP",
                "HELP mail",
                "HELP MAIL",
                "HELP nothing",
                "HELP ../mail",
                "HELP a b",
            ]
            .map(|line| {
                let (code, text) = client.try_say(line).expect("a reply");
                (line, code, text.contains("MAIL FROM:<address>"), text.contains("\n"))
            }),
        );
    }
    // words behind the file's are ours
    let told = |(line, code, is_there, lines)| (line, code, is_there, lines && is_there);
    let [theirs, ours] = [replies[0].map(told), replies[1].map(told)];
    assert_eq!(theirs.map(|(_, code, ..)| code), [214, 214, 214, 214, 502, 502]);
    assert_eq!(ours, theirs);
}

#[test]
fn maps_of_cdb() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let plugins = ["relay", "rcpt_ok"].map(str::to_owned);
    let lines = |line: &str| vec![line.to_owned()];
    let settings = [
        ("rcpthosts".to_owned(), lines("example.com")),
        ("relayclients".to_owned(), lines("198.51.100.1")),
        ("morercpthosts".to_owned(), lines("not.read.example")),
        ("morerelayclients".to_owned(), lines("198.51.100.2")),
    ];
    for (name, key) in [("morercpthosts", "more.example"), ("morerelayclients", "127.0.2.")] {
        let site = site(&perl, &settings, &plugins);
        let file = site.path().join("config").join(format!("{name}.cdb"));
        cdb(&file, key);
        let path = site.path().to_owned();
        let both = Both {
            original: original(&perl, &site),
            ours: ours(site),
        };
        assert!(path.join("config").join(name).exists());
        let elsewhere = if name == "morerelayclients" { 250 } else { 550 };
        both.play(&format!(
            "hello mail
C: RCPT TO:<a@example.com>
S: 250
C: RCPT TO:<a@More.Example>
S: 250
C: RCPT TO:<a@elsewhere.example>
S: {elsewhere}
quit
"
        ));
    }
}

/// Makes a map with this key, by the library that the original reads it with.
fn cdb(file: &Path, key: &str) {
    let make = "my ($file, $key) = @ARGV; my $map = CDB_File->new($file, \"$file.tmp\"); \
                $map->insert($key, ''); $map->finish";
    succeed(
        Command::new("perl")
            .arg("-MCDB_File")
            .args(["-e", make])
            .arg(file)
            .arg(key),
    );
}

#[test]
fn sessions_of_one_address() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let both = Both::serve(&perl, &[], &["hosts_allow", "rcpt_ok"]);
    for (side, address) in both.sides() {
        let connect = |ip: [u8; 4]| {
            let mut client = Client::connect_from(ip.into(), address);
            let code = client.reply().0;
            (client, code)
        };
        let mut clients: Vec<(Client, u16)> = (0..6).map(|_| connect([127, 0, 3, 1])).collect();
        let codes: Vec<u16> = clients.iter().map(|(_, code)| *code).collect();
        assert_eq!(codes, [220, 220, 220, 220, 220, 451], "{side:?}");
        assert!(clients[5].0.is_closed(), "{side:?}");
        assert_eq!(connect([127, 0, 3, 2]).1, 220, "{side:?}");
    }
}

#[test]
fn logins_by_every_mechanism() {
    let (Some(perl), Some(swaks)) = (Perl::need(), need("swaks")) else {
        return;
    };
    let users = [("flat_auth_pw", "joe@example.com:pass:word\nann@example.com:other\n")];
    let both = Both::serve(&perl, &users, &["auth/auth_flat_file", "auth/authdeny", "rcpt_ok"]);
    for (side, address) in both.sides() {
        for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
            for (user, password, good) in [
                ("joe@example.com", "pass:word", true),
                ("joe@example.com", "other", false),
                ("jim@example.com", "pass:word", false),
                ("joe", "pass:word", false),
            ] {
                let mut command = swaks.command();
                command.args(["--server", "127.0.0.1", "--port", &address.port().to_string()]);
                command.args(["--auth", mechanism, "--auth-user", user, "--auth-password", password]);
                command
                    .args(["--quit-after", "AUTH", "--helo", "client.example"])
                    .stderr(Stdio::null());
                let output = command.output().expect("swaks");
                let text = String::from_utf8_lossy(&output.stdout);
                assert_eq!(output.status.success(), good, "{side:?} {mechanism} {user}: {text}");
                let code = if good { " 235 " } else { " 535 " };
                assert!(text.contains(code), "{side:?} {mechanism} {user}: {text}");
            }
        }
    }
}

/// connection_time and logging/file: the log in a file of its own.
#[test]
fn a_log_in_a_file() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let settings = [("logging", "logging/warn LOGINFO\nlogging/file loglevel LOGINFO ./log\n")];
    let both = Both::serve(&perl, &settings, &["connection_time", "rcpt_ok"]);
    both.play("hello mail\nC: RCPT TO:<a@elsewhere.example>\nS: 550\nquit\n");
    let said = |side| {
        let text = fs::read_to_string(both.place(side).join("log")).expect("the log");
        // TIME HOST[PID]: WORDS
        let form = regex::Regex::new(r"^\w{3} \w{3} \d\d [\d:]{8} \d{4} [\w.-]+\[\d+\]: (.*)$").expect("a pattern");
        let words = |line: &str| form.captures(line).map(|found| found[1].to_owned());
        let words: Option<Vec<String>> = text.lines().map(words).collect();
        words.unwrap_or_else(|| panic!("{side:?}: {text}"))
    };
    let time = regex::Regex::new(r"^\d\.\d{3} s\.$").expect("a pattern");
    for side in [Side::Original, Side::Ours] {
        let said = said(side);
        for words in [
            "dispatching MAIL FROM:<from@example.net>",
            "dispatching RCPT TO:<a@elsewhere.example>",
            "click, disconnecting",
        ] {
            assert_eq!(
                said.iter().filter(|line| *line == words).count(),
                1,
                "{side:?} {words}: {said:#?}"
            );
        }
        assert!(said.iter().any(|line| time.is_match(line)), "{side:?}: {said:#?}");
        assert!(said.iter().any(|line| line.starts_with("550 ")), "{side:?}: {said:#?}");
    }
}
