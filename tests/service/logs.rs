//! The log tools, given a log that was written down.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::place::{Place, project};

/// Two sessions of one process in a row and one of another between their lines, as multilog writes them.
const LOG: &str = "\
@400000006922100a00000001 900 Listening on 192.0.2.1:25
@400000006922100a00000002 901 Accepted connection 1/15 from 192.0.2.7 / a.example.org
@400000006922100a00000003 901 Connection from a.example.org [192.0.2.7]
@400000006922100a00000004 901 (connect) ident::geoip: NA, US, \t2705 km
@400000006922100a00000005 901 (connect) karma: negative, 2 naughty
@400000006922100a00000006 902 Accepted connection 2/15 from 2001:db8::25 / Unknown
@400000006922100a00000007 902 Connection from Unknown [2001:db8::25]
@400000006922100a00000008 901 (connect) check_earlytalker: pass, not spontaneous
@400000006922100a00000009 901 220 mx.example.com ESMTP ready
@400000006922100a0000000a 901 dispatching EHLO a.example.org
@400000006922100a0000000b 901 (ehlo) helo: fail, tolerated, no such host
@400000006922100a0000000c 901 dispatching MAIL FROM:<joe@a.example.org> SIZE=100
@400000006922100a0000000d 901 (mail) badmailfrom: pass
@400000006922100a0000000e 901 (mail) badmailfrom: fail, a second word does not count
@400000006922100a0000000f 901 dispatching RCPT TO:<mary@example.com>
@400000006922100a00000010 901 dispatching RCPT TO:<anne@example.com>
@400000006922100a00000011 901 (rcpt) rcpt_ok: pass: example.com in rcpthosts
@400000006922100a00000012 901 dispatching DATA
@400000006922100a00000013 901 (data) naughty: pass
@400000006922100a00000014 901 (data_post) dkim: skip, not signed
@400000006922100a00000015 901 (data_post) virus::clamdscan: error, no answer
@400000006922100a00000016 77 (queue) queue::qmail_2dqueue: (for 901) Queuing to /var/qmail/bin/qmail-queue
@400000006922100a00000017 901 250 Queued! 1234
@400000006922100a00000018 901 dispatching QUIT
@400000006922100a00000019 901 click, disconnecting
@400000006922100a0000001a 901 (post-connection) connection_time: 2.718 s.
@400000006922100a0000001b 901 Accepted connection 2/15 from 192.0.2.7 / a.example.org
@400000006922100a0000001c 901 Connection from a.example.org [192.0.2.7]
@400000006922100a0000001d 901 (connect) ident::p0f_3a0: Linux 6
@400000006922100a0000001e 901 (connect) site_policy: fail, not today
@400000006922100a0000001f 901 dispatching helo [192.0.2.7]
@400000006922100a00000020 901 dispatching MAIL FROM:<>
@400000006922100a00000021 901 dispatching RSET
@400000006922100a00000022 901 Lost connection to client, cleaning up
@400000006922100a00000023 901 (post-connection) connection_time: 0.250 s.
@400000006922100a00000024 902 dispatching EHLO b.example
@400000006922100a00000025 900 cleaning up after 902
";

const SUMMARY: &str = "\
ip              dista geo    krm ear HELO     hlo MAIL FRO bmf RCPT TO  rok dkm clm qqm tim
192.0.2.7        2705 NA, US  x   o  mple.org  x  mple.org  o  mple.com  o   -   !   o  2.71

ip              dista geo    p0f        krm ear HELO     hlo MAIL FRO bmf RCPT TO  rok dkm clm qqm tim  site_polic
192.0.2.7                    Linux 6            2.0.2.7]                                                 X
2001:db8::25                                    .example
";

/// The same without connection_time.
const SUMMARY_UNTIMED: &str = "\
ip              dista geo    krm ear HELO     hlo MAIL FRO bmf RCPT TO  rok dkm clm qqm
192.0.2.7        2705 NA, US  x   o  mple.org  x  mple.org  o  mple.com  o   -   !   o

ip              dista geo    p0f        krm ear HELO     hlo MAIL FRO bmf RCPT TO  rok dkm clm qqm site_polic
192.0.2.7                    Linux 6            2.0.2.7]                                            X
2001:db8::25                                    .example
";

const SUMMARY_WIDE: [&str; 2] = [
    concat!(
        "ip              dista geoip                karma early HELO                 helo  ",
        "MAIL FROM            badmf RCPT TO              rcpok dkim  clamd queue time"
    ),
    concat!(
        "192.0.2.7        2705 NA, US                x     o           a.example.org  x   ",
        "    joe@a.example.org  o        mary@example.com  o     -     !     o    2.718 s"
    ),
];

/// What a log tool makes of the log, which is a file named last if it is named at all.
fn run(tool: &str, arguments: &[&str], path: &str) -> Output {
    run_on(LOG, tool, arguments, path)
}

fn run_on(log: &str, tool: &str, arguments: &[&str], path: &str) -> Output {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("log");
    std::fs::write(&file, log).expect("write");
    let mut command = Command::new(project().join("log").join(tool));
    command.args(arguments).env("PATH", path);
    if !arguments.contains(&"-") {
        command.arg(&file);
    }
    command.stdin(File::open(&file).expect("open")).output().expect("run")
}

fn usual_path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

