//! The settings of a directory, and the search for a user.

use std::path::PathBuf;
use std::time::Duration;

use super::super::secure;
use crate::plugin::*;

/// The settings there are.
const KEYS: [&str; 11] = [
    "ldap_base",
    "ldap_host",
    "ldap_port",
    "ldap_timeout",
    "ldap_auth_filter_attr",
    "ldap_filter",
    "ldap_bind_dn",
    "ldap_bind_pw",
    "ldap_tls",
    "ldap_ca",
    "ldap_name",
];

/// Settings as they are written; the last of a name holds.
#[derive(Clone, Debug, Default)]
pub struct Words {
    pairs: Vec<(String, String)>,
    /// The name that still has no value, among arguments.
    open: Option<String>,
}

impl Arg for Words {
    const WANTS: &'static str = "names and values of the file ldap";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let words = slot.get_or_insert_default();
        match words.open.take() {
            Some(key) => words.add(&key, word)?,
            None => {
                known(word)?;
                words.open = Some(word.to_owned());
            }
        }
        Ok(None)
    }

    fn absent() -> Option<Self> {
        Some(Words::default())
    }
}

fn known(key: &str) -> Result<(), String> {
    match KEYS.contains(&key) {
        true => Ok(()),
        false => Err(format!("'{key}' is none of {}", KEYS.join(", "))),
    }
}

impl Words {
    /// Adds a setting.
    ///
    /// # Errors
    /// There is none of this name, or it has no value.
    pub fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        known(key)?;
        if value.is_empty() {
            return Err(format!("{key} needs a value"));
        }
        self.pairs.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Puts others before these.
    ///
    /// # Errors
    /// The last of them has no value.
    pub fn go_before(&mut self, others: &Words) -> Result<(), String> {
        if let Some(key) = &others.open {
            return Err(format!("{key} needs a value"));
        }
        self.pairs.extend(others.pairs.iter().cloned());
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    fn number<T: std::str::FromStr>(&self, key: &str, usual: T) -> Result<T, String> {
        let wrong = |value| format!("{key} '{value}' is no such number");
        self.get(key)
            .map_or(Ok(usual), |value| value.parse().map_err(|_| wrong(value)))
    }
}

/// A directory.
pub struct Server {
    /// Where it is.
    pub at: Target,
    tls: Option<(ClientTls, bool)>,
    base: String,
    filter: String,
    searcher: Option<(String, String)>,
    wait: Duration,
}

impl Server {
    /// By the settings.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub fn new(words: &Words) -> Result<Server, String> {
        let (mut host, mut tls) = (words.get("ldap_host").unwrap_or("127.0.0.1"), words.get("ldap_tls"));
        if let Some((scheme, rest)) = host.split_once("://") {
            host = rest.trim_end_matches('/');
            match scheme {
                "ldap" => {}
                "ldaps" => tls = Some("ldaps"),
                _ => {
                    return Err(format!(
                        "ldap_host '{host}': the scheme {scheme} is neither ldap nor ldaps"
                    ));
                }
            }
        }
        let tls = tls.unwrap_or("off");
        let port = words.number("ldap_port", if tls == "ldaps" { 636 } else { 389 })?;
        let at = Target::parse(host, port)?;
        let tls = match (tls, &at) {
            ("off", _) => None,
            ("starttls" | "ldaps", Target::Tcp(host, _)) => {
                let ca = words.get("ldap_ca").map(PathBuf::from);
                let name = words.get("ldap_name").unwrap_or(host);
                Some((secure::tls(name, ca.as_ref())?, tls == "ldaps"))
            }
            ("starttls" | "ldaps", _) => return Err("ldap_tls is for hosts, not for sockets".to_owned()),
            (other, _) => return Err(format!("ldap_tls '{other}' is none of off, starttls, ldaps")),
        };
        let attribute = words.get("ldap_auth_filter_attr").unwrap_or("uid");
        if !attribute
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-.;".contains(c))
        {
            return Err(format!("ldap_auth_filter_attr '{attribute}' is no attribute"));
        }
        let searcher = match (words.get("ldap_bind_dn"), words.get("ldap_bind_pw")) {
            (Some(name), Some(password)) => Some((name.to_owned(), password.to_owned())),
            (None, None) => None,
            _ => return Err("ldap_bind_dn and ldap_bind_pw belong together".to_owned()),
        };
        Ok(Server {
            at,
            tls,
            base: words.get("ldap_base").ok_or("ldap_base is missing")?.to_owned(),
            filter: words
                .get("ldap_filter")
                .map_or_else(|| format!("({attribute}=%u)"), str::to_owned),
            searcher,
            wait: Duration::from_secs(words.number("ldap_timeout", 5u64)?.clamp(1, 600)),
        })
    }

