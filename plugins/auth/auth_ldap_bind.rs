//! Users of a directory (catalogue 15.6).

mod server;

use crate::plugin::*;
use server::{Server, Words};

plugin! {
    /// Searches the user in a directory (LDAP) and lets the client in if the entry found accepts the password.
    ///
    /// The settings are in the file ldap; arguments of the same names go before them. They are read when the daemon
    /// starts or reloads. The search is for `(uid=JOE)` with the user's name up to the @, or whatever ldap_filter says, and
    /// anonymous without ldap_bind_dn. A user who is found twice is let in by neither entry.
    "auth/auth_ldap_bind", AuthLdapBind {
        /// Settings, as in the file.
        @rest settings: Words,
    }
    files ["ldap"]
    state { server: Option<Server> }
    hooks [auth_plain, auth_login]
    with [setup]
}

impl AuthLdapBind {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let lines = at.config("ldap");
        let mut words = Words::default();
        for line in &lines {
            let (key, value) = entry(line);
            if let Err(why) = words.add(key, value) {
                at.fault_in(line, why);
            }
        }
        words.go_before(&self.settings)?;
        if !at.failed() {
            let server = Server::new(&words)?;
            if server.is_in_clear() {
                at.warn("passwords go to the directory in clear; ldap_tls starttls or ldaps encrypts them");
            }
            self.server = Some(server);
        }
        Ok(())
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let password = with.password.as_deref().unwrap_or_default();
        let Some(server) = &self.server else {
            return declined();
        };
        // without a password it would be an anonymous login, which always succeeds
        if password.is_empty() {
            info!(s, "fail: missing password");
            return deny("no password given");
        }
        let filter = server.filter(&with.user);
        match s.services().stores.bind(&server.login(&filter, password)) {
            Ok(Bound::Yes(name)) => {
                info!(s, "pass: {} accepts the password", Harmless(&name));
                ok()
            }
            Ok(Bound::WrongPassword(name)) => {
                info!(s, "fail: {} refuses the password", Harmless(&name));
                declined()
            }
            Ok(Bound::Nobody) => {
                info!(s, "fail: user not found");
                declined()
            }
            Ok(Bound::Several) => {
                warning!(s, "fail: {} finds more than one", Harmless(&filter));
                declined()
            }
            Err(why) => unavailable(s, format_args!("directory {}: {why}", server.at)),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_decides() {
        let mut t = Kit::load_with(
            &DECLARATION,
            "ldap_timeout 3",
            &[("ldap", &["ldap_base dc=example,dc=com"])],
        );
        t.stores().entry_is("(uid=joe)", "uid=joe,dc=example,dc=com", "secret");
        let mut login = |user: &str, password: &str| t.auth(&Credentials::password("plain", user, password));
        login("joe@example.com", "secret").ok();
        login("joe", "secret").ok();
        login("joe@example.com", "Secret").declined();
        login("joe@example.com", "").denied("no password");
        login("*", "secret").declined();
        login("joe)(uid=*", "secret").declined();
        assert!(
            t.logged()
                .iter()
                .all(|line| !line.contains("error") && !line.contains("ecret"))
        );
        t.stores().fails("down");
        t.auth(&Credentials::password("plain", "joe", "secret")).declined();
        assert!(t.logged().join("\n").contains("error, directory 127.0.0.1:389: down"));
    }

    #[test]
    fn faults_have_a_place() {
        let faults =
            |arguments: &str, lines: &[&str]| Kit::faults_with(&DECLARATION, arguments, &[("ldap", lines)]).join("\n");
        assert!(faults("", &[]).contains("ldap_base is missing"));
        assert!(faults("", &["ldap_base x", "ldap_bass y"]).contains("ldap:2"));
        assert!(faults("ldap_base", &[]).contains("needs a value"));
        assert!(faults("ldap_base x ldap_port y", &[]).contains("'y'"));
        assert!(faults("ldap_base x ldap_host ldap.example.com", &[]).contains("in clear"));
    }
}
