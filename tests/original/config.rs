//! Whole configurations: that of Debian's package, and one that has nearly everything that both know.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use qpsmtpd::plugins::REGISTER;

use crate::harness::{Client, Site};
use crate::perl::{Perl, package};
use crate::programs::missing;
use crate::site::{Both, delivered};
use crate::wire::Side;

/// What `qpsmtpctl check` says of a folder, in some place.
fn check(site: &Site, place: &Path, folder: &str) -> Output {
    let mut command: Command = site.program("qpsmtpctl");
    command.current_dir(place).args(["check", "--config", folder]);
    command.output().expect("run")
}

/// Whether this program has the plugin, under this name or a new one.
fn is_known(name: &str) -> bool {
    REGISTER.plugins.iter().any(|plugin| plugin.name == name) || REGISTER.aliases.iter().any(|alias| alias.old == name)
}

/// Every fault is a plugin that is not there, with its place; every warning a file that such plugins alone would read.
#[test]
fn debians_configuration_is_understood() {
    let folder = package().join("etc/qpsmtpd");
    if !folder.is_dir() {
        return missing("Debian's package qpsmtpd");
    }
    let text = fs::read_to_string(folder.join("plugins")).expect("plugins");
    let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, name(line)));
    let named = lines.filter(|(_, name)| !name.is_empty() && !name.starts_with(['#', '$']));
    let (known, unknown): (Vec<_>, Vec<_>) = named.partition(|(_, name)| is_known(name));
    assert!(known.len() >= 5, "{known:?}");
    let site = Site::empty();
    let output = check(&site, site.path(), &folder.to_string_lossy());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut faults: BTreeSet<String> = BTreeSet::new();
    for line in told.lines().filter(|line| !line.starts_with(' ')) {
        let line = line.strip_prefix(&*folder.to_string_lossy()).unwrap_or(line);
        match line.strip_suffix(": warning: nothing reads this file") {
            Some(file) => assert!(["/badhelo", "/dnsbl_zones", "/rhsbl_zones"].contains(&file), "{told}"),
            None => drop(faults.insert(line.split(", did you mean").next().unwrap_or(line).to_owned())),
        }
    }
    let expected = unknown
        .iter()
        .map(|(at, name)| format!("/plugins:{at}:1: unknown plugin '{name}'"));
    assert_eq!(faults, expected.collect(), "{told}");
    assert_eq!(output.status.success(), unknown.is_empty(), "{told}");
}

/// Plugins and files as a site may have them: comments, blanks, line ends of another system, files that are included.
const PLUGINS: &str = "
# at connect
hosts_allow
   earlytalker   wait 1\t
count_unrecognized_commands 4
noop_counter 5\r
connection_time
relay
quit_fortune
help help_dir ../config
$include more_plugins
naughty reject data
queue/maildir ./Maildir
";
const MORE: &str = "
auth/auth_flat_file
auth/authdeny
dont_require_anglebrackets
badmailfrom reject naughty
badmailfromto
badrcptto
rcpt_map domain mapped.example file ../config/users
rcpt_regexp
rcpt_ok
loop 20
";
#[rustfmt::skip] // a table
const FILES: &[(&str, &str)] = &[
    ("more_plugins", MORE),
    ("smtpgreeting", "mx.example.org at your service\n"),
    ("loglevel", "6\n"),
    ("databytes", "1000\n"),
    ("size_threshold", "100\n"),
    ("spool_perms", "0700\n"),
    ("timeout", "300\n"),
    ("timeoutsmtpd", "120\n"),
    ("tls_before_auth", "0\n"),
    ("IP", "0\n"),
    ("hosts_allow", "127.0.2.8 DENYSOFT come back later\n127.0.2.0/24 DECLINED\n127.0.0.0/8 DENY go away\n"),
    ("relayclients", "# none\n198.51.100.\n"),
    ("norelayclients", "192.0.99.5\n"),
    ("rcpthosts", "  example.com\n.example.com\r\n# a comment\n\nmapped.example"),
    ("flat_auth_pw", "joe@example.com:secret\n"),
    ("badmailfrom", "bad@example.net\n@bad.example no\n"),
    ("badmailfromto", "ann@example.net\tjoe@example.com\n"),
    ("badrcptto", "gone@example.com\n^no-.*@\n"),
    ("rcpt_regexp", "/^list-/ OK\ntim@example.com DENY\n"),
    ("users", "ann@mapped.example OK fine\n"),
];

