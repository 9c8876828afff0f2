//! Servers behind queue/smtp-forward and queue/lmtp that encrypt, want a login, and keep mailboxes: a second daemon of
//! ours, and Dovecot.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::harness::{Daemon, Site};
use crate::process::eventually;
use crate::programs::{Program, Server, need, succeed};

/// A daemon that offers TLS and takes mail for anybody from those who have logged in.
fn back(at_once: bool) -> Daemon {
    let site = Site::new();
    let mut command = site.program("qpsmtpctl");
    succeed(command.args(["cert", "--CN", "mx.example.com", "--name", "127.0.0.1", "--dir", "ssl"]));
    site.config(
        "plugins",
        "tls\nauth/auth_flat_file\nrelay\nrcpt_ok\nqueue/maildir ./Maildir\n",
    );
    site.config("flat_auth_pw", "tim@example.com:geheim\n");
    site.config("rcpthosts", "nobody.example\n");
    site.config("tls_before_auth", "1\n");
    let address = if at_once { "smtps://127.0.0.1:0" } else { "127.0.0.1:0" };
    Daemon::serve(site, &["--listen-address", address, "--max-from-ip", "0"])
}

/// A daemon with this line for a queue plugin.
fn front(queue: &str) -> Daemon {
    let site = Site::new();
    site.config("plugins", &format!("rcpt_ok\n{queue}\n"));
    site.config("rcpthosts", "far.example\nx.example\n");
    Daemon::serve(
        site,
        &[
            "--listen-address",
            "127.0.0.1:0",
            "--max-from-ip",
            "0",
            "--children",
            "1",
        ],
    )
}

