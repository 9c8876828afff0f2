//! No password, token or digest is in any log, whatever goes wrong, at the highest level: stderr, all logging plugins,
//! records of crashes, the control socket, the status page, and what is left in the files of the site.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Client, settings};
use crate::harness::{Daemon, Site};
use crate::passwd::base64;
use crate::place::{PASSWORD, USER, serve, site, tokens};
use crate::process::{PATIENCE, eventually};
use crate::programs::need;

/// A password that is wrong and nobody's.
const WRONG: &str = "Wr0ng-w0rd+of Jim";

/// Everything that must not be found: secrets, and what was sent of them.
struct Secrets(Vec<String>);

impl Secrets {
    fn new() -> Secrets {
        let mut secrets = Secrets(Vec::new());
        for secret in [PASSWORD, WRONG, tokens::ES256, tokens::EXPIRED] {
            secrets.add(secret);
        }
        secrets
    }

    /// A text, and what of its base64 does not depend on what stands around it, wherever it begins.
    fn add(&mut self, secret: &str) {
        self.0.push(secret.to_owned());
        for before in ["", "x", "xx"] {
            let encoded = base64(format!("{before}{secret}").as_bytes());
            let end = encoded.trim_end_matches('=').len() - 1;
            self.0
                .push(encoded[if before.is_empty() { 0 } else { 4 }..end].to_owned());
        }
    }

    /// What stands in a text that must not.
    fn found(&self, text: &str) -> Option<&str> {
        let lower = text.to_ascii_lowercase();
        let is = |secret: &&String| text.contains(secret.as_str()) || lower.contains(&secret.to_ascii_lowercase());
        self.0.iter().find(is).map(String::as_str)
    }
}

/// A client that remembers what it sends in exchanges.
struct Talk<'a> {
    client: Client,
    secrets: &'a mut Secrets,
}

impl Talk<'_> {
    /// A command, or a line of an exchange, whose last word must not be found.
    fn say(&mut self, start: &str, line: &str) {
        let last = line.rsplit(' ').next().unwrap_or_default();
        if last.len() > 16 {
            self.secrets.0.push(last.to_owned());
        }
        self.client.expect(start, line);
    }

    fn plain(&mut self, start: &str, password: &str) {
        let text = base64(format!("\0{USER}\0{password}").as_bytes());
        self.say(start, &format!("AUTH PLAIN {text}"));
    }
}

fn connect<'a>(daemon: &Daemon, secrets: &'a mut Secrets) -> Talk<'a> {
    let mut client = Client::connect(daemon.addresses[0]);
    client.greeted();
    let mut client = client.starttls(settings(&daemon.site, true));
    client.expect("250", "EHLO client.example.net");
    Talk { client, secrets }
}

