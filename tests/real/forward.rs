//! Servers of others behind the plugin queue/smtp-forward: Postfix's smtp-sink, aiosmtpd, and a second daemon of ours.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use qpsmtpd::plugin::{Event, Kit};
use qpsmtpd::plugins::REGISTER;
use qpsmtpd::session::Verdict;

use crate::corpus::{Item, check, corpus, delivered};
use crate::harness::{Daemon, Site};
use crate::process::PATIENCE;
use crate::programs::{Program, Server, need, need_python};

/// A daemon that forwards to this address.
fn forwarder(to: SocketAddr, arguments: &str) -> Daemon {
    let site = Site::new();
    let plugins = format!("rcpt_ok\nqueue/smtp-forward {} {} {arguments}\n", to.ip(), to.port());
    site.config("plugins", &plugins);
    let options = ["--listen-address", "127.0.0.1:0", "--max-from-ip", "0"];
    Daemon::serve(site, &options)
}

/// Sends a message as it is, apart from line ends and dots; returns the answer to it.
fn send(daemon: &Daemon, recipient: &str, text: &[u8]) -> String {
    let stream = TcpStream::connect(daemon.addresses[0]).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    let mut stream = BufReader::new(stream);
    let mut last = String::new();
    let lines = text.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    let mut data = Vec::new();
    for line in &lines[..lines.len() - 1] {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(b".\r\n");
    let commands = [
        b"".to_vec(),
        b"EHLO client.example.net\r\n".to_vec(),
        b"MAIL FROM:<sender@example.net> BODY=8BITMIME\r\n".to_vec(),
        format!("RCPT TO:<{recipient}>\r\n").into_bytes(),
        b"DATA\r\n".to_vec(),
        data,
    ];
    for command in commands {
        stream.get_mut().write_all(&command).expect("send");
        loop {
            last.clear();
            stream.read_line(&mut last).expect("a reply");
            if last.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
    }
    last.trim_end().to_owned()
}

/// smtp-sink with these arguments.
fn sink(program: &Program, arguments: &[&str]) -> Server {
    Server::start(|address| {
        let mut command = program.command();
        if nix::unistd::getuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        command
            .args(arguments)
            .stderr(Stdio::null())
            .args([&address.to_string(), "100"]);
        command
    })
}

#[test]
fn smtp_sink_gets_what_was_sent() {
    let Some(program) = need("smtp-sink") else {
        return;
    };
    let dumps = Site::empty();
    std::fs::set_permissions(dumps.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("mode");
    let sink = sink(&program, &["-d", &format!("{}/dump.", dumps.path().display())]);
    let daemon = forwarder(sink.address, "");
    for item in corpus() {
        let answer = send(&daemon, &format!("{}@example.com", item.name), &item.text);
        assert!(answer.starts_with("250 2."), "{}: {answer}", item.name);
        let text = only_dump(dumps.path());
        // the pseudo fields of the dump, and what the daemon has added
        let start = find(&text, b"\nReceived: from ").expect("Received") + 1;
        let head = String::from_utf8_lossy(&text[..start]).into_owned();
        assert!(head.contains("X-Mail-Args: <sender@example.net>"), "{head}");
        assert!(
            head.contains(&format!("X-Rcpt-Args: <{}@example.com>", item.name)),
            "{head}"
        );
        // an empty line ends the dump
        let text = text.strip_suffix(b"\n").expect("the end of the dump");
        assert!(
            text.ends_with(&item.stored()),
            "{}: {}",
            item.name,
            String::from_utf8_lossy(text)
        );
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The content of the only dump, which is removed.
fn only_dump(directory: &Path) -> Vec<u8> {
    let entries: Vec<_> = std::fs::read_dir(directory)
        .expect("dumps")
        .map(|entry| entry.expect("entry").path())
        .collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    let text = std::fs::read(&entries[0]).expect("a dump");
    std::fs::remove_file(&entries[0]).expect("remove");
    text
}

/// smtp-sink drops the connection, says 421, refuses for now and for good at each command: the client hears 250 only
/// where the message has been taken before that.
#[test]
fn smtp_sink_fails_at_every_step() {
    let Some(program) = need("smtp-sink") else {
        return;
    };
    let (declaration, _) = REGISTER.find("queue/smtp-forward").expect("the plugin");
    for step in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"] {
        for how in ["-q", "-Q", "-r", "-f"] {
            let sink = sink(&program, &[how, step]);
            let mut t = Kit::load(declaration, &format!("127.0.0.1 {} timeout 10", sink.address.port()));
            t.mail("sender@example.net").declined();
            t.accept("user@example.com");
            t.message("Subject: x\n\nText.\n");
            let outcome = t.ask(Event::Queue);
            let want = match (how, step) {
                (_, "QUIT") => Verdict::Ok,
                // after EHLO it tries HELO
                ("-f", "EHLO") => Verdict::Ok,
                (_, "CONNECT" | "EHLO") => Verdict::Declined,
                ("-q", ".") => Verdict::DenySoft,
                ("-q", _) => Verdict::Declined,
                ("-f", _) => Verdict::Deny,
                _ => Verdict::DenySoft,
            };
            assert_eq!(outcome.verdict, want, "{how} {step}: {outcome:?}, {:?}", t.logged());
        }
    }
}

#[test]
fn the_corpus_through_two_daemons() {
    let back = Daemon::serve(Site::new(), &["--listen-address", "127.0.0.1:0", "--max-from-ip", "0"]);
    let front = forwarder(back.addresses[0], "");
    let items = corpus();
    for item in &items {
        let answer = send(&front, &format!("{}@example.com", item.name), &item.text);
        assert!(answer.starts_with("250 2.6.0 queued as "), "{}: {answer}", item.name);
    }
    let mut messages = delivered(&back.site.path().join("Maildir"));
    for item in &items {
        check(&mut messages, &format!("{}@example.com", item.name), &item.stored());
    }
    assert!(messages.is_empty());
}

/// Says its port, then keeps each message in a file named after its recipient, or refuses it as the recipient's name
/// says.
const AIOSMTPD: &str = r#"
import asyncio, os, sys
from aiosmtpd.smtp import SMTP
SMTP.line_length_limit = 2 ** 20
class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("rcpt-"):
            return address.split("@")[0][5:].replace("_", " ")
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"
    async def handle_DATA(self, server, session, envelope):
        name = envelope.rcpt_tos[0].split("@")[0]
        if name.startswith("data-"):
            return name[5:].replace("_", " ")
        with open(os.path.join(sys.argv[1], name), "wb") as file:
            file.write(envelope.original_content)
        return f"250 2.0.0 kept as {name}"
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), data_size_limit=2 ** 25), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

/// A Python server; killed when this is dropped.
struct Aiosmtpd(Child, SocketAddr);

impl Aiosmtpd {
    fn start(mut python: Command, directory: &Path) -> Self {
        let mut child = python
            .args(["-c", AIOSMTPD])
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout");
        BufReader::new(stdout.take(100)).read_line(&mut line).expect("a port");
        let port: u16 = line.trim().parse().expect("a port");
        Self(child, ([127, 0, 0, 1], port).into())
    }
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn aiosmtpd_gets_the_corpus_and_refuses() {
    let Some(python) = need_python("aiosmtpd") else {
        return;
    };
    let kept = tempfile::tempdir().expect("a directory");
    let server = Aiosmtpd::start(python.command(), kept.path());
    let daemon = forwarder(server.1, "");
    for item in corpus() {
        let answer = send(&daemon, &format!("{}@example.com", item.name), &item.text);
        assert_eq!(answer, format!("250 2.6.0 queued as {}", item.name));
        let text = std::fs::read(kept.path().join(item.name)).expect("a message");
        assert!(text.ends_with(&on_the_wire(&item)), "{}", item.name);
    }
    for (recipient, answer) in [
        ("rcpt-550_5.1.1_nobody_here", "552 5.1.1 nobody here"),
        ("rcpt-450_4.2.1_not_now", "452 4.2.1 not now"),
        ("data-554_5.7.1_spam", "552 5.7.1 spam"),
        ("data-451_4.3.5_not_now", "452 4.3.5 not now"),
        ("data-552_too_big", "552 5.0.0 too big"),
    ] {
        assert_eq!(
            send(&daemon, &format!("{recipient}@example.com"), b"Subject: x\n\ny\n"),
            answer
        );
    }
}

fn on_the_wire(item: &Item) -> Vec<u8> {
    let stored = item.stored();
    let lines: Vec<&[u8]> = stored.split(|byte| *byte == b'\n').collect();
    lines.join(&b"\r\n"[..])
}
