//! Logins by the client's certificate (RFC 4422 A).

use std::collections::HashMap;

use crate::plugin::*;

plugin! {
    /// Lets in by EXTERNAL who shows a certificate that the file auth_clientcerts knows.
    ///
    /// Its lines are the SHA-256 fingerprint of a certificate, or a name or mail address in a certificate for which a
    /// CA of plugin tls vouches, and then the users who may log in with it. A client that does not say which user it
    /// is is the first of them. Only clients with such a certificate are offered EXTERNAL; they are asked for one
    /// where the argument `clients` of plugin tls says so.
    "auth/auth_external", External {
        /// Let every client in for whose certificate a CA vouches, as a mail address that stands in it.
        addresses: bool = false,
    }
    files ["auth_clientcerts"]
    state { known: Cached<Known> }
    hooks [auth_external]
    with [offers]
}

const CERTIFICATES: &str = "auth_clientcerts";

/// The lines of the file, to be found by what is in a certificate.
#[derive(Default)]
struct Known {
    /// The users of each line.
    users: Vec<Vec<String>>,
    /// Which lines mean a certificate with this fingerprint.
    by_fingerprint: HashMap<[u8; 32], Vec<usize>>,
    /// Which lines mean one with this name.
    by_name: HashMap<String, Vec<usize>>,
}

impl Known {
    fn read(lines: &Lines) -> Known {
        let mut known = Known::default();
        for (number, line) in lines.iter().enumerate() {
            let (who, users) = entry(line);
            let lines = match fingerprint(who) {
                Ok(print) => known.by_fingerprint.entry(print).or_default(),
                Err(_) => known.by_name.entry(spelt(who)).or_default(),
            };
            lines.push(number);
            known
                .users
                .push(users.split_ascii_whitespace().map(str::to_owned).collect());
        }
        known
    }

    /// The users of a certificate, in the order of the lines.
    fn users_of(&self, client: &ClientCertificate) -> Vec<String> {
        let print = fingerprint(&client.fingerprint).ok();
        let by_print = print.iter().filter_map(|print| self.by_fingerprint.get(print));
        let names = client.names.iter().filter(|_| client.verified);
        let by_name = names.filter_map(|name| self.by_name.get(&spelt(name)));
        let mut lines: Vec<usize> = by_print.chain(by_name).flatten().copied().collect();
        lines.sort_unstable();
        lines.dedup();
        lines
            .iter()
            .flat_map(|number| self.users[*number].iter().cloned())
            .collect()
    }
}

/// A name or address of a certificate, in one spelling.
fn spelt(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => name.to_ascii_lowercase(),
    }
}

impl External {
    /// As whom the client may log in, the one it is first.
    fn users(&self, s: &Session) -> Result<Vec<String>, Fault> {
        let Some(client) = s.tls.as_ref().and_then(|tls| tls.client.as_ref()) else {
            return Ok(Vec::new());
        };
        let known = self.known.get(s.config(CERTIFICATES)?, Known::read);
        let mut users = known.users_of(client);
        if self.addresses && client.verified {
            users.extend(client.names.iter().filter(|name| name.contains('@')).cloned());
        }
        Ok(users)
    }

    /// Also while the file cannot be read, which whoever tries then is told.
    fn offers(&self, s: &Session, _mechanism: &str) -> bool {
        self.users(s).map_or(true, |users| !users.is_empty())
    }

    fn auth_external(&self, s: &mut Session, with: &Credentials) -> Answer {
        let users = match self.users(s) {
            Ok(users) => users,
            Err(why) => return unavailable(s, why),
        };
        let Some(first) = users.first() else {
            info!(s, "skip: no user with this certificate");
            return declined();
        };
        let found = match &*with.user {
            "" => Some(first),
            user => users.iter().find(|one| same_user(one, user)),
        };
        match found {
            Some(user) => {
                info!(s, "pass: certificate of {}", Harmless(user));
                ok_as(user.clone())
            }
            None => {
                info!(s, "fail: the certificate is of another user");
                deny("the certificate is of another user")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str =
        "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99";

    fn kit(arguments: &str, verified: bool) -> Kit {
        let mut t = Kit::load(&DECLARATION, arguments);
        t.s.tls = Some(Box::new(Tls {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            group: None,
            sni: None,
            client: Some(ClientCertificate {
                subject: "CN=client.example".to_owned(),
                names: vec!["client.example".to_owned(), "joe@example.com".to_owned()],
                fingerprint: MARK.to_owned(),
                verified,
            }),
            binding: None,
        }));
        t
    }

    fn login(t: &mut Kit, user: &str) -> Option<String> {
        let outcome = t.auth(&Credentials::name("external", user));
        match outcome.login.map(|handed| *handed) {
            Some(Handed::User(user)) => Some(user),
            _ => None,
        }
    }

    #[test]
    fn a_fingerprint_needs_no_ca() {
        let mut t = kit("", false);
        let plain = MARK.to_lowercase().replace(':', "");
        for mark in [MARK, &plain] {
            t.config(
                "auth_clientcerts",
                &[&format!("{mark} joe@example.com ann@example.com")],
            );
            assert!(t.offers(Hook::auth_external, "external"));
            assert_eq!(login(&mut t, "").as_deref(), Some("joe@example.com"));
            assert_eq!(login(&mut t, "ann@EXAMPLE.com").as_deref(), Some("ann@example.com"));
            assert_eq!(login(&mut t, "jim@example.com"), None);
        }
        assert!(
            t.logged()
                .contains(&"(auth-external) auth::auth_external: fail: the certificate is of another user".to_owned())
        );
    }

    #[test]
    fn a_name_needs_a_ca() {
        for (verified, who) in [
            (true, "CLIENT.example"),
            (true, "joe@Example.com"),
            (false, "client.example"),
        ] {
            let mut t = kit("", verified);
            t.config("auth_clientcerts", &[&format!("{who} joe")]);
            assert_eq!(t.offers(Hook::auth_external, "external"), verified, "{who}");
            assert_eq!(login(&mut t, "joe").is_some(), verified, "{who}");
        }
        let mut t = kit("", true);
        t.config("auth_clientcerts", &["other.example joe", "client.example"]);
        assert!(!t.offers(Hook::auth_external, "external"));
        t.auth(&Credentials::name("external", "joe")).declined();
    }

    #[test]
    fn an_address_in_the_certificate_is_a_user_where_that_is_wanted() {
        for (arguments, verified, known) in [
            ("", true, false),
            ("addresses 1", false, false),
            ("addresses 1", true, true),
        ] {
            let mut t = kit(arguments, verified);
            assert_eq!(t.offers(Hook::auth_external, "external"), known);
            assert_eq!(login(&mut t, ""), known.then(|| "joe@example.com".to_owned()));
            assert_eq!(login(&mut t, "client.example"), None);
        }
    }

    #[test]
    fn without_a_certificate_nobody_is_let_in() {
        let mut t = kit("", true);
        t.config("auth_clientcerts", &["client.example joe"]);
        t.s.tls = None;
        assert!(!t.offers(Hook::auth_external, "external"));
        t.auth(&Credentials::name("external", "")).declined();
    }
}
