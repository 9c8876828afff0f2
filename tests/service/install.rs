//! Installed with the commands of the README, below a directory of its own, and started: it binds a low port, serves as
//! smtpd, and has nothing that it does not need.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::unistd::Pid;

use crate::account::Account;
use crate::harness::Site;
use crate::place::{client, output_of, project, text_of};
use crate::process::Process;

/// The commands of the README that install it.
fn commands() -> (String, String) {
    let readme = text_of("README.md");
    let chapter = readme.split("## Install it as a service").nth(1).expect("the chapter");
    let mut commands = chapter.lines().filter_map(|line| line.strip_prefix("    "));
    let useradd = commands.next().expect("a command");
    let install = commands
        .next()
        .expect("a command")
        .strip_prefix("cargo build --release && ");
    (useradd.into(), install.expect("built before").into())
}

fn low_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (600..1000).find(free).expect("a free port below 1024")
}

#[test]
fn as_the_readme_says_it_serves_as_smtpd_and_has_nothing_it_does_not_need() {
    let (useradd, install) = commands();
    let place = Site::empty();
    let dir = place.path().join("opt/qpsmtpd");
    let here = dir.to_str().expect("a path");
    let Some(account) = Account::ensure(&useradd.replace("/opt/qpsmtpd", here)) else {
        return eprintln!("SKIPPED: not root");
    };
    let programs = Path::new(env!("CARGO_BIN_EXE_qpsmtpd")).parent().expect("a directory");
    let installing = || {
        let command = install.replace("/opt/qpsmtpd", here);
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(project());
        output_of(shell.env("PROGRAMS", programs))
    };
    installing();
    let port = low_port();
    std::fs::write(dir.join("config/port"), format!("{port}\n")).expect("write");
    // Again, as an update: settings stay.
    installing();
    assert_eq!(
        std::fs::read_to_string(dir.join("config/port")).expect("port"),
        format!("{port}\n")
    );

    // Whoever starts it has files open that are none of its business.
    let words = "exec 7</etc/passwd 9>&2; exec ./run >&2";
    let mut shell = Command::new("sh");
    let process = Process::start(shell.args(["-c", words]).current_dir(&dir));
    assert_eq!(process.ready(), [SocketAddr::from(([127, 0, 0, 1], port))]);
    let mut client = client(([127, 0, 0, 1], port).into());
    assert_eq!(client.message("to smtpd"), 250);

    let message = std::fs::read_dir(dir.join("Maildir/new")).expect("Maildir").next();
    let about = message
        .expect("a message")
        .expect("an entry")
        .metadata()
        .expect("metadata");
    assert_eq!(
        (about.uid(), about.permissions().mode() & 0o777),
        (account.uid(), 0o600)
    );
    assert_eq!(dir.join("config").metadata().expect("config").uid(), 0);

    let workers = process.workers();
    assert!(!workers.is_empty());
    for pid in &workers {
        owns_nothing(*pid, account.uid(), &dir, &[]);
        assert_eq!(status(*pid)["NoNewPrivs"], "1");
    }
    // what it would leave to the next master
    let kept = ["board", "rates", "counters", "crashes"].map(|name| format!("/memfd:qpsmtpd {name} (deleted)"));
    owns_nothing(process.pid(), account.uid(), &dir, &kept);
}

fn status(pid: Pid) -> HashMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.into(), value.trim().into())).collect()
}

/// Nothing in the process is root's, and it has nothing open but what it works with, and what it has kept.
fn owns_nothing(pid: Pid, uid: u32, dir: &Path, kept: &[String]) {
    let status = status(pid);
    let numbers = |name: &str| -> Vec<u32> {
        let words = status[name].split_whitespace();
        words.map(|word| word.parse().expect("a number")).collect()
    };
    assert_eq!(numbers("Uid"), [uid; 4]);
    assert!(
        !numbers("Gid").contains(&0) && !numbers("Groups").contains(&0),
        "{status:?}"
    );
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["Umask"], "0077");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let limit = |name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name)
            .split_whitespace()
            .take(2)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);

    let descriptors = format!("/proc/{pid}/fd");
    let link = |number: &str| std::fs::read_link(format!("{descriptors}/{number}"));
    let text = |number: &str| link(number).map_or(String::new(), |path| path.to_string_lossy().into_owned());
    assert_eq!(text("0"), "/dev/null");
    let log = text("2");
    assert!(log.starts_with("pipe:") && text("1") == log, "{log}");
    for entry in std::fs::read_dir(&descriptors).expect("descriptors") {
        let number = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if ["0", "1", "2"].contains(&number.as_str()) {
            continue;
        }
        let what = text(&number);
        let queue = Path::new(&what).starts_with(dir.join("Maildir"));
        let own = what.starts_with("socket:") || what.starts_with("anon_inode:[event") || queue;
        assert!(
            own || what.is_empty() || kept.contains(&what),
            "descriptor {number} of {pid} is {what}"
        );
    }
}
