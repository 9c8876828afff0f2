//! What TLS does to a session.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};

use crate::client::{Client, settings};
use crate::harness::{Daemon, Site};
use crate::place::{PLUGINS, serve, site};
use crate::process::eventually;

fn greeted(daemon: &Daemon) -> (Client, String) {
    let mut client = Client::connect(daemon.addresses[0]);
    let extensions = client.greeted();
    (client, extensions)
}

#[test]
fn the_session_starts_anew_after_starttls() {
    let daemon = serve(site());
    let (mut client, extensions) = greeted(&daemon);
    assert!(
        extensions.contains("\n250-STARTTLS") || extensions.contains("\n250 STARTTLS"),
        "{extensions}"
    );
    assert!(!extensions.contains("REQUIRETLS"), "{extensions}");
    client.expect("250 ", "MAIL FROM:<before@example.net>");
    let mut client = client.starttls(settings(&daemon.site, false));
    client.expect("503 ", "RCPT TO:<user@example.com>");
    client.expect("503 5.5.1 ", "MAIL FROM:<sender@example.net>");
    let extensions = client.expect("250", "EHLO client.example.net");
    assert!(!extensions.contains("STARTTLS"), "{extensions}");
    assert_eq!(extensions.matches("REQUIRETLS").count(), 1, "{extensions}");
    client.expect("503 5.5.1 ", "STARTTLS");
    client.message("user@example.com");
    client.expect("221 ", "QUIT");
    let message = daemon.site.messages().remove(0);
    assert!(
        message
            .contains(" with ESMTPS (TLS_AES_256_GCM_SHA384 encrypted) (TLSv1.3, X25519MLKEM768, SNI mx.example.com)"),
        "{message}"
    );
    daemon.wait_for("(starttls) tls: TLS setup returning");
    daemon.wait_for(" TLS: TLS_AES_256_GCM_SHA384, TLSv1.3, X25519MLKEM768, SNI mx.example.com");
}

#[test]
fn commands_injected_behind_starttls_are_never_executed() {
    let daemon = serve(site());
    let (mut client, _) = greeted(&daemon);
    client.send(b"STARTTLS\r\nEHLO evil.example.org\r\nMAIL FROM:<evil@example.org>\r\n");
    assert!(client.reply().starts_with("220 "));
    let mut client = client.encrypt(settings(&daemon.site, false));
    // neither the greeting nor the sender has been heard, and nothing of them is answered
    client.expect("503 ", "RCPT TO:<user@example.com>");
    client.expect("503 ", "MAIL FROM:<sender@example.net>");
    client.expect("250", "EHLO client.example.net");
    client.expect("503 ", "RCPT TO:<user@example.com>");
    let told = daemon.wait_for("tls: discarded");
    assert!(
        told.contains("discarded 53 bytes sent in clear behind STARTTLS"),
        "{told}"
    );
    assert!(daemon.lines().iter().all(|line| !line.contains("evil.example.org")));
}

#[test]
fn starttls_takes_no_parameters_and_is_unknown_without_the_plugin() {
    let daemon = serve(site());
    let (mut client, _) = greeted(&daemon);
    client.expect("501 5.5.4 ", "STARTTLS now");
    client.expect("250 ", "NOOP");
    let daemon = Daemon::start(&[]);
    let (mut client, extensions) = greeted(&daemon);
    assert!(!extensions.contains("TLS"), "{extensions}");
    client.expect("500 ", "STARTTLS");
}

#[test]
fn without_a_certificate_tls_is_not_available() {
    let site = Site::new();
    site.config("plugins", PLUGINS);
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0"]);
    daemon.wait_for("config/plugins:1:1: warning: tls: error, TLS is not offered");
    let (mut client, extensions) = greeted(&daemon);
    assert!(!extensions.contains("TLS"), "{extensions}");
    client.expect("454 4.7.0 ", "STARTTLS");
    client.message("user@example.com");
}

#[test]
fn a_handshake_that_fails_ends_the_connection_without_a_word() {
    let daemon = serve(site());
    let (mut client, _) = greeted(&daemon);
    client.expect("220 ", "STARTTLS");
    client.send(b"EHLO client.example.net\r\nMAIL FROM:<sender@example.net>\r\n");
    let rest = client.rest();
    // an alert of TLS at most
    assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
    let told = daemon.wait_for("tls: fail, TLS handshake: ");
    assert!(told.contains("(starttls)"), "{told}");
    daemon.wait_for("Lost connection to client, cleaning up");
    assert!(daemon.lines().iter().all(|line| !line.contains("dispatching MAIL")));
}

#[test]
fn tls_comes_before_the_greeting_where_the_listener_says_so() {
    let site = site();
    site.config("plugins", &format!("earlytalker wait 1\n{PLUGINS}"));
    let daemon = serve(site);
    let client = Client::connect(daemon.addresses[1]);
    let mut client = client.encrypt(settings(&daemon.site, false));
    let extensions = client.greeted();
    assert!(
        extensions.contains("REQUIRETLS") && !extensions.contains("STARTTLS"),
        "{extensions}"
    );
    client.expect("503 ", "STARTTLS");
    client.message("user@example.com");
    daemon.wait_for("(connect) tls: TLS setup returning");
    daemon.wait_for("earlytalker: pass, not spontaneous");
    // and one that speaks in clear hears nothing in clear
    let mut client = Client::connect(daemon.addresses[1]);
    client.send(b"EHLO client.example.net\r\n");
    let rest = client.rest();
    assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
}

