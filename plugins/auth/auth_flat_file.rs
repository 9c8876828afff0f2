//! Passwords in a file (catalogue 15.1).

use std::collections::HashMap;

use crate::plugin::*;

plugin! {
    /// Checks user and password against the file flat_auth_pw.
    ///
    /// Its lines are `user@domain:password`; the password may contain colons, and may be a hash as crypt(3) makes
    /// them ($5$, $6$, or bcrypt), which CRAM-MD5 cannot use. The file should be readable by the daemon alone.
    "auth/auth_flat_file", FlatFile {}
    files ["flat_auth_pw"]
    state { users: Cached<HashMap<String, String>> }
    hooks [auth_plain, auth_login, auth_cram_md5]
}

impl FlatFile {
    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn auth_cram_md5(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn check(&self, s: &mut Session, with: &Credentials) -> Answer {
        if with.password.is_none() && with.digest.is_none() {
            info!(s, "fail: missing password");
            return deny("no password given");
        }
        let Some(user) = key(&with.user) else {
            info!(s, "skip: bad config, the user has no @");
            return declined();
        };
        let users = self.users.get(s.config("flat_auth_pw"), |lines| {
            let pair = |line: &Line| line.split_once(':').map(|(user, word)| (key(user), word.to_owned()));
            let pairs = lines.iter().filter_map(pair);
            pairs.filter_map(|(user, word)| Some((user?, word))).collect()
        });
        match users.get(&user) {
            Some(word) => validate(s, Stored::of(word), with),
            None => {
                info!(s, "skip: no such user");
                declined()
            }
        }
    }
}

/// A user with its domain in lower case; none without a domain.
fn key(user: &str) -> Option<String> {
    let (local, domain) = user.trim().rsplit_once('@')?;
    Some(format!("{local}@{}", domain.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit() -> Kit {
        let mut t = Kit::load(&DECLARATION, "");
        let hashed = "hash@example.com:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        t.config("flat_auth_pw", &["Joe@Example.COM:pass:word", hashed, "nobody"]);
        t
    }

    fn plain(user: &str, password: &str) -> Credentials {
        Credentials::password("plain", user, password)
    }

    #[test]
    fn passwords_and_hashes_are_checked() {
        let mut t = kit();
        t.auth(&plain("Joe@example.com", "pass:word")).ok();
        t.auth(&plain("Joe@EXAMPLE.com", "pass:word")).ok();
        t.auth(&plain("Joe@example.com", "Pass:word")).denied("wrong password");
        t.auth(&plain("hash@example.com", "Hello world!")).ok();
        t.auth(&plain(
            "hash@example.com",
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
        ))
        .denied("");
        assert!(
            t.logged()
                .iter()
                .all(|line| !line.contains("pass:word") && !line.contains("Hello"))
        );
    }

    #[test]
    fn users_are_no_patterns() {
        let mut t = kit();
        t.auth(&plain(".*@.*", "pass:word")).declined();
        t.auth(&plain("Joe", "pass:word")).declined();
        t.auth(&plain("nobody", "")).declined();
        t.auth(&plain("joe@example.com", "pass:word")).declined();
    }

    #[test]
    fn digests_are_checked_against_clear_passwords_alone() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config(
            "flat_auth_pw",
            &[
                "tim@x.org:tanstaaftanstaaf",
                "hash@x.org:$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            ],
        );
        let cram =
            |user: &str, digest: &str| Credentials::digest(user, "<1896.697170952@postoffice.reston.mci.net>", digest);
        t.auth(&cram("tim@x.org", "b913a602c7eda7a495b4e6e7334d3890")).ok();
        t.auth(&cram("tim@x.org", "a913a602c7eda7a495b4e6e7334d3890"))
            .denied("");
        t.auth(&cram("hash@x.org", "b913a602c7eda7a495b4e6e7334d3890"))
            .declined();
    }
}
