//! One process per session, under the real tcpserver with rules of the real tcprules, and under the real xinetd.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use nix::unistd::Uid;

use crate::account::Account;
use crate::harness::Client;
use crate::place::{Ended, Place, client, project};
use crate::programs::{Server, need};

const USERADD: &str = "useradd --system --shell /usr/sbin/nologin smtpd";

/// A file of bin/service, made for this place.
fn service_file(place: &Place, name: &str) -> String {
    let text = std::fs::read_to_string(project().join("bin/service").join(name)).expect(name);
    text.replace("/opt/qpsmtpd", place.path().to_str().expect("a path"))
}

#[test]
fn tcpserver_decides_about_relaying_size_and_who_may_come() {
    let [Some(_), Some(tcprules)] = ["tcpserver", "tcprules"].map(need) else {
        return;
    };
    let _account = Account::ensure(USERADD);
    let place = Place::new("qpsmtpd");
    place.folders_for_all();
    place.config("plugins", "relay\nrcpt_ok\nqueue/maildir ./Maildir\n");
    let rules = "127.0.0.1:allow,RELAYCLIENT=\"\",DATABYTES=\"1000\"\n127.0.0.2:allow\n:deny\n";
    place.config("tcp.smtp", rules);
    let config = place.path().join("config");
    let rules = File::open(config.join("tcp.smtp")).expect("rules");
    let mut command = tcprules.command();
    command
        .arg(config.join("tcp.smtp.cdb"))
        .arg(config.join("tcp.smtp.tmp"))
        .stdin(rules);
    assert!(command.status().expect("tcprules").success());

    let run = place.path().join("bin/tcpserver");
    std::fs::write(&run, service_file(&place, "qpsmtpd.tcpserver")).expect("write");
    // -1: the port on standard output; -H -l: no questions to the DNS of whoever runs this.
    let mut command = Command::new("sh");
    command.arg(&run).args(["-1", "-H", "-l", "mx.example.com"]);
    let mut server = Ended(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start"),
    );
    let lines = BufReader::new(server.0.stdout.take().expect("stdout")).lines();
    let mut lines = lines.map_while(Result::ok);
    let port: u16 = lines.find_map(|line| line.parse().ok()).expect("a port");
    // Read on, so that nothing that is logged has to wait.
    let log = std::thread::spawn(move || lines.collect::<Vec<_>>());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let from = |last: u8| Client::connect_from(IpAddr::from([127, 0, 0, last]), address);

    let mut first = from(1);
    assert_eq!(first.reply().0, 220);
    let hello = first.try_say("EHLO client.example.net").expect("a reply").1;
    assert!(hello.contains("SIZE 1000"), "{hello}");
    first
        .expect(250, "MAIL FROM:<a@example.net>")
        .expect(250, "RCPT TO:<b@elsewhere.example>");
    first.expect(250, "RSET");
    first.begin_message();
    assert_eq!(
        first.say(&format!("Subject: x\r\n\r\n{}\r\n.", "too much ".repeat(150))),
        552
    );
    first.expect(221, "QUIT");

    let mut second = from(2);
    assert_eq!(second.reply().0, 220);
    let hello = second.try_say("EHLO client.example.net").expect("a reply").1;
    assert!(!hello.contains("SIZE 1000"), "{hello}");
    second
        .expect(250, "MAIL FROM:<a@example.net>")
        .expect(550, "RCPT TO:<b@elsewhere.example>");
    assert_eq!(second.message("for us"), 250);
    second.expect(221, "QUIT");

    assert!(from(3).is_closed(), "denied by the rules");
    assert_eq!(place.messages(), 1);
    drop(server);
    let log = log.join().expect("the log");
    assert!(log.iter().any(|line| line.contains(" Connection from ")), "{log:#?}");
}

#[test]
fn xinetd_starts_one_process_for_each_connection() {
    let Some(xinetd) = need("xinetd") else { return };
    if !Uid::effective().is_root() {
        return eprintln!("SKIPPED: not root");
    }
    let _account = Account::ensure(USERADD);
    let place = Place::new("qpsmtpd");
    place.folders_for_all();
    place.config("spool_dir", place.path().join("tmp").to_str().expect("a path"));
    place.config(
        "plugins",
        &format!("rcpt_ok\nqueue/maildir {}\n", place.path().join("Maildir").display()),
    );
    let server = Server::start(|address| {
        // A service of another name and port, for this machine only.
        let text = service_file(&place, "qpsmtpd.xinetd").replace("service smtp", "service qpsmtpd-test");
        let more = format!(
            "    type = UNLISTED\n    port = {}\n    bind = 127.0.0.1\n}}",
            address.port()
        );
        let file = place.path().join("xinetd.conf");
        std::fs::write(&file, text.replace('}', &more)).expect("write");
        let mut command = xinetd.command();
        command
            .arg("-f")
            .arg(file)
            .arg("-dontfork")
            .arg("-pidfile")
            .arg(place.path().join("xinetd.pid"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    });
    let mut client = client(server.address);
    assert_eq!(client.message("by xinetd"), 250);
    client.expect(221, "QUIT");
    assert!(client.is_closed());
    assert_eq!(place.messages(), 1);
}