#[test]
fn requiretls_is_taken_over_tls_alone() {
    let daemon = serve(site());
    let (mut client, _) = greeted(&daemon);
    client.expect("555 5.5.4 ", "MAIL FROM:<sender@example.net> REQUIRETLS");
    let mut client = client.starttls(settings(&daemon.site, false));
    client.expect("250", "EHLO client.example.net");
    client.expect("501 5.5.4 ", "MAIL FROM:<sender@example.net> REQUIRETLS=1");
    client.expect("250 ", "MAIL FROM:<sender@example.net> REQUIRETLS");
}

#[test]
fn a_listed_certificate_may_relay() {
    let site = site();
    site.config("plugins", &PLUGINS.replace("tls", "tls clients request"));
    let daemon = serve(site);
    let relays = |shows| {
        let (client, _) = greeted(&daemon);
        let mut client = client.starttls(settings(&daemon.site, shows));
        client.expect("250", "EHLO client.example.net");
        client.expect("250 ", "MAIL FROM:<sender@example.net>");
        client.send(b"RCPT TO:<user@elsewhere.example>\r\n");
        client.reply().starts_with("250 ")
    };
    assert!(!relays(true), "nothing is listed");
    let facts = daemon.wait_for("verified client certificate");
    assert!(facts.contains("CN=mx.example.com"), "{facts}");
    let fingerprint = facts.rsplit("SHA-256 ").next().unwrap_or_default();
    daemon
        .site
        .config("relay_clientcerts", &format!("{fingerprint} our own\n"));
    assert!(relays(true));
    assert!(!relays(false));
}

#[test]
fn certificates_are_required_where_the_plugin_says_so() {
    let site = site();
    site.config("plugins", &PLUGINS.replace("tls", "tls clients 127.0.0.2=require"));
    let both = ["--listen-address", "127.0.0.1:0", "--listen-address", "127.0.0.2:0"];
    let daemon = Daemon::serve(site, &both);
    let greeted = |at: usize| {
        let mut client = Client::connect(daemon.addresses[at]);
        client.greeted();
        client
    };
    let with = |shows| settings(&daemon.site, shows);
    greeted(0)
        .starttls(with(false))
        .expect("250", "EHLO client.example.net");
    greeted(1).starttls(with(true)).expect("250", "EHLO client.example.net");
    // in TLS 1.3 the client believes that it is done before the server has judged
    let mut client = greeted(1);
    client.expect("220 ", "STARTTLS");
    if let Ok(mut client) = client.try_encrypt(with(false)) {
        assert_eq!(client.reply(), "");
    }
    daemon.wait_for("tls: fail, TLS handshake: the client showed no certificate");
}

#[test]
fn a_super_server_s_session_speaks_tls() {
    let site = site();
    for (port, tls_first) in [("25", false), ("465", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        let server: [OwnedFd; 2] = [server.try_clone().expect("a copy").into(), server.into()];
        let [input, output] = server;
        let mut command = site.program("qpsmtpd");
        command.env("TCPREMOTEIP", "192.0.2.7").env("TCPLOCALPORT", port);
        command
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("start");
        // the command holds our copies of the server's end
        drop(command);
        let client = Client::over(client);
        let mut client = match tls_first {
            true => client.encrypt(settings(&site, false)),
            false => client,
        };
        client.greeted();
        if !tls_first {
            client = client.starttls(settings(&site, false));
            client.expect("250", "EHLO client.example.net");
        }
        client.message("user@example.com");
        client.expect("221 ", "QUIT");
        assert!(child.wait().expect("the end").success());
    }
    assert!(site.messages().iter().all(|message| message.contains(" with ESMTPS (")));
    assert_eq!(site.messages().len(), 2);
}

/// What is sent to a client of TLS from outside its session must not be text.
#[test]
fn nobody_says_a_word_in_clear_where_tls_is_spoken() {
    let site = site();
    let both = [
        "--listen-address",
        "127.0.0.1:0",
        "--listen-address",
        "smtps://127.0.0.1:0",
    ];
    let few = ["--max-from-ip", "1", "--children", "2"];
    let daemon = Daemon::serve(site, &[&both[..], &few[..]].concat());
    let tls = settings(&daemon.site, false);
    let (stream, raw) = twice(daemon.addresses[1]);
    let mut client = stream.encrypt(tls.clone());
    client.greeted();
    // one too many: in clear it hears why, before a handshake it does not
    let refused = Client::connect(daemon.addresses[0]).rest();
    assert!(refused.starts_with(b"451 4.7.1 "), "{refused:?}");
    assert_eq!(Client::connect(daemon.addresses[1]).rest(), b"");
    crash(&daemon);
    has_no_text(&raw.rest());
    let (mut client, raw) = twice(daemon.addresses[0]);
    client.greeted();
    let mut client = client.starttls(tls);
    client.expect("250", "EHLO client.example.net");
    crash(&daemon);
    has_no_text(&raw.rest());
    // what would have been heard in clear
    let (mut client, raw) = twice(daemon.addresses[0]);
    client.greeted();
    crash(&daemon);
    assert!(raw.rest().starts_with(b"421 4.3.0 "));
}

/// A client, and its connection as it is beneath.
fn twice(address: SocketAddr) -> (Client, Client) {
    let stream = TcpStream::connect(address).expect("connect");
    let raw = stream.try_clone().expect("a second descriptor");
    (Client::over(stream), Client::over(raw))
}

fn has_no_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!text.contains("4.3.0"), "{text:?}");
}

/// Lets the workers die of a fault, and waits until those that had sessions are known to be dead.
fn crash(daemon: &Daemon) {
    let before = daemon.lines().iter().filter(|line| line.contains("crash of ")).count();
    for worker in daemon.workers() {
        kill(worker, Signal::SIGSEGV).expect("kill");
    }
    eventually("the crash is recorded", || {
        daemon.lines().iter().filter(|line| line.contains("crash of ")).count() > before
    });
}