fn login(folder: &Path, password: &str) -> PathBuf {
    let file = folder.join("login");
    fs::write(&file, format!("tim@example.com:{password}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    file
}

/// Sends a message to these; gives the code and the text of the reply to it.
fn send(daemon: &Daemon, recipients: &[&str]) -> (u16, String) {
    let mut client = daemon.client();
    client
        .expect(250, "EHLO client.example.net")
        .expect(250, "MAIL FROM:<joe@sender.example>");
    for recipient in recipients {
        client.expect(250, &format!("RCPT TO:<{recipient}>"));
    }
    client.expect(354, "DATA");
    client.send(&format!("Subject: relayed\r\n\r\n{}.\r\n", "some text\r\n".repeat(100)));
    client.reply()
}

fn fingerprint(site: &Site) -> String {
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let output = openssl
        .arg(site.path().join("ssl/qpsmtpd-server.crt"))
        .output()
        .expect("openssl");
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim().split_once('=').expect("a fingerprint").1.to_owned()
}

#[test]
fn tls_and_logins_towards_a_daemon_of_ours() {
    if need("openssl").is_none() {
        return;
    }
    let back = back(false);
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let ca = back.site.path().join("ssl/qpsmtpd-ca.crt").display().to_string();
    let print = fingerprint(&back.site);
    let good = format!("login {}", login(folder.path(), "geheim").display());
    let wrong_print = "AB".repeat(32);
    let host = format!("queue/smtp-forward 127.0.0.1 {}", back.addresses[0].port());
    for (arguments, want) in [
        (format!("tls verified tls_ca {ca} {good}"), Ok(())),
        (
            format!("tls verified tls_ca {ca} tls_name mx.example.com {good}"),
            Ok(()),
        ),
        (
            format!("tls verified tls_ca {ca} tls_name other.example.com {good}"),
            Err("not believed"),
        ),
        (format!("tls verified {good}"), Err("not believed")),
        (format!("tls fingerprint tls_fingerprint {print} {good}"), Ok(())),
        (
            format!("tls fingerprint tls_fingerprint {wrong_print} {good}"),
            Err("its fingerprint is"),
        ),
        (good.clone(), Ok(())),
        (format!("tls off {good}"), Err("not sent without TLS")),
        (format!("tls off login_in_clear {good}"), Err("it offers none of AUTH")),
    ] {
        let front = front(&format!("{host} {arguments}"));
        let before = back.site.messages().len();
        let (code, text) = send(&front, &["user@far.example"]);
        match want {
            Ok(()) => {
                assert_eq!(code, 250, "{arguments}: {text}");
                let messages = back.site.messages();
                assert_eq!(messages.len(), before + 1, "{arguments}");
            }
            Err(why) => {
                assert_eq!(code / 100, 4, "{arguments}: {text}");
                front.wait_for(why);
                assert_eq!(back.site.messages().len(), before, "{arguments}");
            }
        }
        let log = front.lines().join("\n");
        assert!(!log.contains("geheim") && !log.contains("Z2VoZWlt"), "{log}");
    }
    assert!(
        back.site
            .messages()
            .iter()
            .all(|message| message.contains("with ESMTPSA"))
    );
    let wrong = format!("login {}", login(folder.path(), "falsch").display());
    let front = front(&format!("{host} {wrong}"));
    assert_eq!(send(&front, &["user@far.example"]).0 / 100, 4);
    front.wait_for("the login was refused: 535");
}

#[test]
fn one_connection_for_many_messages() {
    let back = back(false);
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let file = login(folder.path(), "geheim");
    let arguments = format!("tls required login {}", file.display());
    let front = front(&format!(
        "queue/smtp-forward 127.0.0.1 {} {arguments}",
        back.addresses[0].port()
    ));
    for _ in 0..5 {
        assert_eq!(send(&front, &["user@far.example"]).0, 250);
    }
    assert_eq!(back.site.messages().len(), 5);
    let connections = back
        .lines()
        .iter()
        .filter(|line| line.contains("Accepted connection"))
        .count();
    assert_eq!(connections, 1, "{:#?}", back.lines());
}

#[test]
fn tls_from_the_first_byte() {
    let back = back(true);
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let file = login(folder.path(), "geheim");
    let ca = back.site.path().join("ssl/qpsmtpd-ca.crt");
    let port = back.addresses[0].port();
    let arguments = format!("smtps tls verified tls_ca {} login {}", ca.display(), file.display());
    let front = front(&format!("queue/smtp-forward 127.0.0.1 {port} {arguments}"));
    assert_eq!(send(&front, &["user@far.example"]).0, 250);
    assert_eq!(back.site.messages().len(), 1);
}

/// A Dovecot of our own, which speaks LMTP at a unix socket and at a port.
pub struct Dovecot {
    server: Server,
    folder: tempfile::TempDir,
}

impl Dovecot {
    pub fn start(program: &Program) -> Dovecot {
        let folder = tempfile::Builder::new().prefix("dc").tempdir().expect("a folder");
        let at = folder.path().display().to_string();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        fs::create_dir(folder.path().join("mail")).expect("a folder");
        fs::set_permissions(folder.path().join("mail"), fs::Permissions::from_mode(0o777)).expect("mode");
        let users = "a@x.example:{PLAIN}x::::::\nb@x.example:{PLAIN}x::::::\n\
                     full@x.example:{PLAIN}x::::::userdb_quota_rule=*:bytes=300\n";
        fs::write(folder.path().join("users"), users).expect("written");
        let root = nix::unistd::getuid().is_root();
        let me = nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten()
            .map_or("nobody".to_owned(), |me| me.name);
        let own = match root {
            true => "mail_uid = nobody\nmail_gid = nogroup\n".to_owned(),
            false => format!("default_internal_user = {me}\ndefault_login_user = {me}\n"),
        };
        let server = Server::start(|address: SocketAddr| {
            let config = format!(
                "protocols = lmtp\nbase_dir = {at}/run\nstate_dir = {at}/run\nlog_path = {at}/log\nssl = no\n{own}\
                 first_valid_uid = 1\nfirst_valid_gid = 1\nmail_location = maildir:{at}/mail/%n\npassdb {{\n driver = \
                 passwd-file\n args = {at}/users\n}}\nuserdb {{\n driver = passwd-file\n args = {at}/users\n}}\n\
                 mail_plugins = quota\nplugin {{\n quota = maildir:User quota\n}}\nservice lmtp {{\n unix_listener \
                 {at}/lmtp {{\n mode = 0666\n }}\n inet_listener lmtp {{\n address = 127.0.0.1\n port = {}\n }}\n}}\n",
                address.port()
            );
            fs::write(folder.path().join("conf"), config).expect("written");
            let mut command = program.command();
            command.args(["-F", "-c", &format!("{at}/conf")]).stderr(Stdio::null());
            command
        });
        Dovecot { server, folder }
    }

    pub fn socket(&self) -> String {
        self.folder.path().join("lmtp").display().to_string()
    }

    /// The messages of a mailbox.
    pub fn mail(&self, user: &str) -> Vec<String> {
        let new = self.folder.path().join("mail").join(user).join("new");
        let entries = fs::read_dir(new).into_iter().flatten();
        entries
            .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("read"))
            .collect()
    }
}

#[test]
fn dovecot_keeps_what_it_has_said_yes_to() {
    let Some(program) = need("dovecot").filter(|_| need("/usr/lib/dovecot/lmtp").is_some()) else {
        return;
    };
    let dovecot = Dovecot::start(&program);
    let mail = |user| dovecot.mail(user).len();
    let reports = Site::new();
    reports.config("rcpthosts", "sender.example\n");
    let reports = Daemon::serve(reports, &["--listen-address", "127.0.0.1:0"]);
    let tcp = front(&format!("queue/lmtp {}", dovecot.server.address));
    assert_eq!(send(&tcp, &["a@x.example", "b@x.example"]).0, 250);
    assert_eq!((mail("a"), mail("b")), (1, 1));
    let message = dovecot.mail("a").remove(0);
    assert!(
        message.contains("Return-Path: <joe@sender.example>") && message.ends_with("some text\n"),
        "{message}"
    );
    // one is unknown: nobody gets it, unless the sender can be told
    let (code, text) = send(&tcp, &["a@x.example", "nobody@x.example"]);
    assert!(code / 100 == 5 && text.contains("5.1.1"), "{code} {text}");
    assert_eq!(mail("a"), 1);
    let front = front(&format!(
        "queue/lmtp {} bounces {}",
        dovecot.socket(),
        reports.addresses[0]
    ));
    assert_eq!(
        send(&front, &["a@x.example", "nobody@x.example", "full@x.example"]).0,
        250
    );
    assert_eq!((mail("a"), mail("full")), (2, 0));
    eventually("a report", || reports.site.messages().len() == 1);
    let report = reports.site.messages().remove(0);
    for part in [
        "To: <joe@sender.example>",
        "Final-Recipient: rfc822; nobody@x.example\nAction: failed\nStatus: 5.1.1\n",
        "Final-Recipient: rfc822; full@x.example\nAction: failed\nStatus: 5.2.2\n",
        "Diagnostic-Code: smtp; 552 5.2.2 <full@x.example> Quota exceeded",
        "\nSubject: relayed\n",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    // nobody has it
    let (code, text) = send(&front, &["full@x.example"]);
    assert!(code / 100 == 5 && text.contains("Quota exceeded"), "{code} {text}");
    assert_eq!(reports.site.messages().len(), 1);
    // three messages, the first one with a report, over two connections at most
    let log = fs::read_to_string(dovecot.folder.path().join("log")).expect("a log");
    assert!(log.matches("Connect from local").count() <= 2, "{log}");
    let socket = dovecot.socket();
    drop(dovecot);
    assert_eq!(send(&front, &["a@x.example"]).0 / 100, 4);
    front.wait_for(&format!("error, {socket}: "));
}