#[test]
fn a_whole_site_is_served_as_it_is() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let mut files = FILES.to_vec();
    files.push(("plugins", PLUGINS));
    let both = Both::serve(&perl, &files, &[]);
    let output = check(&both.ours.site, &both.place(Side::Ours), "../config");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    for (side, address) in both.sides() {
        for (ip, code) in [([127, 0, 2, 8], 451), ([127, 0, 4, 1], 550)] {
            let mut client = Client::connect_from(ip.into(), address);
            assert_eq!(client.reply().0, code, "{side:?}");
            assert!(client.is_closed(), "{side:?}");
        }
        let mut client = Client::connect_from([127, 0, 2, 7].into(), address);
        let (code, text) = client.reply();
        assert_eq!(
            (code, &*text),
            (220, "mx.example.org at your service ESMTP"),
            "{side:?}"
        );
        let (code, text) = client.try_say("EHLO client.example").expect("a reply");
        assert_eq!(code, 250, "{side:?}");
        assert!(text.lines().any(|line| line == "SIZE 1000"), "{side:?}: {text}");
        client.expect(221, "QUIT");
    }
    SESSIONS.iter().for_each(|session| both.play(session));
    let [theirs, ours] = [Side::Original, Side::Ours].map(|side| {
        let messages = delivered(&both.place(side)).into_iter();
        messages.map(|message| message.envelope).collect::<Vec<_>>()
    });
    assert_eq!(theirs.len(), 2);
    assert_eq!(ours, theirs);
}

/// What happens there: a bad sender; recipients of all kinds; somebody who logs in, and a message that is too big; two
/// clients that only make trouble.
const SESSIONS: &[&str] = &[
    "hello
C: MAIL FROM:bad@example.net
S: 250
C: RCPT TO:<a@example.com>
S: 250
C: DATA
S: 554
S!
",
    "hello
C: MAIL FROM:<ann@example.net>
S: 250
C: RCPT TO:<joe@example.com>
S: 550
C: RCPT TO:<gone@example.com>
S: 550
C: RCPT TO:<no-one@sub.example.com>
S: 550
C: RCPT TO:<tim@example.com>
S: 550
C: RCPT TO:<bob@mapped.example>
S: 550
C: RCPT TO:<a@elsewhere.example>
S: 550
C: RCPT TO:<list-all@elsewhere.example>
S: 250
C: RCPT TO:<ann@Mapped.example>
S: 250
C: RCPT TO:a@sub.example.com
S: 250
C: RCPT TO:<postmaster>
S: 250
data message
S: 250
quit
",
    "hello
C\\ AUTH PLAIN \\b{\\0joe@example.com\\0wrong}\\r\\n
S: 535
C\\ AUTH LOGIN \\b{joe@example.com}\\r\\n
S: 334
C\\ \\b{secret}\\r\\n
S: 235
mail
C: RCPT TO:<a@elsewhere.example>
S: 250
data
C\\ Subject: x\\r\\n\\r\\n\\{100:123456789\\r\\n}.\\r\\n
S: 552
mail
C: RCPT TO:<a@elsewhere.example>
S: 250
data message
S: 250
quit
",
    "hello
C*3: FOO
S*3: 500
C: HELP nothing
S: 214
C: BAR
S: 521
S!
",
    "hello
C*4: NOOP
S*4: 250
C: NOOP
S: 500
S!
",
];