    /// Whether passwords leave this machine in clear.
    pub fn is_in_clear(&self) -> bool {
        self.tls.is_none() && !secure::is_here(&self.at)
    }

    /// The search for a user: `%s` is the user as given, `%u` what is before the @, `%d` what is behind it, `%%` a
    /// percent sign.
    pub fn filter(&self, user: &str) -> String {
        let (local, domain) = user.rsplit_once('@').unwrap_or((user, ""));
        let mut filter = String::new();
        let mut rest = self.filter.chars();
        while let Some(c) = rest.next() {
            match (c, if c == '%' { rest.next() } else { None }) {
                ('%', Some('s')) => filter.push_str(&escaped(user)),
                ('%', Some('u')) => filter.push_str(&escaped(local)),
                ('%', Some('d')) => filter.push_str(&escaped(domain)),
                ('%', Some('%') | None) => filter.push('%'),
                ('%', Some(other)) => filter.extend(['%', other]),
                (other, _) => filter.push(other),
            }
        }
        filter
    }

    /// The login of whom a filter finds.
    pub fn login<'a>(&'a self, filter: &'a str, password: &'a str) -> DirectoryLogin<'a> {
        DirectoryLogin {
            at: &self.at,
            tls: self.tls.as_ref().map(|(how, at_once)| (how, *at_once)),
            searcher: self
                .searcher
                .as_ref()
                .map(|(name, password)| (name.as_str(), password.as_str())),
            base: &self.base,
            filter,
            password,
            wait: self.wait,
        }
    }
}

/// A value as it stands in a filter (RFC 4515 3): nothing in it is taken for a part of the filter.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0' => out.push_str(&format!("\\{:02x}", c as u32)),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pairs: &[(&str, &str)]) -> Result<Server, String> {
        let mut words = Words::default();
        words.add("ldap_base", "dc=example,dc=com")?;
        for (key, value) in pairs {
            words.add(key, value)?;
        }
        Server::new(&words)
    }

    #[test]
    fn nothing_of_a_user_is_a_part_of_the_filter() {
        let by = |filter: &[(&str, &str)], user: &str| server(filter).map(|server| server.filter(user));
        assert_eq!(by(&[], "joe@example.com").as_deref(), Ok("(uid=joe)"));
        assert_eq!(
            by(&[("ldap_auth_filter_attr", "mail")], "joe").as_deref(),
            Ok("(mail=joe)")
        );
        assert_eq!(by(&[], "*)(x=\\\0@y").as_deref(), Ok("(uid=\\2a\\29\\28x=\\5c\\00)"));
        let filter = [("ldap_filter", "(&(mail=%s)(ou=%d)(cn=%u)(x=100%%)(y=%x)%)")];
        assert_eq!(
            by(&filter, "J\u{f6}e@a*b").as_deref(),
            Ok("(&(mail=J\u{f6}e@a\\2ab)(ou=a\\2ab)(cn=J\u{f6}e)(x=100%)(y=%x)%)")
        );
        // what the user sends is not looked at again
        assert_eq!(by(&filter[..1], "%d%s").map(|f| f.contains("(mail=%d%s)")), Ok(true));
    }

    #[test]
    fn settings() {
        let at = |pairs: &[(&str, &str)]| server(pairs).map(|server| server.at.to_string());
        assert_eq!(at(&[]).as_deref(), Ok("127.0.0.1:389"));
        assert_eq!(at(&[("ldap_host", "/run/ldapi")]).as_deref(), Ok("/run/ldapi"));
        assert_eq!(
            at(&[("ldap_host", "ldap://ldap.example.com:1389/")]).as_deref(),
            Ok("ldap.example.com:1389")
        );
        assert_eq!(
            at(&[("ldap_port", "1"), ("ldap_port", "2")]).as_deref(),
            Ok("127.0.0.1:2")
        );
        for bad in [
            [("ldap_port", "x")],
            [("ldap_tls", "maybe")],
            [("ldap_host", "http://x")],
            [("ldap_bind_dn", "cn=x")],
            [("ldap_auth_filter_attr", "uid)(x")],
        ] {
            assert!(server(&bad).is_err(), "{bad:?}");
        }
        assert!(server(&[("ldap_host", "/run/ldapi"), ("ldap_tls", "starttls")]).is_err());
        assert!(server(&[("ldap_tls", "ldaps"), ("ldap_ca", "/nonexistent")]).is_err());
    }
}
