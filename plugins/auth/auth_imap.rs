//! Users that an IMAP server knows (catalogue 15.5).

mod link;

use std::path::PathBuf;
use std::time::Duration;

use super::secure::{self, Encryption};
use crate::plugin::*;
use link::Ask;

plugin! {
    /// Lets those in whom an IMAP server lets in, by its command LOGIN.
    ///
    /// In clear, no password is sent to a server that forbids it (LOGINDISABLED). With TLS, the server's certificate must
    /// be for its name as it is written here, and of a CA of `ca`, or of one that the system trusts.
    "auth/auth_imap", AuthImap {
        /// The server.
        @1 host: String = "127.0.0.1".to_owned(),
        /// Its port: by default 143, or 993 where TLS is implicit.
        @2 port: Option<u16>,
        /// How the connection is encrypted: off, starttls, or implicit, which is the default for port 993.
        tls: Option<Encryption>,
        /// The CAs that vouch for the server, a PEM file.
        ca: Option<PathBuf>,
        /// How many seconds all of it may take.
        timeout: u32 = 10,
    }
    state { at: Option<Target>, how: Option<ClientTls> }
    hooks [auth_plain, auth_login]
    with [setup]
}

impl AuthImap {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let implied = match self.port {
            Some(993) => Encryption::Implicit,
            _ => Encryption::Off,
        };
        let tls = *self.tls.get_or_insert(implied);
        let usual = if tls == Encryption::Implicit { 993 } else { 143 };
        let target = Target::parse(&self.host, self.port.unwrap_or(usual))?;
        if let (Target::Tcp(host, _), true) = (&target, tls != Encryption::Off) {
            self.how = Some(secure::tls(host, self.ca.as_ref())?);
        } else if !secure::is_here(&target) {
            at.warn(format_args!(
                "passwords go to {} in clear; tls starttls or implicit encrypts them",
                self.host
            ));
        }
        self.at = Some(target);
        Ok(())
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let password = with.password.as_deref().unwrap_or_default();
        let Some(at) = &self.at else {
            return declined();
        };
        if with.user.contains('\0') || password.contains('\0') {
            info!(s, "fail: NUL in user or password");
            return deny("no NUL, please");
        }
        let ask = Ask {
            at,
            tls: self.how.as_ref().zip(self.tls),
            wait: Duration::from_secs(self.timeout.max(1).into()),
        };
        match ask.login(s, &with.user, password) {
            Ok(true) => {
                info!(s, "pass: the IMAP server accepts the password");
                ok()
            }
            Ok(false) => {
                info!(s, "fail: the IMAP server refuses the password");
                deny("wrong password")
            }
            Err(why) => unavailable(s, format_args!("IMAP server {at}: {why}")),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }
}

#[cfg(test)]
mod tests;
