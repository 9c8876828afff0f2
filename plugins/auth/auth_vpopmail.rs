//! The users of vpopmail, from its files or by its program vchkpw (catalogue 15.7).

mod tree;

use std::path::PathBuf;

use super::checkpassword::{self, Checker};
use crate::plugin::*;
use tree::Tree;

plugin! {
    /// Checks user and password against vpopmail's files: the domain's folder stands in qmail's users/cdb or
    /// users/assign, the user in vpasswd.cdb or vpasswd there.
    ///
    /// The user who serves must be able to read them; then workers stay confined. Where that is not wanted, vpopmail's
    /// own program can be asked: `vchkpw /home/vpopmail/bin/vchkpw`. It knows neither CRAM-MD5 nor SCRAM here, and workers are
    /// not confined then.
    "auth/auth_vpopmail", AuthVpopmail {
        /// The folder of qmail's files assign and cdb.
        users: PathBuf = PathBuf::from("/var/qmail/users"),
        /// The folder that the domains are in. One that lies elsewhere is found if it was in assign when the daemon
        /// was started or reloaded.
        domains: PathBuf = PathBuf::from("/home/vpopmail/domains"),
        /// The program to ask instead of reading the files.
        vchkpw: Option<PathBuf>,
        /// Whether vchkpw may be run by sudo, as auth/auth_checkpassword would.
        sudo: bool = true,
    }
    state { checker: Option<Checker>, decoy: Decoy }
    hooks [auth_plain, auth_login, auth_cram_md5]
    with [setup, needs, offers]
}

impl AuthVpopmail {
    fn setup(&mut self, _: &mut Loading<'_>) -> Result<(), String> {
        if let Some(program) = self.vchkpw.take() {
            let checker = Checker {
                program,
                next: "/bin/true".into(),
                sudo: self.sudo.then(checkpassword::sudo).flatten(),
            };
            checker.check()?;
            self.checker = Some(checker);
        } else if !self.users.is_dir() {
            let users = self.users.display();
            return Err(format!(
                "there is no folder {users}; is vpopmail on this machine? (users DIR, or vchkpw PROGRAM)"
            ));
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        if self.checker.is_some() {
            return checkpassword::needs();
        }
        let mut read = vec![self.users.clone(), self.domains.clone()];
        let elsewhere = |folder: &PathBuf| !folder.starts_with(&self.domains);
        read.extend(Tree(&self.users).folders().into_iter().filter(elsewhere));
        Needs {
            read,
            ..Needs::default()
        }
    }

    fn offers(&self, _: &Session, mechanism: &str) -> bool {
        self.checker.is_none() || matches!(mechanism, "plain" | "login")
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        if let Some(checker) = &self.checker {
            return checker.login(s, with);
        }
        let Some((local, domain)) = with.user.rsplit_once('@') else {
            info!(s, "fail: the user has no domain");
            return deny("no such user");
        };
        match Tree(&self.users).find(&local.to_ascii_lowercase(), &domain.to_ascii_lowercase()) {
            Ok(Some(user)) => {
                let stored = Stored {
                    crypt: Some(&user.crypt),
                    clear: Some(&user.clear),
                    ..Stored::default()
                };
                validate_evenly(s, Known::Row(stored), with, &self.decoy)
            }
            Ok(None) => {
                info!(s, "fail: no such user");
                validate_evenly(s, Known::Nobody(|| deny("no such user")), with, &self.decoy)
            }
            Err(why) => unavailable(s, why),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }

    fn auth_cram_md5(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }
}

#[cfg(test)]
mod tests;