/// What a client may do wrong, by every mechanism.
fn fail(daemon: &Daemon, secrets: &mut Secrets) {
    let mut talk = connect(daemon, secrets);
    talk.plain("535 ", WRONG);
    talk.say("535 ", &format!("AUTH PLAIN {}", base64(PASSWORD.as_bytes())));
    talk.say("501 ", &format!("AUTH PLAIN {PASSWORD}"));
    talk.say("501 ", &format!("AUTH PLAIN x {}", base64(PASSWORD.as_bytes())));
    // one that goes on although it was refused
    talk.say("504 ", "AUTH GSSAPI");
    talk.say("500 ", &base64(PASSWORD.as_bytes()));
    talk.say("500 ", PASSWORD);
    talk.say("504 ", &format!("AUTH GSSAPI {}", base64(PASSWORD.as_bytes())));
    talk.say("501 ", &format!("AUTH  PLAIN  {}", PASSWORD.replace(' ', "")));
    talk.say("334 ", "AUTH LOGIN");
    talk.say("334 ", &base64(USER.as_bytes()));
    talk.say("501 ", WRONG);
    talk.say("334 ", &format!("AUTH LOGIN {}", base64(USER.as_bytes())));
    talk.say("535 ", &base64(WRONG.as_bytes()));
    talk.say("334 ", "AUTH CRAM-MD5");
    talk.say(
        "535 ",
        &base64(format!("{USER} 0123456789abcdef0123456789abcdef").as_bytes()),
    );
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        talk.say(
            "334 ",
            &format!(
                "AUTH {mechanism} {}",
                base64(format!("n,,n={USER},r=abcdefgh").as_bytes())
            ),
        );
        talk.say("535 ", &base64(b"c=biws,r=abcdefgh,p=cHJvb2Ygb2Ygbm90aGluZw=="));
    }
    let bearer = |token: &str| base64(format!("n,a={USER},\x01auth=Bearer {token}\x01\x01").as_bytes());
    talk.say("334 ", &format!("AUTH OAUTHBEARER {}", bearer(tokens::EXPIRED)));
    talk.say("535 ", "AQ==");
    talk.say("334", "AUTH XOAUTH2");
    let xoauth2 = base64(format!("user={USER}\x01auth=Bearer {}\x01\x01", tokens::EXPIRED).as_bytes());
    talk.say("334 ", &xoauth2);
    talk.say("535 ", "");
    talk.say("501 ", &format!("AUTH XOAUTH2 {}", base64(tokens::ES256.as_bytes())));
    talk.say(
        "535 ",
        &format!("AUTH EXTERNAL {}", base64(b"somebody.else@example.com")),
    );
    let long = base64(PASSWORD.repeat(1000).as_bytes());
    talk.client.expect("500 ", &format!("AUTH PLAIN {long}"));
    talk.client.expect("334", "AUTH PLAIN");
    talk.client.expect("500 ", &long);
    talk.client.expect("221 ", "QUIT");
}

/// Good logins.
fn succeed(daemon: &Daemon, secrets: &mut Secrets) {
    let bearer = base64(format!("n,a={USER},\x01auth=Bearer {}\x01\x01", tokens::ES256).as_bytes());
    let xoauth2 = base64(format!("user={USER}\x01auth=Bearer {}\x01\x01", tokens::ES256).as_bytes());
    for command in [
        format!("AUTH PLAIN {}", base64(format!("\0{USER}\0{PASSWORD}").as_bytes())),
        format!("AUTH OAUTHBEARER {bearer}"),
        format!("AUTH XOAUTH2 {xoauth2}"),
        "AUTH EXTERNAL =".to_owned(),
    ] {
        let mut talk = connect(daemon, secrets);
        talk.say("235 ", &command);
        talk.client.message("user@elsewhere.example");
        talk.client.expect("221 ", "QUIT");
    }
    let mut talk = connect(daemon, secrets);
    talk.say("334 ", "AUTH LOGIN");
    talk.say("334 ", &base64(USER.as_bytes()));
    talk.say("235 ", &base64(PASSWORD.as_bytes()));
    talk.client.expect("221 ", "QUIT");
    drop(talk);
    let Some(gsasl) = need("gsasl") else { return };
    for mechanism in ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"] {
        let mut command = gsasl.command();
        let address = daemon.addresses[0].to_string();
        command.args(["--smtp", "--no-starttls", "--connect", &address, "-m", mechanism]);
        let output = command
            .args(["-a", USER, "-z", "", "-p", PASSWORD])
            .output()
            .expect("start");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("235 2.7.0"), "{told}");
        // what it has sent: the lines of the exchange are shown as they are, between replies
        let sent = told
            .lines()
            .filter(|line| line.len() > 16 && !line.contains([' ', '-']));
        secrets.0.extend(sent.map(str::to_owned));
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    answer
}

/// All text files below a folder that are no part of the configuration.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if path.ends_with("config") => {}
            true => files(&path, found),
            false => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
}

/// All that the daemon has logged, wherever it went.
fn logged(daemon: &Daemon) -> String {
    let mut all = Vec::new();
    files(daemon.site.path(), &mut all);
    let files: String = all.into_iter().map(|(_, text)| text).collect();
    daemon.lines().join("\n") + &files
}

