//! Proxies and servers in front of the daemon: their clients are limited, shown and logged as if they had come
//! themselves.

use std::net::SocketAddr;
use std::sync::Barrier;

use crate::harness::{Client, Daemon, Site};

/// A client whose connection a proxy passes on.
fn proxied(address: SocketAddr, header: &str) -> Client {
    let mut client = Client::connect(address);
    client.send(header);
    client
}

fn from(ip: &str) -> String {
    format!("PROXY TCP4 {ip} 203.0.113.1 4711 25\r\n")
}

fn site() -> Site {
    let site = Site::new();
    site.config("proxy_networks", "127.0.0.1\n");
    site
}

/// 60 clients of one address by the proxy at once, and 20 of three others: as many as allowed of each are greeted, and
/// the proxy itself has no limit.
#[test]
fn limits_hold_for_the_clients_and_not_for_the_proxy() {
    const LIMIT: usize = 5;
    let options = ["--listen-address", "127.0.0.1:0", "--max-from-ip", "5"];
    let crowd = ["--children", "30", "--idle-children", "0"];
    let daemon = Daemon::serve(site(), &[&options[..], &crowd].concat());
    let address = daemon.addresses[0];
    let (start, end) = (Barrier::new(80), Barrier::new(80));
    let visit = |number: usize| {
        let who = match number {
            ..60 => 0,
            other => 1 + other % 3,
        };
        start.wait();
        let mut client = proxied(address, &from(&format!("198.51.100.{who}")));
        let code = client.reply().0;
        end.wait();
        (who, code)
    };
    let greeted: Vec<(usize, u16)> = std::thread::scope(|scope| {
        let visit = &visit;
        let all: Vec<_> = (0..80).map(|number| scope.spawn(move || visit(number))).collect();
        all.into_iter().map(|one| one.join().expect("a client")).collect()
    });
    for who in 0..4 {
        let codes = greeted.iter().filter(|(one, _)| *one == who).map(|(_, code)| *code);
        let (served, refused): (Vec<u16>, Vec<u16>) = codes.partition(|code| *code == 220);
        assert_eq!(served.len(), LIMIT, "{who}: {greeted:?}");
        assert!(refused.iter().all(|code| *code == 451), "{greeted:?}");
    }
    daemon.wait_for("refused 198.51.100.0: limit max-from-ip 5");
}

#[test]
fn sessions_are_shown_and_ended_by_the_address_of_the_client() {
    let daemon = Daemon::serve(site(), &["--listen-address", "127.0.0.1:0"]);
    let mut client = proxied(daemon.addresses[0], &from("198.51.100.7"));
    assert_eq!(client.reply().0, 220);
    client.expect(250, "NOOP");
    let ask = |words: &[&str]| {
        let mut command = daemon.site.program("qpsmtpctl");
        let output = command.args(words).output().expect("qpsmtpctl");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(ask(&["list"]).contains("198.51.100.7"), "{}", ask(&["list"]));
    ask(&["kill", "198.51.100.7"]);
    assert_eq!(client.reply().0, 550);
    assert!(client.is_closed());
    daemon.wait_for("Connection from [198.51.100.7] [198.51.100.7]");
}

#[test]
fn rubbish_from_a_proxy_costs_a_connection_and_no_more() {
    let site = site();
    site.config("proxy_timeout", "1\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0"]);
    let huge = format!("\r\n\r\n\0\r\nQUIT\n!\u{11}{}{}", "\u{7f}\u{7f}", "x".repeat(3000));
    let long = format!("PROXY TCP4 {}", "1".repeat(200));
    let rubbish: [(&str, &str); 5] = [
        ("EHLO x\r\n", "it does not begin with one"),
        ("PROXY TCP4 a b c d\r\n", "'a' is no address of TCP4"),
        (&long, "the line is longer than 107 bytes"),
        (&huge, "32639 bytes of it are more than 8192"),
        ("PROXY ", "not there in time, 6 bytes came"),
    ];
    for (header, why) in rubbish {
        assert!(proxied(daemon.addresses[0], header).is_closed(), "{header:?}");
        daemon.wait_for(&format!("bad PROXY header from 127.0.0.1: {why}"));
    }
    let mut client = proxied(daemon.addresses[0], &from("198.51.100.7"));
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.message("after all that"), 250);
}

#[test]
fn xclient_counts_the_client_it_names() {
    let site = Site::new();
    site.config("xclient_networks", "127.0.0.1\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--max-from-ip", "1"]);
    // the server itself has no limit
    let (mut one, mut two) = (daemon.client(), daemon.client());
    one.expect(220, "XCLIENT ADDR=198.51.100.7");
    assert_eq!(two.say("XCLIENT ADDR=198.51.100.7"), 451);
    assert!(two.is_closed());
    daemon.client().expect(220, "XCLIENT ADDR=198.51.100.8");
    assert_eq!(one.message("in its name"), 250);
    assert!(daemon.site.messages()[0].contains("(198.51.100.7)"));
    one.expect(220, "XCLIENT ADDR=198.51.100.9");
    daemon.client().expect(220, "XCLIENT ADDR=198.51.100.7");
}
