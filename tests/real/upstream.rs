//! Those in front of the daemon: HAProxy and stunnel with the PROXY protocol, swaks with XCLIENT, clients of LMTP.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::harness::{Client, Daemon, Site};
use crate::programs::{Server, need, need_python, succeed};

/// A daemon that believes proxies on this machine.
fn daemon() -> Daemon {
    let site = Site::new();
    site.config("proxy_networks", "127.0.0.1\n");
    Daemon::serve(site, &["--listen-address", "127.0.0.1:0"])
}

/// Sends a message by a proxy, from 127.0.0.5.
fn deliver(proxy: SocketAddr) {
    let mut client = Client::connect_from([127, 0, 0, 5].into(), proxy);
    assert_eq!(client.reply().0, 220);
    assert_eq!(client.message("by a proxy"), 250);
    client.expect(221, "QUIT");
}

fn haproxy(daemon: &Daemon, options: &str) -> Option<Server> {
    let program = need("haproxy")?;
    let (file, back) = (daemon.site.path().join("haproxy.cfg"), daemon.addresses[0]);
    Some(Server::start(|front| {
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 20s\n  timeout client 60s\n  timeout server 60s\n\
             listen mx\n  bind {front}\n  server mx {back} {options}\n"
        );
        std::fs::write(&file, text).expect("write");
        let mut command = program.command();
        command.args(["-db", "-q", "-f"]).arg(&file);
        command
    }))
}

#[test]
fn haproxy_tells_its_client_in_both_versions() {
    for (options, words) in [
        ("send-proxy", "PROXY v1"),
        ("send-proxy-v2", "PROXY v2"),
        ("send-proxy-v2-ssl", "PROXY v2"),
    ] {
        let daemon = daemon();
        let Some(proxy) = haproxy(&daemon, options) else {
            return;
        };
        deliver(proxy.address);
        daemon.wait_for(&format!("{words} from 127.0.0.1: client 127.0.0.5:"));
        daemon.wait_for("Connection from [127.0.0.5] [127.0.0.5]");
        assert!(daemon.site.messages()[0].contains("(127.0.0.5)"));
    }
}

#[test]
fn haproxy_looks_whether_the_daemon_lives() {
    let daemon = daemon();
    let options = "send-proxy-v2 check check-send-proxy inter 100";
    let Some(proxy) = haproxy(&daemon, options) else {
        return;
    };
    daemon.wait_for("PROXY v2 from 127.0.0.1: LOCAL");
    deliver(proxy.address);
    assert!(!daemon.lines().iter().any(|line| line.contains("bad PROXY header")));
}

/// Sends one message by TLS from the first byte; the arguments are the port and the CA.
const SMTPS: &str = r#"
import smtplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with smtplib.SMTP_SSL("127.0.0.1", int(sys.argv[1]), "client.example.net", context=context, timeout=60,
                      source_address=("127.0.0.7", 0)) as smtp:
    smtp.sendmail("sender@example.net", ["user@example.com"], "Subject: x\r\n\r\ntext\r\n")
"#;

/// HAProxy cannot read what it passes on: its header comes first and in clear, TLS begins after it.
#[test]
fn haproxy_passes_on_tls_that_ends_here() {
    let Some(python) = need_python("ssl") else {
        return;
    };
    for (options, words) in [("send-proxy", "PROXY v1"), ("send-proxy-v2", "PROXY v2")] {
        let site = Site::new();
        let mut certificate = site.program("qpsmtpctl");
        succeed(certificate.args(["cert", "--CN", "mx.example.com", "--name", "127.0.0.1", "--dir", "ssl"]));
        site.config("plugins", "tls\nrcpt_ok\nqueue/maildir ./Maildir\n");
        site.config("proxy_networks", "127.0.0.1\n");
        let daemon = Daemon::serve(site, &["--listen-address", "smtps://127.0.0.1:0"]);
        let Some(proxy) = haproxy(&daemon, options) else {
            return;
        };
        let ca = daemon.site.path().join("ssl/qpsmtpd-ca.crt");
        let mut client = python.command();
        succeed(client.args(["-c", SMTPS, &proxy.address.port().to_string()]).arg(ca));
        daemon.wait_for(&format!("{words} from 127.0.0.1: client 127.0.0.7:"));
        let message = daemon.site.messages().remove(0);
        assert!(
            message.contains("(127.0.0.7)") && message.contains(" with ESMTPS"),
            "{message}"
        );
        assert!(!daemon.lines().iter().any(|line| line.contains("bad PROXY header")));
    }
}

