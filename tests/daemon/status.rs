//! The status page and its kin, over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::{Signal, kill};

use crate::harness::Daemon;
use crate::process::{PATIENCE, eventually};

pub fn start(options: &[&str]) -> (Daemon, SocketAddr) {
    let daemon = Daemon::start(&[&["--children", "2", "--status-listen", "127.0.0.1:0"], options].concat());
    let line = daemon.wait_for("status on ");
    let address = line.strip_prefix("status on ").expect("an address");
    let address = address.parse().expect("an address");
    (daemon, address)
}

/// Status line, header and body of an answer; nothing if the connection ends without one.
fn request(address: SocketAddr, text: &str) -> Option<(String, String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (status, fields) = head.split_once("\r\n")?;
    Some((status.to_owned(), fields.to_ascii_lowercase(), body.to_owned()))
}

fn get(address: SocketAddr, path: &str) -> (String, String, String) {
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    request(address, &text).unwrap_or_else(|| panic!("no answer to {path}"))
}

#[test]
fn page_and_data() {
    let (daemon, address) = start(&[]);
    assert_eq!(daemon.client().message("counted"), 250);
    let (status, fields, page) = get(address, "/");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(
        fields.contains("content-type: text/html") && fields.contains("default-src 'none'"),
        "{fields}"
    );
    assert!(page.contains("viewport") && page.ends_with("</html>\n"));
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "no external resources"
    );
    let (_, fields, data) = get(address, "/status.json");
    assert!(fields.contains("content-type: application/json"));
    assert!(data.starts_with("{\"status\":{\"version\":"), "{data}");
    for part in [
        "\"accepted\":1",
        "\"workers\":[{\"row\":0",
        "\"sessions\":[",
        "\"plugin\":\"queue::maildir\"",
    ] {
        assert!(data.contains(part), "no {part} in {data}");
    }
}

#[test]
fn metrics_in_the_format_of_prometheus() {
    let (daemon, address) = start(&[]);
    assert_eq!(daemon.client().message("counted"), 250);
    let (_, fields, text) = get(address, "/metrics");
    assert!(fields.contains("version=0.0.4"));
    assert!(text.contains("\nqpsmtpd_verdicts_total{plugin=\"rcpt_ok\",hook=\"rcpt\",verdict=\"accept\"} 1\n"));
    assert!(text.contains("\nqpsmtpd_hook_seconds_bucket{plugin=\"queue::maildir\",hook=\"queue\",le=\"+Inf\"} 1\n"));
    let mut typed = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.push(rest.split(' ').next().expect("a name").to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().expect("a number");
            let name = series.split('{').next().expect("a name");
            let known = |kind: &String| {
                name.strip_prefix(kind.as_str())
                    .is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(typed.iter().any(known), "no type for {name}");
        }
    }
}

#[test]
fn health_and_readiness() {
    let (daemon, address) = start(&[]);
    assert_eq!(get(address, "/healthz").2, "ok\n");
    let (status, _, ready) = get(address, "/readyz");
    assert_eq!((&*status, &*ready), ("HTTP/1.1 200 OK", "serving\n"));
    let paused = daemon
        .site
        .program("qpsmtpctl")
        .arg("pause")
        .output()
        .expect("qpsmtpctl");
    assert!(paused.status.success());
    eventually("it is not ready", || get(address, "/readyz").0.contains("503"));
    assert!(get(address, "/healthz").0.contains("200"));
}

#[test]
fn bad_requests_hurt_nobody() {
    let (daemon, address) = start(&[]);
    assert!(get(address, "/etc/passwd").0.contains("404"));
    let posted = request(address, "POST / HTTP/1.1\r\n\r\n").expect("an answer");
    assert!(posted.0.contains("405"));
    let head = request(address, "HEAD / HTTP/1.1\r\n\r\n").expect("an answer");
    assert_eq!((&*head.0, &*head.2), ("HTTP/1.1 200 OK", ""));
    assert_eq!(
        request(address, &format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000))),
        None
    );
    let _silent: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(address).expect("connect")).collect();
    assert_eq!(get(address, "/healthz").2, "ok\n");
    daemon.client().expect(250, "NOOP");
}

#[test]
fn one_that_dies_is_replaced_and_none_outlives_the_master() {
    let (mut daemon, address) = start(&[]);
    let before = daemon.workers();
    get(address, "/healthz");
    // the first child is a worker; the one that shows is that which no table of workers has
    let table = daemon
        .site
        .program("qpsmtpctl")
        .arg("workers")
        .output()
        .expect("qpsmtpctl");
    let table = String::from_utf8(table.stdout).expect("text");
    let other = before
        .iter()
        .find(|pid| !table.contains(&format!(" {pid} ")))
        .expect("the process that shows");
    kill(*other, Signal::SIGKILL).expect("kill");
    eventually("another one answers", || {
        request(address, "GET /healthz HTTP/1.1\r\n\r\n").is_some()
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
}