fn said(tool: &str, arguments: &[&str]) -> String {
    let output = run(tool, arguments, &usual_path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn summarize_has_a_line_for_each_session_and_transaction() {
    assert_eq!(said("summarize", &["-"]), SUMMARY);
    let untimed = LOG.lines().filter(|line| !line.contains("connection_time"));
    let untimed: String = untimed.map(|line| format!("{line}\n")).collect();
    let output = run_on(&untimed, "summarize", &["-"], &usual_path());
    assert_eq!(String::from_utf8_lossy(&output.stdout), SUMMARY_UNTIMED);
    let wide = said("summarize", &["-l", "-"]);
    assert_eq!(wide.lines().take(2).collect::<Vec<_>>(), SUMMARY_WIDE);
}

/// Every awk that is installed makes the same of it.
#[test]
fn summarize_needs_no_particular_awk() {
    for name in ["mawk", "gawk", "original-awk", "busybox"] {
        if usual_path()
            .split(':')
            .all(|place| !Path::new(place).join(name).exists())
        {
            eprintln!("SKIPPED: summarize with {name}, which is not installed");
            continue;
        }
        let place = tempfile::tempdir().expect("a folder");
        let words = if name == "busybox" { "busybox awk" } else { name };
        write_program(&place.path().join("awk"), &format!("#!/bin/sh\nexec {words} \"$@\"\n"));
        let path = format!("{}:{}", place.path().display(), usual_path());
        let output = run("summarize", &["-"], &path);
        assert_eq!(String::from_utf8_lossy(&output.stdout), SUMMARY, "{name}");
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("permissions");
}

#[test]
fn show_message_knows_addresses_of_both_families_and_processes() {
    let six = "connections from 2001:db8::25: 1; the last one:\n\
               902 Accepted connection 2/15 from 2001:db8::25 / Unknown\n\
               902 Connection from Unknown [2001:db8::25]\n\
               902 dispatching EHLO b.example\n";
    assert_eq!(said("show_message", &["2001:db8::25"]), six);
    assert_eq!(said("show_message", &["[2001:DB8::25]"]), six);
    let four = said("show_message", &["192.0.2.7"]);
    let lines: Vec<&str> = four.lines().collect();
    assert_eq!(lines[0], "connections from 192.0.2.7: 2; the last one:");
    assert_eq!(lines[1], "901 Accepted connection 2/15 from 192.0.2.7 / a.example.org");
    assert_eq!(lines.last(), Some(&"901 (post-connection) connection_time: 0.250 s."));
    assert_eq!(lines.len(), 10, "{four}");
    assert_eq!(said("show_message", &["902"]).lines().count(), 3);
    for unknown in [&["192.0.2.70"][..], &["4711"], &["joe"], &[]] {
        assert!(
            !run("show_message", unknown, &usual_path()).status.success(),
            "{unknown:?}"
        );
    }
}

/// Lines that a tool writes while it follows a log, read as they come.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(place: &Place, tool: &str) -> Self {
        let mut command = Command::new(place.path().join("log").join(tool));
        // A group of its own, to end all of its pipeline.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("start");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn append(file: &Path, text: &str) {
    let file = File::options().append(true).create(true).open(file);
    file.expect("open").write_all(text.as_bytes()).expect("write");
}

#[test]
fn watch_goes_on_with_the_next_file() {
    let place = Place::new("qpsmtpd");
    let main = place.path().join("log/main");
    std::fs::create_dir(&main).expect("a folder");
    let current = main.join("current");
    append(&current, "@400000006922100a00000001 1 first\n");
    let mut watch = Follower::start(&place, "watch");
    assert_eq!(watch.next(), "1 first");
    append(&current, "@400000006922100a00000002 1 second\n");
    assert_eq!(watch.next(), "1 second");
    std::fs::rename(&current, main.join("@400000006922100a00000003.s")).expect("rotate");
    append(&current, "@400000006922100a00000004 1 third\n");
    assert_eq!(watch.next(), "1 third");
}

#[test]
fn summarize_shows_a_session_when_it_ends() {
    let place = Place::new("qpsmtpd");
    let main = place.path().join("log/main");
    std::fs::create_dir(&main).expect("a folder");
    let current = main.join("current");
    append(&current, "@400000006922100a00000001 1 Connection from a [192.0.2.1]\n");
    let mut summary = Follower::start(&place, "summarize");
    append(&current, "@400000006922100a00000001 1 (connect) relay: skip\n");
    append(&current, "@400000006922100a00000001 1 click, disconnecting\n");
    assert_eq!(summary.next(), "ip              rly HELO     MAIL FRO RCPT TO");
    assert_eq!(summary.next(), "192.0.2.1        -");
}

/// Which it knows for the first one, too.
#[test]
fn summarize_waits_for_the_time_of_a_session() {
    let place = Place::new("qpsmtpd");
    let main = place.path().join("log/main");
    std::fs::create_dir(&main).expect("a folder");
    append(&place.path().join("config/plugins"), "connection_time\n");
    let current = main.join("current");
    append(&current, "@400000006922100a00000001 1 Connection from a [192.0.2.1]\n");
    let mut summary = Follower::start(&place, "summarize");
    append(&current, "@400000006922100a00000001 1 click, disconnecting\n");
    append(
        &current,
        "@400000006922100a00000001 1 (post-connection) connection_time: 1.5 s.\n",
    );
    assert_eq!(summary.next(), "ip              tim  HELO     MAIL FRO RCPT TO");
    assert_eq!(summary.next(), "192.0.2.1       1.5");
}
