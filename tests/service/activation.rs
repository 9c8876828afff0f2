//! Sockets that somebody else has opened: by hand, by systemd's own tool, and per connection. The units are read by systemd.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::account::settled;
use crate::harness::{Client, Site};
use crate::place::{Place, client, output_of, project};
use crate::process::Process;
use crate::programs::{Server, need};

/// Starts the daemon of a site with this listening socket as descriptor 3, and another open one beside it.
fn start_with(site: &Site, listener: &TcpListener) -> Process {
    let program = site.program("qpsmtpd-prefork").get_program().to_owned();
    let words = "exec 3<&0 8</etc/passwd </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", words])
        .arg(program)
        .args(["--no-rdns", "--port", "1"]);
    shell.current_dir(site.path());
    let copy = OwnedFd::from(listener.try_clone().expect("copy"));
    Process::start_with(&mut shell, copy.into())
}

#[test]
fn a_socket_is_taken_over_and_outlives_the_daemon() {
    let _user = settled();
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let mut first = start_with(&site, &listener);
    assert_eq!(first.ready(), [address], "no other socket");
    assert_eq!(client(address).message("to the first"), 250);
    for pid in first.workers().into_iter().chain([first.pid()]) {
        let open = std::fs::read_link(format!("/proc/{pid}/fd/8"));
        assert!(open.map_or(true, |path| !path.starts_with("/etc")), "{pid}");
    }

    let mut open = client(address);
    first.signal(Signal::SIGTERM);
    assert_eq!(open.reply().0, 421);
    assert_eq!(first.wait().code(), Some(0));
    // Nobody is refused meanwhile.
    let mut waiting = Client::connect(address);
    let second = start_with(&site, &listener);
    assert_eq!(second.ready(), [address]);
    assert_eq!(waiting.reply().0, 220);
    assert_eq!(waiting.message("to the second"), 250);
    assert_eq!(site.messages().len(), 2);
}

#[test]
fn what_is_no_listening_socket_is_a_fault() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let stream = std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let program = site.program("qpsmtpd-prefork").get_program().to_owned();
    let words = "exec 3<&0; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", words]).arg(program).current_dir(site.path());
    let mut process = Process::start_with(&mut shell, OwnedFd::from(stream).into());
    assert_eq!(process.wait().code(), Some(71));
    process.wait_for("descriptor 3: no listening TCP or unix socket");
}

#[test]
fn systemd_socket_activate_starts_it_at_the_first_connection() {
    let Some(activate) = need("systemd-socket-activate") else {
        return;
    };
    let _user = settled();
    let site = Site::new();
    let server = Server::start(|address| {
        let mut command = activate.command();
        let program = site.program("qpsmtpd-prefork");
        command
            .args(["--listen", &address.to_string()])
            .arg(program.get_program());
        command.arg("--no-rdns").current_dir(site.path()).stderr(Stdio::null());
        command
    });
    assert_eq!(client(server.address).message("activated"), 250);
    assert_eq!(site.messages().len(), 1);
}

#[test]
fn systemd_socket_activate_starts_one_process_for_each_connection() {
    let Some(activate) = need("systemd-socket-activate") else {
        return;
    };
    let site = Site::new();
    let server = Server::start(|address| {
        let mut command = activate.command();
        let program = site.program("qpsmtpd");
        command.args(["--listen", &address.to_string(), "--accept", "--inetd"]);
        command.arg(program.get_program()).arg("--no-rdns");
        command.current_dir(site.path()).stderr(Stdio::null());
        command
    });
    let mut clients = [client(server.address), client(server.address)];
    for client in &mut clients {
        assert_eq!(client.message("a process each"), 250);
        client.expect(221, "QUIT");
        assert!(client.is_closed());
    }
    let messages = site.messages();
    assert_eq!(messages.len(), 2);
    assert!(messages[0].contains("(127.0.0.1)"), "{}", messages[0]);
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let Some(analyze) = need("systemd-analyze") else { return };
    let place = Place::new("qpsmtpd");
    let units = place.path().join("bin/service");
    std::fs::create_dir(&units).expect("a folder");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(project().join("bin/service")).expect("bin/service") {
        let file = entry.expect("an entry").path();
        let kind = file.extension().and_then(|kind| kind.to_str());
        if kind == Some("service") || kind == Some("socket") {
            let text = std::fs::read_to_string(&file).expect("a unit");
            let here = place.path().to_string_lossy().into_owned();
            let copy = units.join(file.file_name().expect("a name"));
            std::fs::write(&copy, text.replace("/opt/qpsmtpd", &here)).expect("write");
            files.push(copy);
        }
    }
    assert_eq!(files.len(), 4);
    let mut command = analyze.command();
    let output = command.arg("verify").args(&files).output().expect("run");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    let ours = words.lines().find(|line| line.contains("qpsmtpd"));
    assert_eq!(ours, None, "a complaint");
    let service = files
        .iter()
        .find(|file| file.ends_with("qpsmtpd.service"))
        .expect("the service");
    let mut command = analyze.command();
    output_of(
        command
            .args(["security", "--offline=true", "--threshold=50", "--no-pager"])
            .arg(service),
    );
}
