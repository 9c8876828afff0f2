//! LMTP at a port and at a unix socket: the daemon behind another mail server.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{Client, Daemon, Site};

/// A daemon that speaks SMTP at a port, LMTP at another, and LMTP at a unix socket.
fn daemon(options: &[&str]) -> (Daemon, PathBuf) {
    let site = Site::new();
    let path = site.path().join("lmtp");
    let socket = format!("lmtp://{}", path.display());
    let listen = [
        "--listen-address",
        "127.0.0.1:0",
        "--listen-address",
        "lmtp://127.0.0.1:0",
        "--listen-address",
        &socket,
    ];
    (Daemon::serve(site, &[&listen[..], options].concat()), path)
}

/// Sends a message for two, and checks that each of them has a reply.
fn deliver(client: &mut Client) {
    assert_eq!(client.reply().0, 220);
    client
        .expect(500, "EHLO front.example")
        .expect(250, "LHLO front.example");
    client.expect(250, "MAIL FROM:<sender@example.net>");
    client.expect(250, "RCPT TO:<one@example.com>");
    client.expect(550, "RCPT TO:<one@example.org>");
    client.expect(250, "RCPT TO:<two@example.com>").expect(354, "DATA");
    client.expect(250, "Subject: x\r\n\r\nText.\r\n.");
    assert_eq!(client.reply().0, 250);
    client.expect(250, "NOOP");
}

#[test]
fn each_recipient_has_a_reply_at_a_port_and_at_a_socket() {
    let (daemon, path) = daemon(&["--max-from-ip", "2"]);
    assert_eq!(
        Client::connect(daemon.addresses[0]).reply().1,
        "mx.example.com ESMTP qpsmtpd 2.0.0 ready"
    );
    deliver(&mut Client::connect(daemon.addresses[1]));
    // no limit per address holds at the socket
    let mut clients = [(); 4].map(|()| Client::connect_unix(&path));
    clients.iter_mut().for_each(deliver);
    let uid = nix::unistd::Uid::current();
    daemon.wait_for(&format!("Connection from uid{uid}@unix [127.0.0.1]"));
    let output = daemon
        .site
        .program("qpsmtpctl")
        .arg("list")
        .output()
        .expect("qpsmtpctl");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(listed.matches("unix").count(), 4, "{listed}");
    let messages = daemon.site.messages();
    assert!(
        messages.iter().all(|message| message.contains(" with LMTP")),
        "{messages:?}"
    );
    let local = format!("Received: from uid{uid}@unix (HELO front.example) (127.0.0.1)");
    assert!(messages.iter().any(|message| message.contains(&local)), "{messages:?}");
}

#[test]
fn the_socket_is_of_its_owner_and_goes_with_the_daemon() {
    let (mut daemon, path) = daemon(&["--socket-mode", "0606"]);
    let found = std::fs::symlink_metadata(&path).expect("a socket");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o606);
    if nix::unistd::Uid::current().is_root() {
        assert_ne!(found.uid(), 0, "it belongs to who serves");
    }
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    // root has made it, and the directory may belong to root alone
    let left = path.exists();
    assert!(
        !left
            || daemon
                .lines()
                .iter()
                .any(|line| line.contains("cannot remove the socket"))
    );
    // one that is left is replaced, one in use is not
    let site = Site::new();
    drop(std::os::unix::net::UnixListener::bind(site.path().join("old")).expect("bind"));
    let used = site.path().join("used");
    let _user = std::os::unix::net::UnixListener::bind(&used).expect("bind");
    let mut command = site.program("qpsmtpd-prefork");
    let output = command
        .arg("--listen-address")
        .arg(format!("unix:{}", used.display()))
        .output();
    let told = String::from_utf8_lossy(&output.expect("the end").stderr).into_owned();
    assert!(
        told.contains("cannot listen on unix:") && told.contains("in use"),
        "{told}"
    );
    let old = format!("unix:{}/old", site.path().display());
    let daemon = Daemon::serve(site, &["--listen-address", &old]);
    deliver(&mut Client::connect_unix(&daemon.site.path().join("old")));
}

#[test]
fn an_upgrade_hands_the_socket_over() {
    let (daemon, path) = daemon(&[]);
    let before = std::fs::metadata(&path).expect("a socket").ino();
    let mut client = Client::connect_unix(&path);
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for("upgraded: process");
    assert_eq!(std::fs::metadata(&path).expect("a socket").ino(), before);
    deliver(&mut client);
    drop(client);
    deliver(&mut Client::connect_unix(&path));
    let pid = daemon.wait_for("upgraded: process");
    let pid = pid.split("process ").nth(1).and_then(|rest| rest.split(' ').next());
    let pid: i32 = pid.and_then(|pid| pid.parse().ok()).expect("a process id");
    daemon.wait_for("all workers are gone, ending");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("the new master");
}

#[test]
fn one_session_speaks_lmtp_too() {
    let site = Site::new();
    let mut command = site.program("qpsmtpd");
    let mut child = command
        .args(["--lmtp", "--no-rdns"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let text = "LHLO x\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<one@example.com>\r\nRCPT TO:<two@example.com>\r\nDATA\r\n\
                Subject: x\r\n\r\ntext\r\n.\r\nQUIT\r\n";
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("the end");
    let replies = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(replies.matches("250 2.6.0 Queued").count(), 2, "{replies}");
}
