//! Users that vpopmail's daemon knows (catalogue 15.9).

use std::time::{Duration, Instant};

use crate::plugin::*;

plugin! {
    /// Asks vpopmaild whether user and password are right. The connection is not encrypted.
    ///
    /// A password with blanks cannot be asked for, since vpopmaild takes a blank for its end.
    "auth/auth_vpopmaild", AuthVpopmaild {
        /// Where vpopmaild is.
        host: String = "localhost".to_owned(),
        /// Its port.
        port: u16 = 89,
        /// How many seconds all of it may take.
        timeout: u32 = 10,
    }
    hooks [auth_plain, auth_login]
    with [setup]
}

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1024;

impl AuthVpopmaild {
    fn setup(&mut self, _: &mut Loading<'_>) -> Result<(), String> {
        Target::parse(&self.host, self.port).map(|_| ())
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let password = with.password.as_deref().unwrap_or_default();
        // one more word, or one more line, would be taken for something else
        let word = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ' ');
        if !word(&with.user) || !word(password) {
            info!(
                s,
                "skip: a blank or a control character, which vpopmaild cannot be asked for"
            );
            return declined();
        }
        match self.ask(s, &with.user, password) {
            Ok(true) => {
                info!(s, "pass: vpopmaild accepts the password");
                ok()
            }
            Ok(false) => {
                info!(s, "fail: vpopmaild refuses the password");
                declined()
            }
            Err(why) => unavailable(s, format_args!("vpopmaild at {} port {}: {why}", self.host, self.port)),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }

    fn ask(&self, s: &Session, user: &str, password: &str) -> Result<bool, Lost> {
        let until = Instant::now() + Duration::from_secs(self.timeout.max(1).into());
        let target = Target::parse(&self.host, self.port).map_err(Lost::Failed)?;
        let mut daemon = s.dial(&target, until)?;
        if !daemon.line(MAX_LINE, until)?.starts_with(b"+OK") {
            return Err(Lost::because("the greeting is not +OK"));
        }
        daemon.write(format!("login {user} {password}\r\n").as_bytes(), until)?;
        let answer = daemon.line(MAX_LINE, until)?;
        let accepted = match answer {
            line if line.starts_with(b"+OK") => true,
            line if line.starts_with(b"-ERR") => false,
            _ => return Err(Lost::because("the answer to login is neither +OK nor -ERR")),
        };
        // it is closed in any case
        let _ = daemon.write(b"quit\r\n", until);
        Ok(accepted)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// vpopmaild as its source has it: a greeting, a line, an answer with the user's facts; a line more or less, or one
    /// that does not end CRLF, gets no answer.
    fn vpopmaild(stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let say = |text: &str, stream: &mut BufReader<UnixStream>| drop(stream.get_mut().write_all(text.as_bytes()));
        say("+OK\r\n", &mut stream);
        let mut line = String::new();
        if stream.read_line(&mut line).is_err() {
            return;
        }
        match line.as_str() {
            "login joe@example.com se$cret\r\n" => say("+OK+\r\nvpopmail_dir /home/vpopmail\r\n.\r\n", &mut stream),
            line if line.starts_with("login ") && line.ends_with("\r\n") && line.split(' ').count() == 3 => {
                say("-ERR XXX Login failed\r\n", &mut stream);
            }
            _ => return,
        }
        line.clear();
        if stream.read_line(&mut line).is_ok() {
            assert_eq!(line, "quit\r\n");
        }
    }

    fn kit() -> Kit {
        let t = Kit::load(&DECLARATION, "host vpop.example.com");
        t.dial().at("vpop.example.com:89", vpopmaild);
        t
    }

    #[test]
    fn the_daemon_decides() {
        let mut t = kit();
        t.auth(&Credentials::password("plain", "joe@example.com", "se$cret"))
            .ok();
        t.auth(&Credentials::password("login", "joe@example.com", "secret"))
            .declined();
        assert!(t.logged().iter().all(|line| !line.contains("cret")));
    }

    #[test]
    fn nothing_is_smuggled_in() {
        let mut t = kit();
        for (user, password) in [
            ("joe@example.com se$cret", "x"),
            ("joe@example.com", "se$cret x"),
            ("joe@example.com", "se$cret\r\nlogin"),
            ("joe@example.com\r\n", "se$cret"),
            ("", "x"),
        ] {
            t.auth(&Credentials::password("plain", user, password)).declined();
        }
        assert_eq!(t.dial().dialled(), []);
    }

    #[test]
    fn what_makes_no_sense_is_no_wrong_password() {
        for (says, why) in [
            ("", "connection closed"),
            ("220 hello\r\n", "the greeting is not +OK"),
            ("+OK\r\n", "connection closed"),
            ("+OK\r\n220 yes\r\n", "neither +OK nor -ERR"),
            (&"+".repeat(5000), "the answer is too long"),
        ] {
            let mut t = Kit::load(&DECLARATION, "host vpop.example.com");
            let says = says.to_owned();
            t.dial().at("vpop.example.com:89", move |mut stream| {
                let _ = stream.write_all(says.as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
            t.auth(&Credentials::password("plain", "joe@example.com", "se$cret"))
                .declined();
            let logged = t.logged().join("\n");
            assert!(
                logged.contains("error, vpopmaild at vpop.example.com port 89: ") && logged.contains(why),
                "{logged}"
            );
        }
    }
}
