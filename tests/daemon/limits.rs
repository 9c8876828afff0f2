//! The limits of sessions and the rates of a client address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Barrier;

use crate::harness::{Client, Daemon, Site};
use crate::process::eventually;

/// 200 clients of one address at once: as many as allowed are greeted, all others get 451.
#[test]
fn exact_in_a_stampede_and_nobody_elses_business() {
    const LIMIT: usize = 6;
    let options = ["--children", "30", "--idle-children", "0", "--max-from-ip", "6"];
    let daemon = Daemon::start(&options);
    let address = daemon.addresses[0];
    let (start, end) = (Barrier::new(200), Barrier::new(201));
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let visit = || {
            start.wait();
            let mut client = Client::connect(address);
            let reply = client.reply();
            assert!(reply.0 == 220 || client.is_closed(), "451 closes");
            // Nobody leaves before everybody has been answered, and the other address was tried.
            end.wait();
            reply.0
        };
        let clients: Vec<_> = (0..200).map(|_| scope.spawn(visit)).collect();
        for other in 2..5 {
            let mut client = Client::connect_from(IpAddr::from([127, 0, 0, other]), address);
            assert_eq!(client.reply().0, 220);
            assert_eq!(client.message("from elsewhere"), 250);
        }
        end.wait();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 220).count(), LIMIT, "{codes:?}");
    assert_eq!(
        codes.iter().filter(|code| **code == 451).count(),
        200 - LIMIT,
        "{codes:?}"
    );
    // the sessions notice the end of their clients when they get to it
    let mut client = None;
    eventually("there is room again", || {
        let mut another = daemon.connect();
        let served = another.reply().0 == 220;
        client = served.then_some(another);
        served
    });
    assert_eq!(client.expect("a client").message("there is room again"), 250);
}

#[test]
fn ipv6_clients_count_by_their_network() {
    let listen = ["--listen-address", "[::1]:0", "--listen-address", "127.0.0.1:0"];
    let Ok(_) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return eprintln!("SKIPPED: ipv6_clients_count_by_their_network: no IPv6");
    };
    let daemon = Daemon::serve(Site::new(), &[&listen[..], &["--max-from-ip", "1"]].concat());
    let mut first = daemon.client();
    let refused = Client::connect(daemon.addresses[0]).reply();
    assert_eq!(refused.0, 451);
    assert!(refused.1.contains("::1"), "{}", refused.1);
    // IPv4 is another address.
    assert_eq!(Client::connect(daemon.addresses[1]).reply().0, 220);
    assert_eq!(first.message("the first is served"), 250);
}

#[test]
fn ipv4_over_a_listener_for_both_is_counted_as_ipv4() {
    let site = Site::new();
    site.config("IP", "0\n");
    let daemon = Daemon::serve(site, &["--port", "0", "--max-from-ip", "2"]);
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.addresses[0].port()));
    let from = |last: u8| {
        let mut client = Client::connect_from(IpAddr::from([127, 0, 0, last]), address);
        (client.reply().0, client)
    };
    let clients = [from(1), from(1), from(2), from(1), from(2), from(2)];
    let codes: Vec<u16> = clients.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [220, 220, 220, 451, 220, 451]);
}

#[test]
fn networks_and_listeners_have_limits_of_their_own() {
    let site = Site::new();
    site.config("rate_exempt", "127.0.0.9\n");
    let listen = ["--listen-address", "127.0.0.1:0", "--listen-address", "127.0.0.2:0"];
    let limits = [
        "--max-from-net",
        "2",
        "--net-prefix",
        "16,48",
        "--max-per-listener",
        "3",
    ];
    let daemon = Daemon::serve(site, &[&listen[..], &limits[..]].concat());
    let come = |ip: [u8; 4], listener: usize| {
        let mut client = Client::connect_from(IpAddr::from(ip), daemon.addresses[listener]);
        let (code, text) = client.reply();
        (client, code, text)
    };
    let _two = [come([127, 0, 0, 1], 0), come([127, 0, 9, 1], 1)];
    let (_, code, text) = come([127, 0, 4, 4], 0);
    assert!(
        code == 451 && text.contains("the network of 127.0.4.4"),
        "{code} {text}"
    );
    let (exempt, code, _) = come([127, 0, 0, 9], 0);
    assert_eq!(code, 220);
    let (third, code, _) = come([127, 1, 0, 1], 0);
    assert_eq!(code, 220);
    assert_eq!(come([127, 2, 0, 1], 0).1, 421);
    assert_eq!(come([127, 2, 0, 1], 1).1, 220);
    drop((exempt, third));
}

/// A client that does not wait for the answer to a wrong password has failed all the same.
#[test]
fn logins_of_clients_that_hang_up_count() {
    let site = Site::new();
    site.config("plugins", "auth/auth_flat_file\nrcpt_ok\nqueue/maildir ./Maildir\n");
    site.config("flat_auth_pw", "joe@example.com:secret\n");
    site.config("auth_failure_rate", "3/600\n").config("auth_delay", "30\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "3"]);
    for _ in 0..3 {
        let mut client = daemon.client();
        client.expect(250, "EHLO client.example.net");
        client.send("AUTH PLAIN AGpvZUBleGFtcGxlLmNvbQB3cm9uZw==\r\n");
        drop(client);
    }
    let failures = || {
        daemon
            .lines()
            .iter()
            .filter(|line| line.contains("authentication failed"))
            .count()
    };
    eventually("they have failed", || failures() == 3);
    assert_eq!(daemon.connect().reply().0, 421);
    daemon.wait_for("rate limit auth_failure_rate 3/600 reached by 127.0.0.1");
}

/// A refusal that ends the session, whatever says so, counts as any other.
#[test]
fn refusals_that_close_the_connection_count() {
    let site = Site::new();
    site.config(
        "plugins",
        "count_unrecognized_commands 1\nrcpt_ok\nqueue/maildir ./Maildir\n",
    );
    site.config("error_rate", "3/600\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0", "--children", "3"]);
    for _ in 0..3 {
        let mut client = daemon.client();
        assert_eq!(client.say("RUBBISH"), 521);
        assert!(client.is_closed());
    }
    assert_eq!(daemon.connect().reply().0, 421);
    daemon.wait_for("rate limit error_rate 3/600 reached by 127.0.0.1");
}
