//! Users that Dovecot knows, by the socket at which Postfix and Exim ask it.

use std::time::{Duration, Instant};

use crate::plugin::*;

plugin! {
    /// Asks Dovecot whether user and password are right, at the socket that it has for Postfix and Exim, or at a port.
    ///
    /// Dovecot then needs, in `service auth`, `unix_listener /path/to/auth { mode = 0660 group = smtpd }`. Whatever its passdb
    /// knows can log in: files, PAM, LDAP, SQL. What the client sends by PLAIN or LOGIN is passed on as PLAIN; challenges of
    /// other mechanisms are not passed through.
    "auth/auth_dovecot", AuthDovecot {
        /// The path of the socket, or a host and a port.
        @1 socket: String = "/var/run/dovecot/auth-client".to_owned(),
        /// The name of the service, which Dovecot's settings may go by.
        service: String = "smtp".to_owned(),
        /// How many seconds all of it may take; Dovecot takes its time over a wrong password.
        timeout: u32 = 30,
    }
    hooks [auth_plain, auth_login]
    with [setup]
}

/// The longest line that is read, in bytes; that of Dovecot's own clients.
const MAX_LINE: usize = 8192;
/// The most lines before the answer.
const MOST_LINES: usize = 1000;
/// The version of the protocol; another minor version does no harm.
const VERSION: &str = "1";

