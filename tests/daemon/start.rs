//! Starting: what is announced, which address and port and user are taken, which faults are shown.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::harness::{Client, Daemon, Site};
use crate::process::Process;

#[test]
fn a_message_arrives() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    assert_eq!(client.message("hello"), 250);
    client.expect(221, "QUIT");
    assert!(client.is_closed());
    let messages = daemon.site.messages();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].contains("\nSubject: hello\n\nText.\n"), "{}", messages[0]);
}

/// The two commands of the README: the shipped configuration, no options but the port.
#[test]
fn the_shipped_configuration_receives_mail() {
    let site = Site::empty();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    copy(&shipped, &site.path().join("config"));
    let daemon = Daemon::serve(site, &["--port", "0"]);
    assert_eq!(daemon.addresses[0].ip().to_string(), "127.0.0.1");
    let mut client = daemon.client();
    client
        .expect(250, "EHLO client.example.net")
        .expect(250, "MAIL FROM:<>");
    client.expect(250, "RCPT TO:<you@localhost>").expect(354, "DATA");
    client.expect(250, "Subject: x\r\n\r\ny\r\n.").expect(221, "QUIT");
    assert_eq!(daemon.site.messages().len(), 1);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy")),
        }
    }
}

#[test]
fn announces_listeners_in_the_order_given_whatever_is_logged() {
    let two = [
        "--listen-address",
        "127.0.0.2:0",
        "--interface",
        "127.0.0.1",
        "--port",
        "0",
    ];
    let daemon = Daemon::serve(Site::new(), &[&two[..], &["--quiet"]].concat());
    let ips: Vec<String> = daemon.addresses.iter().map(|a| a.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.0.2", "127.0.0.1"]);
    let lines = daemon.lines();
    let last = ["listening on 127.0.0.2:", "listening on 127.0.0.1:", "ready"];
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(
        lines.iter().zip(last).all(|(line, start)| line.starts_with(start)),
        "{lines:#?}"
    );
    for address in &daemon.addresses {
        assert_eq!(Client::connect(*address).reply().0, 220);
    }
}

#[test]
fn the_address_comes_from_the_configuration_if_no_option_says_it() {
    let site = Site::new();
    site.config("IP", "127.0.0.3\n").config("port", "0\n");
    let daemon = Daemon::serve(site, &[]);
    assert_eq!(daemon.addresses[0].ip().to_string(), "127.0.0.3");
    drop(daemon);
    let site = Site::new();
    site.config("IP", "0\n");
    let daemon = Daemon::serve(site, &["--port", "0"]);
    assert!(daemon.addresses[0].ip().is_unspecified());
    let port = daemon.addresses[0].port();
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.message("over IPv4"), 250);
    assert!(
        daemon.site.messages()[0].contains("(127.0.0.1)"),
        "IPv4 is written as such"
    );
}

#[test]
fn the_forkserver_has_its_own_option_names() {
    let site = Site::new();
    let mut command = site.program("qpsmtpd-forkserver");
    command.args([
        "-l",
        "127.0.0.1",
        "-l",
        "127.0.0.2:0",
        "-p",
        "0",
        "-p",
        "0",
        "-c",
        "3",
        "-m",
        "2",
        "-H",
    ]);
    let daemon = Daemon::run(site, &mut command);
    let ips: Vec<String> = daemon.addresses.iter().map(|a| a.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.1", "127.0.0.2"]);
    let mut two = [daemon.client(), daemon.client()];
    let refused = daemon.connect().reply();
    assert_eq!(refused.0, 451, "{}", refused.1);
    assert_eq!(two[1].message("from the forkserver"), 250);
}

#[test]
fn faults_are_all_shown_with_their_place() {
    let site = Site::new();
    site.config(
        "plugins",
        "rcpt_ok\nno_such_thing\nqueue/maildir\nnoop_counter 4 extra\n",
    );
    let mut process = Process::start(site.program("qpsmtpd-prefork").args(["--port", "0"]));
    assert_eq!(process.wait().code(), Some(78));
    let text = process.lines().join("\n");
    for expected in [
        "config/plugins:2:1: ",
        "config/plugins:4:16: ",
        "    no_such_thing\n    ^~~~",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(
        !text.contains("listening on"),
        "nothing is begun with a bad configuration"
    );
    let check = site.program("qpsmtpctl").arg("check").output().expect("run");
    assert_eq!(check.status.code(), Some(78));
    let again = site.program("qpsmtpd-prefork").arg("-n").output().expect("run");
    assert_eq!((again.status.code(), again.stderr), (Some(78), check.stderr));
    site.config("plugins", "rcpt_ok\nqueue/maildir ./Maildir\n");
    let check = site.program("qpsmtpctl").arg("check").output().expect("run");
    assert_eq!(String::from_utf8_lossy(&check.stdout), "configuration ok\n");
    assert!(check.status.success());
}

#[test]
fn an_address_in_use_is_a_fault_that_names_it() {
    let first = Daemon::start(&[]);
    let address = first.addresses[0].to_string();
    let site = Site::new();
    let mut second = Process::start(site.program("qpsmtpd-prefork").args(["--listen-address", &address]));
    assert_eq!(second.wait().code(), Some(71));
    assert!(second.lines().last().is_some_and(|line| line.contains(&address)));
}

#[test]
fn files_that_may_not_become_long_enough_are_a_fault() {
    let site = Site::new();
    let program = site.program("qpsmtpd-prefork");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 100; exec \"$@\"", "sh"]);
    command
        .arg(program.get_program())
        .args(["--listen-address", "127.0.0.1:0"]);
    let output = command
        .current_dir(site.path())
        .env("HOME", site.path())
        .output()
        .expect("sh");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(71), "{words}");
    assert!(words.contains("File too large"), "{words}");
}

