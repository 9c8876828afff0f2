//! Users that saslauthd knows, and by it PAM.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::plugin::*;

plugin! {
    /// Asks saslauthd, the password server of Cyrus SASL, whether user and password are right.
    ///
    /// Run as `saslauthd -a pam`, it asks PAM, in the name of `service`: /etc/pam.d/smtp says how. Of a user with a domain
    /// the domain is given as the realm; `saslauthd -r` puts both together again.
    "auth/auth_saslauthd", AuthSaslauthd {
        /// The socket of saslauthd, to which the user who serves must have access (group sasl on Debian).
        @1 socket: PathBuf = PathBuf::from("/var/run/saslauthd/mux"),
        /// The name of the service, for PAM.
        service: String = "smtp".to_owned(),
        /// How many seconds all of it may take; PAM takes its time over a wrong password.
        timeout: u32 = 30,
    }
    hooks [auth_plain, auth_login]
}

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 1024;
/// The longest user, and the longest password, that saslauthd reads, in bytes.
const MOST: usize = 256;

impl AuthSaslauthd {
    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let password = with.password.as_deref().unwrap_or_default();
        let sound = |text: &str| !text.is_empty() && text.len() <= MOST && !text.contains('\0');
        if !sound(&with.user) || !sound(password) {
            info!(
                s,
                "fail: user or password is empty, longer than saslauthd reads, or holds NUL"
            );
            return declined();
        }
        match self.ask(s, &with.user, password) {
            Ok(true) => {
                info!(s, "pass: saslauthd accepts the password");
                ok()
            }
            Ok(false) => {
                info!(s, "fail: saslauthd refuses the password");
                declined()
            }
            Err(why) => unavailable(s, format_args!("saslauthd at {}: {why}", self.socket.display())),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }

    /// Four strings, each behind its length; the answer is one.
    fn ask(&self, s: &Session, user: &str, password: &str) -> Result<bool, Lost> {
        let until = Instant::now() + Duration::from_secs(self.timeout.max(1).into());
        let (user, realm) = user.rsplit_once('@').unwrap_or((user, ""));
        let mut question = Vec::new();
        for part in [user, password, &self.service, realm] {
            let length = u16::try_from(part.len()).map_err(Lost::because)?;
            question.extend_from_slice(&length.to_be_bytes());
            question.extend_from_slice(part.as_bytes());
        }
        let mut server = s.dial(&Target::Unix(self.socket.clone()), until)?;
        server.write(&question, until)?;
        let length = server.bytes(2, until)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > MAX_ANSWER {
            return Err(Lost::TooLong);
        }
        match server.bytes(length, until)? {
            answer if answer.starts_with(b"OK") => Ok(true),
            answer if answer.starts_with(b"NO") => Ok(false),
            _ => Err(Lost::because("the answer is neither OK nor NO")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn saslauthd_decides() {
        let mut t = Kit::load(&DECLARATION, "/run/mux service mail");
        t.dial().at("/run/mux", |mut stream| {
            let mut asked = [0; 128];
            let count = stream.read(&mut asked).unwrap_or(0);
            let _ = stream.write_all(match &asked[..count] {
                b"\0\x03joe\0\x06secret\0\x04mail\0\x0bexample.com" => b"\0\x02OK",
                b"\0\x03joe\0\x06secret\0\x04mail\0\0" => b"\0\x0cOK (no realm",
                b"\0\x03odd\0\x06secret\0\x04mail\0\0" => b"\0\x02ok",
                b"\0\x04long\0\x06secret\0\x04mail\0\0" => b"\xff\xffOK",
                b"\0\x03cut\0\x06secret\0\x04mail\0\0" => b"\0\x05OK",
                _ => b"\0\x02NO",
            });
        });
        let mut login = |user: &str, password: &str| t.auth(&Credentials::password("plain", user, password));
        login("joe@example.com", "secret").ok();
        login("joe", "secret").ok();
        login("joe@example.com", "Secret").declined();
        login("joe@example.com", &"x".repeat(300)).declined();
        login("joe\0@example.com", "secret").declined();
        assert!(
            t.logged()
                .iter()
                .all(|line| !line.contains("error") && !line.contains("ecret"))
        );
        for user in ["odd", "long", "cut"] {
            t.auth(&Credentials::password("plain", user, "secret")).declined();
            assert!(
                t.logged().join("\n").contains("error, saslauthd at /run/mux: "),
                "{user}"
            );
        }
    }
}
