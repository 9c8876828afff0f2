//! What a client that logs in shows to the plugins, and what they hand back (catalogue 4.3).

use std::fmt;

use super::ScramKeys;

/// What a client that logs in has shown. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The mechanism, in lower case.
    pub mechanism: &'static str,
    /// The user; with a token or a certificate it may be empty, and then the plugin tells who it is.
    pub user: String,
    /// The password, where the mechanism sends it.
    pub password: Option<String>,
    /// The client's digest, where the mechanism sends one.
    pub digest: Option<String>,
    /// The challenge the digest answers.
    pub ticket: Option<String>,
    /// The bearer token, where the mechanism sends one.
    pub token: Option<String>,
}

impl Credentials {
    /// Of a mechanism that sends the password: `plain` or `login`.
    pub fn password(mechanism: &'static str, user: &str, password: &str) -> Credentials {
        Credentials {
            mechanism,
            user: user.to_owned(),
            password: Some(password.to_owned()),
            ..Credentials::default()
        }
    }

    /// Of CRAM-MD5: the digest that answers the challenge.
    pub fn digest(user: &str, ticket: &str, digest: &str) -> Credentials {
        Credentials {
            mechanism: "cram-md5",
            user: user.to_owned(),
            ticket: Some(ticket.to_owned()),
            digest: Some(digest.to_owned()),
            ..Credentials::default()
        }
    }

    /// Of OAUTHBEARER or XOAUTH2.
    pub fn token(mechanism: &'static str, user: &str, token: &str) -> Credentials {
        Credentials {
            mechanism,
            user: user.to_owned(),
            token: Some(token.to_owned()),
            ..Credentials::default()
        }
    }

    /// Of a mechanism that shows nothing but a name: SCRAM when the keys are wanted, and EXTERNAL.
    pub fn name(mechanism: &'static str, user: &str) -> Credentials {
        Credentials {
            mechanism,
            user: user.to_owned(),
            ..Credentials::default()
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} of {:?})", self.mechanism, self.user)
    }
}

/// Whether two names are the same user: domains are the same in upper and lower case.
pub fn same_user(a: &str, b: &str) -> bool {
    match (a.rsplit_once('@'), b.rsplit_once('@')) {
        (Some((a, a_domain)), Some((b, b_domain))) => a == b && a_domain.eq_ignore_ascii_case(b_domain),
        _ => a == b,
    }
}

/// What a hook of AUTH hands over besides its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// Who it is that has logged in, where the client need not say it: auth_token, auth_external.
    User(String),
    /// The keys to check the client's proof against: auth_scram.
    Keys(ScramKeys),
    /// What is wrong with a token, in the JSON of RFC 7628 3.2.2.
    Problem(String),
}