/// Drives a daemon with these logging plugins and searches whatever it tells.
fn search(logging: &str, in_files: &[&str]) {
    let site: Site = site();
    site.config("loglevel", "7\n")
        .config("max_auth_failures", "0\n")
        .config("max_errors", "0\n");
    site.config("max_unknown_commands", "0\n")
        .config("auth_delay_max", "300\n");
    if !logging.is_empty() {
        let logs = site.path().join("logs");
        std::fs::create_dir(&logs).expect("a folder");
        std::fs::set_permissions(&logs, PermissionsExt::from_mode(0o777)).expect("permissions");
        site.config("logging", logging);
    }
    let mut secrets = Secrets::new();
    let daemon = serve(site, &["--status-listen", "127.0.0.1:0"]);
    let status = daemon.wait_for("status on ");
    let status = status
        .strip_prefix("status on ")
        .and_then(|text| text.parse().ok())
        .expect("an address");
    fail(&daemon, &mut secrets);
    succeed(&daemon, &mut secrets);
    // one more is in the middle of it while others look, and its worker crashes
    daemon.site.config("auth_delay", "60\n");
    let mut talk = connect(&daemon, &mut secrets);
    let text = base64(format!("\0{USER}\0{WRONG}x").as_bytes());
    talk.client.send(format!("AUTH PLAIN {text}\r\n").as_bytes());
    secrets.0.push(text);
    eventually("the failure is logged", || {
        logged(&daemon).matches("(plain)").count() >= 4
    });
    let mut told: Vec<(String, String)> = Vec::new();
    for words in [
        &["status"][..],
        &["list"],
        &["workers"],
        &["plugins"],
        &["limits"],
        &["metrics"],
        &["list", "--json"],
    ] {
        told.push((words.join(" "), daemon.told(words)));
    }
    for path in ["/", "/status.json", "/metrics"] {
        told.push((path.to_owned(), get(status, path)));
    }
    // a program that a logging plugin has started is a child of the master, too
    let is_worker =
        |pid: &Pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qpsmtpd"));
    let worker = daemon.workers().into_iter().find(is_worker).expect("a worker");
    kill(worker, Signal::SIGSEGV).expect("kill");
    eventually("the crash is logged", || {
        logged(&daemon).contains(&format!("crash of {worker}: "))
    });
    files(daemon.site.path(), &mut told);
    told.push(("stderr".to_owned(), daemon.lines().join("\n")));
    for name in in_files {
        let file = told
            .iter()
            .find(|(place, _)| place.ends_with(name))
            .unwrap_or_else(|| panic!("no {name}"));
        for words in [
            "authentication failed for",
            "dispatching AUTH",
            "authentication successful",
            "(oauthbearer)",
        ] {
            assert!(file.1.contains(words), "{name} has no '{words}': {}", file.1);
        }
    }
    for (place, text) in &told {
        if let Some(secret) = secrets.found(text) {
            let line = text.lines().find(|line| secrets.found(line).is_some());
            panic!("'{secret}' is in {place}: {line:?}");
        }
    }
    assert!(secrets.0.len() > 30, "{:?}", secrets.0);
}

#[test]
fn no_secret_is_on_stderr() {
    search("", &["stderr"]);
}

#[test]
fn no_secret_is_in_what_logging_plugins_write() {
    search(
        "logging/file loglevel LOGDEBUG prefix logs/all.log\nlogging/file loglevel LOGDEBUG |cat >> logs/piped.log\nlogging/warn LOGDEBUG\n",
        &["all.log", "piped.log", "stderr"],
    );
}

#[test]
fn the_search_finds() {
    let secrets = Secrets::new();
    for text in [
        format!("x {PASSWORD} y"),
        base64(format!("\0{USER}\0{PASSWORD}").as_bytes()),
        base64(format!("\0joe\0{PASSWORD}").as_bytes()),
        base64(format!("\0jo\0{PASSWORD}").as_bytes()).to_ascii_lowercase(),
        base64(PASSWORD.as_bytes()),
        format!("token {}", tokens::ES256),
    ] {
        assert!(secrets.found(&text).is_some(), "{text}");
    }
    assert!(secrets.found("dispatching AUTH PLAIN <hidden credentials>").is_none());
}