#[test]
fn help_and_version_are_there() {
    let site = Site::empty();
    for program in ["qpsmtpd-prefork", "qpsmtpd-forkserver", "qpsmtpd", "qpsmtpctl"] {
        for option in ["--help", "--version"] {
            let output = site.program(program).arg(option).output().expect("run");
            assert!(
                output.status.success() && !output.stdout.is_empty(),
                "{program} {option}"
            );
        }
        let bad = site.program(program).arg("--no-such-option").output().expect("run");
        assert_eq!(bad.status.code(), Some(2), "{program}");
    }
}

#[test]
fn the_pid_file_is_kept_while_the_master_lives() {
    let site = Site::new();
    let path = site.path().join("pid");
    std::fs::write(&path, "what a dead one left").expect("write");
    let options = ["--pid-file", path.to_str().expect("a path"), "--port", "0"];
    let daemon = Daemon::serve(site, &options);
    let text = std::fs::read_to_string(&path).expect("the pid file");
    assert_eq!(text.trim(), daemon.pid().to_string());
    let site = Site::new();
    let mut second = Process::start(site.program("qpsmtpd-prefork").args(options));
    assert_eq!(second.wait().code(), Some(73));
    assert_eq!(std::fs::read_to_string(&path).expect("the pid file"), text);
}

/// root becomes `smtpd` or `nobody` and gives that user what it makes.
#[test]
fn root_serves_as_another_user() {
    if !Uid::effective().is_root() {
        return eprintln!("SKIPPED: root_serves_as_another_user: not root");
    }
    let daemon = Daemon::start(&["--debug"]);
    assert_eq!(daemon.client().message("as another"), 250);
    let owner = |name: &str| std::fs::metadata(daemon.site.path().join(name)).expect(name).uid();
    let server = owner("Maildir");
    assert_ne!(server, 0);
    assert_eq!(daemon.site.messages().len(), 1);
    for pid in daemon.workers().into_iter().chain([daemon.pid()]) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let ids = |key: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
            line.split_whitespace()
                .map(|id| id.parse().expect("a number"))
                .collect()
        };
        assert_eq!(ids("Uid:"), [server; 4]);
        assert!(!ids("Gid:").contains(&0) && !ids("Groups:").contains(&0), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
    daemon.wait_for("Running as user ");
}

#[test]
fn root_never_serves_as_root() {
    if !Uid::effective().is_root() {
        return eprintln!("SKIPPED: root_never_serves_as_root: not root");
    }
    for (user, words) in [("root", "is root"), ("no-such-user", "there is no user")] {
        let site = Site::new();
        let options = ["--user", user, "--listen-address", "127.0.0.1:0"];
        let mut process = Process::start(site.program("qpsmtpd-prefork").args(options));
        assert_eq!(process.wait().code(), Some(67));
        process.wait_for(words);
    }
}

#[test]
fn detaching_leaves_a_daemon_behind() {
    let site = Site::new();
    let path = site.path().join("pid");
    let options = ["--detach", "--pid-file", path.to_str().expect("a path")];
    let mut command = site.program("qpsmtpd-prefork");
    command
        .args(options)
        .args(["--no-rdns", "--listen-address", "127.0.0.1:0"]);
    let mut daemon = Daemon::run(site, &mut command);
    assert_eq!(daemon.wait().code(), Some(0), "{:#?}", daemon.lines());
    let text = std::fs::read_to_string(&path).expect("the pid file");
    let master = nix::unistd::Pid::from_raw(text.trim().parse().expect("a pid"));
    assert_ne!(master, daemon.pid());
    assert_eq!(daemon.client().message("to the background"), 250);
    nix::sys::signal::kill(master, Signal::SIGTERM).expect("signal");
    crate::process::eventually("it ends", || nix::sys::signal::kill(master, None).is_err());
}
