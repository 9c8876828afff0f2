//! Users that a credential validation module knows (catalogue 15.4).

use std::time::{Duration, Instant};

use crate::plugin::*;

plugin! {
    /// Asks a credential validation module (CVM) at a unix socket whether user and password are right.
    ///
    /// Clients on port 25 and 587 may log in with enable_smtp yes, those on port 465 unless enable_ssmtp is no; under
    /// tcpserver and its kin the variable PORT tells the port. A user without a domain is one of `localhost`.
    "auth/auth_cvm_unix_local", AuthCvmUnixLocal {
        /// The socket.
        cvm_socket: String,
        /// Whether clients on port 25 and 587 may log in.
        enable_smtp: YesNo = YesNo(false),
        /// Whether clients on port 465 may log in.
        enable_ssmtp: YesNo = YesNo(true),
        /// How many seconds all of it may take.
        timeout: u32 = 10,
    }
    hooks [auth_plain, auth_login]
    with [setup, offers]
}

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 4096;

/// What `yes` and `no` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct YesNo(bool);

impl Arg for YesNo {
    const WANTS: &'static str = "yes or no";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(match word {
            "yes" | "1" => YesNo(true),
            "no" | "0" => YesNo(false),
            _ => return Err(format!("'{word}' is neither yes nor no")),
        });
        Ok(None)
    }

    fn show(&self) -> String {
        if self.0 { "yes" } else { "no" }.to_owned()
    }
}

impl AuthCvmUnixLocal {
    fn setup(&mut self, _: &mut Loading<'_>) -> Result<(), String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
        let path = &self.cvm_socket;
        match !path.is_empty() && path.chars().all(allowed) {
            true => Ok(()),
            false => Err(format!("cvm_socket '{path}' is no path of letters, digits, _ / . -")),
        }
    }

    /// By the port that the client has come in by.
    fn offers(&self, s: &Session, _: &str) -> bool {
        let told = s.environment.get("PORT").and_then(|port| port.parse().ok());
        match told.unwrap_or(if s.peer.local_port == 0 { 25 } else { s.peer.local_port }) {
            25 | 587 => self.enable_smtp.0,
            465 => self.enable_ssmtp.0,
            _ => true,
        }
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let password = with.password.as_deref().unwrap_or_default();
        if !self.offers(s, with.mechanism) {
            info!(s, "skip: not on this port");
            return declined();
        }
        if with.user.contains('\0') || password.contains('\0') {
            info!(s, "fail: NUL in user or password");
            return deny("no NUL, please");
        }
        match self.ask(s, &with.user, password) {
            Ok(0) => {
                info!(s, "pass: the module accepts the password");
                ok()
            }
            Ok(100) => {
                info!(s, "fail: the module refuses the password");
                deny("wrong password")
            }
            // 101: not one of its users
            Ok(101) => {
                info!(s, "skip: the module does not know the user");
                declined()
            }
            Ok(code) => unavailable(s, format_args!("the module at {} answered {code}", self.cvm_socket)),
            Err(why) => unavailable(s, format_args!("the module at {}: {why}", self.cvm_socket)),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }

    fn ask(&self, s: &Session, user: &str, password: &str) -> Result<u8, Lost> {
        let until = Instant::now() + Duration::from_secs(self.timeout.max(1).into());
        let (user, domain) = user.rsplit_once('@').unwrap_or((user, "localhost"));
        let mut module = s.dial(&Target::Unix(self.cvm_socket.clone().into()), until)?;
        module.write(format!("\x01{user}\0{domain}\0{password}\0\0").as_bytes(), until)?;
        // the module begins when it sees the end
        module.finish()?;
        let answer = module.rest(MAX_ANSWER, until)?;
        answer.first().copied().ok_or(Lost::Closed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn kit(arguments: &str) -> Kit {
        let t = Kit::load(&DECLARATION, &format!("cvm_socket /run/cvm.sock {arguments}"));
        t.dial().at("/run/cvm.sock", |mut stream| {
            let mut asked = Vec::new();
            let _ = stream.read_to_end(&mut asked);
            let _ = stream.write_all(match asked.as_slice() {
                b"\x01joe\0example.com\0secret\0\0" | b"\x01joe\0localhost\0secret\0\0" => b"\0\x01joe\0\0",
                b"\x01none\0example.com\0secret\0\0" => b"\x65\0",
                b"\x01odd\0example.com\0secret\0\0" => b"\x04\0",
                b"\x01mute\0example.com\0secret\0\0" => b"",
                _ => b"\x64\0",
            });
        });
        t
    }

    #[test]
    fn the_module_decides() {
        let mut t = kit("enable_smtp yes");
        t.auth(&Credentials::password("plain", "joe@example.com", "secret"))
            .ok();
        t.auth(&Credentials::password("login", "joe", "secret")).ok();
        t.auth(&Credentials::password("plain", "joe@example.com", "Secret"))
            .denied("wrong password");
        t.auth(&Credentials::password("plain", "joe\0example.com", "secret"))
            .denied("NUL");
        t.auth(&Credentials::password("plain", "none@example.com", "secret"))
            .declined();
        assert!(
            t.logged()
                .iter()
                .all(|line| !line.contains("error") && !line.contains("ecret"))
        );
        for (user, why) in [("odd", "answered 4"), ("mute", "connection closed")] {
            let user = format!("{user}@example.com");
            t.auth(&Credentials::password("plain", &user, "secret")).declined();
            let logged = t.logged().join(
                "
",
            );
            let start = "error, the module at /run/cvm.sock";
            assert!(logged.contains(start) && logged.contains(why), "{logged}");
        }
    }

    #[test]
    fn ports_are_allowed_one_by_one() {
        for (port, arguments, offered) in [
            (25, "", false),
            (587, "", false),
            (465, "", true),
            (2525, "", true),
            (0, "", false),
            (25, "enable_smtp yes", true),
            (465, "enable_ssmtp no", false),
        ] {
            let mut t = kit(arguments);
            t.s.peer.local_port = port;
            assert_eq!(t.offers(Hook::auth_plain, "plain"), offered, "{port} {arguments}");
            let outcome = t.auth(&Credentials::password("plain", "joe@example.com", "secret"));
            assert_eq!(outcome.verdict == Verdict::Ok, offered, "{port} {arguments}");
        }
        let mut t = kit("");
        t.s.peer.local_port = 2525;
        t.s.environment.insert("PORT".to_owned(), "25".to_owned());
        assert!(!t.offers(Hook::auth_plain, "plain"));
    }

    #[test]
    fn arguments() {
        assert!(Kit::faults(&DECLARATION, "").join("\n").contains("cvm_socket"));
        assert!(
            Kit::faults(&DECLARATION, "cvm_socket /run/a*b")
                .join("\n")
                .contains("is no path")
        );
        assert!(
            Kit::faults(&DECLARATION, "cvm_socket /x enable_smtp maybe")
                .join("\n")
                .contains("neither yes nor no")
        );
    }
}
