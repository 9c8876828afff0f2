//! `qpsmtpd`: one session on stdin and stdout, as super-servers run it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Output, Stdio};

use crate::harness::{Client, Site};

/// Runs a session over pipes with this environment.
fn converse(site: &Site, environment: &[(&str, &str)], input: &str) -> Output {
    let mut command = site.program("qpsmtpd");
    command.arg("--no-rdns").envs(environment.iter().copied());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("start");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(input.as_bytes())
        .expect("write");
    child.wait_with_output().expect("end")
}

const TCPSERVER: [(&str, &str); 6] = [
    ("PROTO", "TCP"),
    ("TCPREMOTEIP", "192.0.2.7"),
    ("TCPREMOTEPORT", "4711"),
    ("TCPREMOTEHOST", "client.example.org"),
    ("TCPLOCALIP", "192.0.2.1"),
    ("TCPLOCALPORT", "25"),
];

const MESSAGE: &str = "EHLO client.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n\
                       DATA\r\nSubject: x\r\n\r\nText.\r\n.\r\nQUIT\r\n";

#[test]
fn the_client_is_the_one_of_tcpserver() {
    let site = Site::new();
    let output = converse(&site, &TCPSERVER, MESSAGE);
    let text = String::from_utf8(output.stdout).expect("text");
    let codes: Vec<&str> = text
        .lines()
        .filter(|l| l.as_bytes()[3] == b' ')
        .map(|l| &l[..3])
        .collect();
    assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"], "{text}");
    assert!(text.lines().all(|line| !line.is_empty()) && text.ends_with("\r\n"));
    assert_eq!(output.status.code(), Some(0));
    let messages = site.messages();
    assert_eq!(messages.len(), 1);
    assert!(
        messages[0].contains("client.example.org (HELO client.example.org) (192.0.2.7)"),
        "{}",
        messages[0]
    );
}

#[test]
fn databytes_of_the_environment_counts() {
    let site = Site::new();
    let environment = [&TCPSERVER[..], &[("DATABYTES", "3")]].concat();
    let text = String::from_utf8(converse(&site, &environment, MESSAGE).stdout).expect("text");
    assert!(text.contains("SIZE 3\r\n") && text.contains("\r\n552 "), "{text}");
    assert!(site.messages().is_empty());
}

#[test]
fn relayclient_of_the_environment_counts() {
    let site = Site::new();
    site.config("plugins", "relay\nrcpt_ok\nqueue/maildir ./Maildir\n");
    let elsewhere = MESSAGE.replace("b@example.com", "b@elsewhere.example");
    let text = String::from_utf8(converse(&site, &TCPSERVER, &elsewhere).stdout).expect("text");
    assert!(text.contains("\r\n550 "), "{text}");
    let environment = [&TCPSERVER[..], &[("RELAYCLIENT", "")]].concat();
    let text = String::from_utf8(converse(&site, &environment, &elsewhere).stdout).expect("text");
    assert!(!text.contains("\r\n550 "), "{text}");
    assert_eq!(site.messages().len(), 1);
}

/// As inetd and systemd with Accept=yes do it: stdin and stdout are the socket.
#[test]
fn the_client_is_the_one_of_the_socket() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut client = Client::connect(listener.local_addr().expect("address"));
    let accept = || -> TcpStream { listener.accept().expect("accept").0 };
    let socket = OwnedFd::from(accept());
    let mut command = site.program("qpsmtpd");
    command
        .arg("--no-rdns")
        .stdin(socket.try_clone().expect("copy"))
        .stdout(socket);
    let mut child = command.stderr(Stdio::null()).spawn().expect("start");
    drop(command);
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.message("over the socket"), 250);
    client.expect(221, "QUIT");
    assert!(client.is_closed());
    assert!(child.wait().expect("end").success());
    assert!(site.messages()[0].contains("(127.0.0.1)"), "{}", site.messages()[0]);
}

#[test]
fn a_client_that_goes_away_ends_the_session() {
    let site = Site::new();
    let output = converse(&site, &TCPSERVER, "EHLO client.example.org\r\nMAIL FROM:<>\r\n");
    assert_eq!(output.status.code(), Some(0));
    assert!(site.messages().is_empty());
}
