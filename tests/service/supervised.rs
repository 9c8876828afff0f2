//! Under the supervisors: daemontools, runit and s6, with `run` and `log/run` as they are shipped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::account::settled;
use crate::harness::Client;
use crate::place::{Place, client, lives, output_of};
use crate::process::eventually;
use crate::programs::{Program, need};

/// A scanner of service directories; it and all that it has started is ended when this is dropped.
struct Scanner {
    child: Child,
    /// Ends the supervisors, once no scanner starts them again.
    end: Vec<Command>,
}

impl Scanner {
    fn start(mut command: Command, end: Vec<Command>) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("start");
        Self { child, end }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        let before = descendants(Pid::from_raw(self.child.id() as i32));
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
        for command in &mut self.end {
            let _ = command.output();
        }
        if !std::thread::panicking() {
            eventually("all that it supervised ends", || !before.iter().any(|pid| lives(*pid)));
        }
    }
}

/// The processes below a process.
fn descendants(pid: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw);
    children
        .flat_map(|child| [vec![child], descendants(child)].concat())
        .collect()
}

fn with(program: &Program, arguments: &[&str], path: &Path) -> Command {
    let mut command = program.command();
    command.args(arguments).arg(path);
    command
}

fn text(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The services that a scanner finds: the daemon and its log.
fn services(place: &Place) -> [PathBuf; 2] {
    [place.path(), place.path().join("log")]
}

#[test]
fn daemontools_start_stop_restart_and_reload_it() {
    let programs = ["svscan", "svc", "svstat", "multilog", "tai64nlocal"].map(need);
    let [Some(svscan), Some(svc), Some(svstat), Some(_), Some(local)] = programs else {
        return;
    };
    let _user = settled();
    let place = Place::new("qpsmtpd");
    let both = services(&place);
    let end = both.iter().map(|service| with(&svc, &["-dx"], service)).collect();
    let scanner = Scanner::start(with(&svscan, &[], place.site.path()), end);
    let say = |word: &str| output_of(&mut with(&svc, &[word], &place.path()));
    let state = || text(with(&svstat, &[], &place.path()).output().expect("svstat"));

    let address = place.address(0);
    assert_eq!(address.ip().to_string(), "127.0.0.1", "config/IP");
    assert_eq!(client(address).message("supervised"), 250);
    assert_eq!(place.messages(), 1);
    assert!(state().contains(": up (pid "), "{}", state());

    say("-h");
    place.logged("reloaded, generation 2", 0);

    let before = place.log().lines().count();
    say("-t");
    let ended = place.logged("all workers are gone, ending", before);
    let address = place.address(ended);
    assert_eq!(client(address).message("after a restart"), 250);

    let before = place.log().lines().count();
    say("-d");
    let ended = place.logged("all workers are gone, ending", before);
    eventually("down", || state().contains(": down "));
    assert!(Client::try_connect(address).is_err());
    say("-u");
    assert_eq!(client(place.address(ended)).message("up again"), 250);
    assert_eq!(place.messages(), 3);

    // Every line has a time that daemontools can read.
    let current = std::fs::File::open(place.path().join("log/main/current")).expect("the log");
    let readable = text(local.command().stdin(current).output().expect("tai64nlocal"));
    assert!(readable.lines().all(|line| line.starts_with("20")), "{readable}");
    log_tools_read_it(&place);
    drop(scanner);
}

/// The log tools make sense of what the daemon has really written.
fn log_tools_read_it(place: &Place) {
    let tool = |name: &str, argument: &str| {
        let mut command = Command::new(place.path().join("log").join(name));
        output_of(command.arg(argument))
    };
    let shown = tool("show_message", "127.0.0.1");
    assert!(
        shown.starts_with("connections from 127.0.0.1: 3; the last one:\n"),
        "{shown}"
    );
    assert!(
        shown.contains(" dispatching MAIL FROM:<sender@example.net>\n"),
        "{shown}"
    );
    let current = place.path().join("log/main/current");
    let summary = tool("summarize", current.to_str().expect("a path"));
    let line = summary.lines().last().expect("a line");
    assert!(line.starts_with("127.0.0.1 ") && line.contains("mple.com"), "{summary}");
    assert!(
        summary.lines().next().is_some_and(|head| head.contains(" rok")),
        "{summary}"
    );
    assert_eq!(
        summary.lines().filter(|line| line.starts_with("127.0.0.1")).count(),
        3,
        "{summary}"
    );
}

#[test]
fn runit_starts_reloads_and_stops_it() {
    let [Some(runsvdir), Some(sv)] = ["runsvdir", "sv"].map(need) else {
        return;
    };
    let _user = settled();
    let place = Place::new("qpsmtpd");
    let end = vec![with(&sv, &["-w", "20", "exit"], &place.path())];
    let scanner = Scanner::start(with(&runsvdir, &[], place.site.path()), end);
    let address = place.address(0);
    assert_eq!(client(address).message("under runit"), 250);
    output_of(&mut with(&sv, &["hup"], &place.path()));
    place.logged("reloaded, generation 2", 0);
    output_of(&mut with(&sv, &["-w", "30", "down"], &place.path()));
    place.logged("all workers are gone, ending", 0);
    assert!(Client::try_connect(address).is_err());
    assert_eq!(place.messages(), 1);
    drop(scanner);
}

#[test]
fn s6_starts_reloads_and_stops_it() {
    let [Some(scan), Some(svc)] = ["s6-svscan", "s6-svc"].map(need) else {
        return;
    };
    let _user = settled();
    let place = Place::new("qpsmtpd");
    let end = services(&place)
        .iter()
        .map(|service| with(&svc, &["-dx"], service))
        .collect();
    let mut command = scan.command();
    command.arg(place.site.path());
    let scanner = Scanner::start(command, end);
    let address = place.address(0);
    assert_eq!(client(address).message("under s6"), 250);
    output_of(&mut with(&svc, &["-h"], &place.path()));
    place.logged("reloaded, generation 2", 0);
    output_of(&mut with(&svc, &["-d"], &place.path()));
    place.logged("all workers are gone, ending", 0);
    assert!(Client::try_connect(address).is_err());
    assert_eq!(place.messages(), 1);
    drop(scanner);
}

/// The other two programs that log/run knows.
#[test]
fn logs_are_kept_by_whatever_is_there() {
    for logger in ["s6-log", "svlogd"] {
        let Some(program) = need(logger) else { continue };
        let place = Place::new("qpsmtpd");
        let tools = place.site.path().join("tools");
        std::fs::create_dir(&tools).expect("a folder");
        let found = program.command().get_program().to_owned();
        std::os::unix::fs::symlink(found, tools.join(logger)).expect("link");
        for tool in ["sh", "dirname", "id", "mkdir", "chown"] {
            let found = need(tool).expect(tool).command().get_program().to_owned();
            std::os::unix::fs::symlink(found, tools.join(tool)).expect("link");
        }
        // svlogd makes no folder.
        std::fs::create_dir(place.path().join("log/main")).expect("a folder");
        let mut command = Command::new(place.path().join("log/run"));
        command.env("PATH", &tools).stdin(Stdio::piped());
        let mut child = command.spawn().expect("start");
        let stdin = child.stdin.take().expect("stdin");
        std::io::Write::write_all(&mut &stdin, b"1 a line\n").expect("write");
        drop(stdin);
        assert!(child.wait().expect("end").success(), "{logger}");
        let log = place.log();
        assert!(log.starts_with('@') && log.ends_with(" 1 a line\n"), "{logger}: {log}");
    }
}

/// The folder of the log belongs to a user who may put a link there; root does not follow it.
#[test]
fn root_writes_nothing_in_the_folder_of_the_log() {
    let Some(setpriv) = need("setpriv") else { return };
    if !nix::unistd::Uid::effective().is_root() {
        return eprintln!("SKIPPED: not root");
    }
    let place = Place::new("qpsmtpd");
    let tools = place.site.path().join("tools");
    std::fs::create_dir(&tools).expect("a folder");
    let become_nobody = format!(
        "shift 2; exec {} --reuid 65534 --clear-groups \"$@\"",
        setpriv.command().get_program().display()
    );
    // id: the user is there; svlogd: takes its lines; chpst -u smtpd: becomes somebody else
    for (tool, does) in [("id", "echo 0"), ("svlogd", "cat"), ("chpst", &become_nobody)] {
        let file = tools.join(tool);
        std::fs::write(&file, format!("#!/bin/sh\n{does}\n")).expect("write");
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, all).expect("permissions");
    }
    for tool in ["sh", "dirname", "cat"] {
        let found = need(tool).expect(tool).command().get_program().to_owned();
        std::os::unix::fs::symlink(found, tools.join(tool)).expect("link");
    }
    let main = place.path().join("log/main");
    let outside = place.path().join("outside");
    std::fs::create_dir(&main).expect("a folder");
    std::os::unix::fs::chown(&main, Some(65534), None).expect("chown");
    let run = || {
        let mut command = Command::new(place.path().join("log/run"));
        output_of(command.env("PATH", &tools).stdin(Stdio::null()))
    };
    run();
    let config = main.join("config");
    assert_eq!(std::fs::read_to_string(&config).expect("config"), "s10000000\nn20\n");
    std::fs::remove_file(&config).expect("remove");
    std::os::unix::fs::symlink(&outside, &config).expect("link");
    run();
    assert!(!outside.exists());
}