impl AuthDovecot {
    fn setup(&mut self, _: &mut Loading<'_>) -> Result<(), String> {
        if self.service.is_empty() || self.service.contains(|c: char| !c.is_ascii_alphanumeric()) {
            return Err(format!("service '{}' is no word", self.service));
        }
        Target::parse(&self.socket, 0).map(|_| ())
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let password = with.password.as_deref().unwrap_or_default();
        if with.user.contains('\0') || password.contains('\0') {
            info!(s, "fail: NUL in user or password");
            return deny("no NUL, please");
        }
        match self.ask(s, &with.user, password) {
            Ok(true) => {
                info!(s, "pass: Dovecot accepts the password");
                ok()
            }
            Ok(false) => {
                info!(s, "fail: Dovecot refuses the password");
                declined()
            }
            Err(why) => unavailable(s, format_args!("Dovecot at {}: {why}", self.socket)),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }

    fn ask(&self, s: &Session, user: &str, password: &str) -> Result<bool, Lost> {
        let until = Instant::now() + Duration::from_secs(self.timeout.max(1).into());
        let target = Target::parse(&self.socket, 0).map_err(Lost::Failed)?;
        let mut dovecot = s.dial(&target, until)?;
        let hello = format!("VERSION\t{VERSION}\t1\nCPID\t{}\n", std::process::id());
        dovecot.write(hello.as_bytes(), until)?;
        greeted(&mut dovecot, until)?;
        let question = format!("AUTH\t1\tPLAIN\t{}\tresp={}\n", self.about(s), response(user, password));
        dovecot.write(question.as_bytes(), until)?;
        for _ in 0..MOST_LINES {
            let line = line(&mut dovecot, until)?;
            let mut words = line.split('\t');
            match (words.next(), words.next()) {
                (Some("OK"), Some("1")) => return Ok(true),
                (Some("FAIL"), Some("1")) => return refused(words),
                (Some("CONT"), Some("1")) => return Err(Lost::because("it asks for more, as PLAIN never does")),
                (Some("OK" | "FAIL" | "CONT"), _) => return Err(Lost::because("it answers what nobody asked")),
                // something new
                _ => {}
            }
        }
        Err(Lost::because("it does not come to an answer"))
    }

    /// What Dovecot is told of the client: for its log, its settings, and its memory of those who guess passwords. A
    /// connection to ourselves, or under TLS, is secured. `nologin`: nobody will come and log in with the answer.
    fn about(&self, s: &Session) -> String {
        let mut about = format!("service={}\tnologin", self.service);
        let mut add = |key: &str, value: String| about.push_str(&format!("\t{key}={value}"));
        if let Some(ip) = s.peer.local_ip {
            add("lip", ip.to_string());
        }
        add("rip", s.peer.ip.to_string());
        if s.peer.local_port != 0 {
            add("lport", s.peer.local_port.to_string());
        }
        if s.peer.port != 0 {
            add("rport", s.peer.port.to_string());
        }
        if s.tls.is_some() || s.peer.ip.is_loopback() {
            about.push_str("\tsecured");
        }
        about
    }
}

/// The message of PLAIN (RFC 4616), in base64.
fn response(user: &str, password: &str) -> String {
    base64(format!("\0{user}\0{password}").as_bytes())
}

fn line(dovecot: &mut Remote, until: Instant) -> Result<String, Lost> {
    Ok(String::from_utf8_lossy(dovecot.line(MAX_LINE, until)?).into_owned())
}

/// Reads Dovecot's part of the handshake: its version and its mechanisms, up to DONE.
fn greeted(dovecot: &mut Remote, until: Instant) -> Result<(), Lost> {
    let (mut version, mut plain) = (false, false);
    for _ in 0..MOST_LINES {
        let line = line(dovecot, until)?;
        let mut words = line.split('\t');
        match (words.next(), words.next()) {
            (Some("VERSION"), Some(VERSION)) => version = true,
            (Some("VERSION"), _) => return Err(Lost::because(format_args!("its protocol is another: {line}"))),
            (Some("MECH"), Some(mechanism)) => plain |= mechanism.eq_ignore_ascii_case("PLAIN"),
            (Some("DONE"), _) if !version => break,
            (Some("DONE"), _) if !plain => return Err(Lost::because("it does not serve PLAIN")),
            (Some("DONE"), _) => return Ok(()),
            _ => {}
        }
    }
    Err(Lost::because("what answers is not Dovecot's auth"))
}

/// A refusal, unless its words say that the question could not be decided.
fn refused<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<bool, Lost> {
    match words.any(|word| word == "temp" || word == "code=temp_fail") {
        true => Err(Lost::because("a temporary failure there, see its log")),
        false => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

    /// The handshake of Dovecot 2.3.
    const GREETING: &str = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\t0123\nDONE\n";

    /// A Dovecot that says `greeting`, and `answer` to the question; what it was asked is sent along.
    fn kit(greeting: &'static str, answer: &'static str) -> (Kit, std::sync::mpsc::Receiver<Vec<String>>) {
        let t = Kit::load(&DECLARATION, "/run/auth");
        let (tell, told) = std::sync::mpsc::channel();
        t.dial().at("/run/auth", move |stream| {
            let mut stream = BufReader::new(stream);
            let _ = stream.get_mut().write_all(greeting.as_bytes());
            let mut heard = Vec::new();
            while greeting.ends_with("DONE\n") && !heard.last().is_some_and(|line: &String| line.starts_with("AUTH")) {
                let mut line = String::new();
                match stream.read_line(&mut line) {
                    Ok(count) if count > 0 => heard.push(line),
                    _ => break,
                }
            }
            let _ = stream.get_mut().write_all(answer.as_bytes());
            let _ = tell.send(heard);
            // who closes with something unread takes back what was said
            let _ = stream.get_mut().shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        (t, told)
    }

    #[test]
    fn the_question_is_that_of_dovecots_clients() {
        let (mut t, told) = kit(GREETING, "OK\t1\tuser=joe@example.com\n");
        t.s.peer.local_ip = "192.0.2.25".parse().ok();
        t.s.peer.local_port = 587;
        t.auth(&Credentials::password("login", "joe@example.com", "se\tcret"))
            .ok();
        let heard = told.recv().expect("a question");
        assert_eq!(heard[0], "VERSION\t1\t1\n");
        assert!(heard[1].starts_with("CPID\t"), "{heard:?}");
        let about = "service=smtp\tnologin\tlip=192.0.2.25\trip=192.0.2.7\tlport=587";
        assert_eq!(
            heard[2],
            format!("AUTH\t1\tPLAIN\t{about}\tresp=AGpvZUBleGFtcGxlLmNvbQBzZQljcmV0\n")
        );
        t.auth(&Credentials::password("plain", "joe\0x", "secret"))
            .denied("NUL");
    }

    #[test]
    fn refusals_and_failures_differ() {
        for (greeting, answer, error) in [
            (GREETING, "FAIL\t1\tuser=joe\n", ""),
            (GREETING, "FAIL\t1\tuser=joe\tcode=user_disabled\n", ""),
            (GREETING, "FAIL\t1\tuser=joe\ttemp\n", "a temporary failure"),
            (GREETING, "FAIL\t1\tuser=joe\tcode=temp_fail\n", "a temporary failure"),
            (GREETING, "OK\t2\tuser=joe\n", "what nobody asked"),
            (GREETING, "CONT\t1\t\n", "asks for more"),
            (GREETING, "", "connection closed"),
            ("VERSION\t2\t0\nMECH\tPLAIN\nDONE\n", "", "protocol is another"),
            ("VERSION\t1\t2\nMECH\tCRAM-MD5\nDONE\n", "", "does not serve PLAIN"),
            ("DONE\n", "", "not Dovecot"),
            ("220 smtp\r\n", "", "connection closed"),
        ] {
            let (mut t, _told) = kit(greeting, answer);
            t.auth(&Credentials::password("plain", "joe", "secret")).declined();
            let logged = t.logged().join("\n");
            assert!(
                logged.contains(error) && logged.contains("error, ") != error.is_empty(),
                "{answer:?} {logged}"
            );
            assert!(!logged.contains("secret"));
        }
    }
}