#[test]
fn stunnel_tells_its_client() {
    let site = Site::new();
    site.config("plugins", "stunnel proxy on\nrcpt_ok\nqueue/maildir ./Maildir\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0"]);
    let (Some(stunnel), Some(python)) = (need("stunnel4"), need_python("ssl")) else {
        return;
    };
    let mut certificate = daemon.site.program("qpsmtpctl");
    succeed(certificate.args(["cert", "--CN", "mx.example.com", "--dir", "ssl"]));
    let (place, back) = (daemon.site.path().to_owned(), daemon.addresses[0]);
    let proxy = Server::start(|front| {
        let text = format!(
            "foreground = yes\npid =\n[smtps]\naccept = {front}\nconnect = {back}\nprotocol = proxy\n\
             cert = {0}/ssl/qpsmtpd-server.crt\nkey = {0}/ssl/qpsmtpd-server.key\n",
            place.display()
        );
        let file = place.join("stunnel.conf");
        std::fs::write(&file, text).expect("write");
        let mut command = stunnel.command();
        command.arg(file).stderr(std::process::Stdio::null());
        command
    });
    let script = "import smtplib, ssl, sys\n\
                  context = ssl._create_unverified_context()\n\
                  with smtplib.SMTP_SSL('127.0.0.1', int(sys.argv[1]), context=context,\n\
                  \x20                     source_address=('127.0.0.6', 0)) as smtp:\n\
                  \x20   smtp.sendmail('sender@example.net', ['user@example.com'], 'Subject: x\\r\\n\\r\\ntext\\r\\n')\n";
    let mut client = python.command();
    succeed(client.args(["-c", script, &proxy.address.port().to_string()]));
    daemon.wait_for("PROXY v1 from 127.0.0.1: client 127.0.0.6:");
    assert!(daemon.site.messages()[0].contains("(127.0.0.6)"));
}

#[test]
fn swaks_speaks_for_another() {
    let site = Site::new();
    site.config("xclient_networks", "127.0.0.1\n");
    let daemon = Daemon::serve(site, &["--listen-address", "127.0.0.1:0"]);
    let Some(swaks) = need("swaks") else {
        return;
    };
    let mut command = swaks.command();
    command.args([
        "--server",
        "127.0.0.1",
        "--port",
        &daemon.addresses[0].port().to_string(),
    ]);
    command.args(["--xclient-addr", "198.51.100.7", "--xclient-name", "mail.example.net"]);
    command.args([
        "--from",
        "sender@example.net",
        "--to",
        "user@example.com",
        "--helo",
        "client.example.net",
    ]);
    succeed(&mut command);
    daemon.wait_for("XCLIENT from 127.0.0.1: client mail.example.net [198.51.100.7]");
    let message = daemon.site.messages().remove(0);
    assert!(
        message.contains("Received: from mail.example.net (HELO client.example.net) (198.51.100.7)"),
        "{message}"
    );
}

/// Delivers to two by LMTP, at a port and at a unix socket.
const LMTP: &str = r#"
import smtplib, sys
for host, port in (("127.0.0.1", int(sys.argv[1])), (sys.argv[2], 0)):
    with smtplib.LMTP(host, port) as lmtp:
        refused = lmtp.sendmail("sender@example.net", ["one@example.com", "two@example.com", "three@example.org"],
                                "Subject: x\r\n\r\ntext\r\n")
        assert list(refused) == ["three@example.org"], refused
        # it has only read the reply for the first
        assert lmtp.getreply()[0] == 250
"#;

fn lmtp(path: &Path) -> [String; 2] {
    ["lmtp://127.0.0.1:0".to_owned(), format!("unix:{}", path.display())]
}

#[test]
fn clients_of_lmtp_deliver_at_a_port_and_at_a_socket() {
    let site = Site::new();
    let socket = site.path().join("lmtp");
    let [port, unix] = lmtp(&socket);
    let daemon = Daemon::serve(site, &["--listen-address", &port, "--listen-address", &unix]);
    let (Some(python), Some(swaks)) = (need_python("smtplib"), need("swaks")) else {
        return;
    };
    let port = daemon.addresses[0].port().to_string();
    let mut client: Command = python.command();
    succeed(client.args(["-c", LMTP, &port]).arg(&socket));
    let envelope = [
        "--from",
        "sender@example.net",
        "--to",
        "one@example.com",
        "--protocol",
        "LMTP",
    ];
    let mut command = swaks.command();
    succeed(command.args(["--server", "127.0.0.1", "--port", &port]).args(envelope));
    let mut command = swaks.command();
    succeed(command.arg("--socket").arg(&socket).args(envelope));
    assert!(
        daemon
            .site
            .messages()
            .iter()
            .all(|message| message.contains(" with LMTP"))
    );
    assert_eq!(daemon.site.messages().len(), 4);
}
