//! Passwords in a file (catalogue 15.1).

use std::collections::HashMap;
use std::sync::Arc;

use crate::plugin::*;

plugin! {
    /// Checks user and password against the file flat_auth_pw.
    ///
    /// Its lines are `user@domain:password`; the password may contain colons, and may be a hash as crypt(3) makes
    /// them ($5$, $6$, yescrypt, bcrypt), one of argon2, or keys of SCRAM. A mechanism is offered if every user can use
    /// it: CRAM-MD5 needs the passwords in clear, SCRAM those or its keys. The file should be readable by the daemon
    /// alone; `qpsmtpctl passwd` writes it.
    "auth/auth_flat_file", FlatFile {}
    files ["flat_auth_pw"]
    state { users: Cached<Users> }
    hooks [auth_plain, auth_login, auth_cram_md5, auth_scram]
    with [setup, offers]
}

/// The mechanisms that need more than a hash.
const CHOOSY: [&str; 3] = ["cram-md5", "scram-sha-1", "scram-sha-256"];

/// Who may log in.
#[derive(Default)]
struct Users {
    /// What is stored of each.
    words: HashMap<String, String>,
    /// Hides who is not among them.
    decoy: Decoy,
    /// Which of the choosy mechanisms some of them cannot use.
    not_for_all: [bool; 3],
    /// What a client sees of their keys, for each hash of SCRAM.
    looks: [Vec<ScramLooks>; 2],
}

/// In which order the hashes of SCRAM stand in a table.
const HASHES: [ScramHash; 2] = [ScramHash::Sha1, ScramHash::Sha256];

impl Users {
    fn read(lines: &Lines) -> Users {
        let mut users = Users {
            decoy: Decoy::none(),
            ..Users::default()
        };
        let pair = |line: &Line| line.split_once(':').map(|(user, word)| (key(user), word.to_owned()));
        for (user, word) in lines.iter().filter_map(pair) {
            let Some(user) = user else { continue };
            for (at, mechanism) in CHOOSY.iter().enumerate() {
                users.not_for_all[at] |= !Stored::of(&word).serves(mechanism);
            }
            for (looks, hash) in users.looks.iter_mut().zip(HASHES) {
                looks.extend(Stored::of(&word).looks(hash));
            }
            users.decoy.consider(&word);
            users.words.insert(user, word);
        }
        users
    }

    /// Keys of somebody who is not among them; none without SCRAM.
    fn of_nobody(&self, s: &Session, mechanism: &str, user: &str) -> Option<ScramKeys> {
        let hash = ScramHash::of(mechanism)?;
        let looks = self.looks.iter().zip(HASHES).find(|(_, one)| *one == hash)?.0;
        Some(ScramKeys::of_nobody(hash, user, &s.services().secret, looks))
    }
}

impl FlatFile {
    /// Reads the file before root is given up, so that it may be closed to all others.
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let lines = at.config("flat_auth_pw");
        // a fault shows no line: there may be a password in it
        let is_good = |line: &Line| line.split_once(':').is_some_and(|(user, _)| key(user).is_some());
        for line in lines.iter().filter(|line| !is_good(line)) {
            at.warn(format!("{}: no user@domain:password", line.place));
        }
        self.users.get(lines, Users::read);
        Ok(())
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn auth_cram_md5(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn auth_scram(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.check(s, with)
    }

    fn offers(&self, s: &Session, mechanism: &str) -> bool {
        let mechanism = mechanism.strip_suffix("-plus").unwrap_or(mechanism);
        let choosy = CHOOSY.iter().position(|one| *one == mechanism);
        choosy.is_none_or(|at| self.users(s).map_or(true, |users| !users.not_for_all[at]))
    }

    fn users(&self, s: &Session) -> Result<Arc<Users>, Fault> {
        Ok(self.users.get(s.config("flat_auth_pw")?, Users::read))
    }

    fn check(&self, s: &mut Session, with: &Credentials) -> Answer {
        let Some(user) = key(&with.user) else {
            info!(s, "fail: missing domain");
            return declined();
        };
        let users = match self.users(s) {
            Ok(users) => users,
            Err(why) => return unavailable(s, why),
        };
        let known = match users.words.get(&user) {
            Some(word) => Known::Word(word),
            None => {
                info!(s, "fail: no such user");
                if let Some(keys) = users.of_nobody(s, with.mechanism, &user) {
                    return declined_with(keys);
                }
                Known::Nobody(declined)
            }
        };
        // what is made of the name, the salt of keys, must not depend on how it is written
        let with = Credentials { user, ..with.clone() };
        validate_evenly(s, known, &with, &users.decoy)
    }
}

/// A user with its domain in lower case; none without a domain, or if nobody knows what stood there.
fn key(user: &str) -> Option<String> {
    let (local, domain) = user.trim().rsplit_once('@')?;
    if user.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
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
    fn who_is_not_there_takes_as_long_as_who_is() {
        let mut t = kit();
        for (user, password, times) in [
            ("hash@example.com", "x", 1),
            ("jim@example.com", "x", 1),
            // checked by itself, which costs nothing, and then drawn out
            ("Joe@example.com", "x", 2),
            ("Joe@example.com", "pass:word", 1),
        ] {
            let before = compared();
            t.auth(&plain(user, password));
            assert_eq!(compared() - before, times, "{user}");
        }
    }

    #[test]
    fn users_are_no_patterns() {
        let mut t = kit();
        t.auth(&plain(".*@.*", "pass:word")).declined();
        t.auth(&plain("Joe", "pass:word")).declined();
        t.auth(&plain("nobody", "")).declined();
        t.logged();
        t.auth(&plain("joe@example.com", "pass:word")).declined();
        assert_eq!(t.logged()[0], "(auth-plain) auth::auth_flat_file: fail: no such user");
    }

    #[test]
    fn what_is_offered_is_what_every_user_can_use() {
        let mut t = kit();
        let offers = |t: &Kit| {
            let hooks = [
                Hook::auth_cram_md5,
                Hook::auth_scram,
                Hook::auth_scram,
                Hook::auth_plain,
            ];
            let names = ["cram-md5", "scram-sha-1", "scram-sha-256-plus", "plain"];
            let offered = hooks
                .into_iter()
                .zip(names)
                .filter(|(hook, name)| t.offers(*hook, name));
            offered.map(|(_, name)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(offers(&t), "plain");
        t.config("flat_auth_pw", &["a@x.org:secret", "b@x.org:other"]);
        assert_eq!(offers(&t), "cram-md5 scram-sha-1 scram-sha-256-plus plain");
        let keys = "c@x.org:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        t.config("flat_auth_pw", &["a@x.org:secret", keys]);
        assert_eq!(offers(&t), "scram-sha-256-plus plain");
        t.config("flat_auth_pw", &[]);
        assert_eq!(offers(&t), "cram-md5 scram-sha-1 scram-sha-256-plus plain");
    }

    #[test]
    fn keys_are_handed_over() {
        let mut t = Kit::load(&DECLARATION, "");
        let stored = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        t.config("flat_auth_pw", &["joe@x.org:secret", &format!("ann@x.org:{stored}")]);
        let mut keys = |mechanism: &'static str, user: &str| {
            let outcome = t.auth(&Credentials::name(mechanism, user));
            match outcome.login.as_deref() {
                Some(Handed::Keys(keys)) => Some(keys.clone()),
                _ => None,
            }
        };
        let of_joe = keys("scram-sha-256", "joe@x.org").expect("keys");
        assert!(
            of_joe.are_of("secret") && keys("scram-sha-1-plus", "joe@X.org").is_some_and(|keys| keys.are_of("secret"))
        );
        assert!(
            keys("scram-sha-256-plus", "ann@x.org")
                .is_some_and(|keys| keys.are_of("pencil") && keys.to_string() == stored)
        );
        assert_eq!(keys("scram-sha-1", "ann@x.org"), None);
        // nobody knows who they are: however a name is written, and whoever it is of
        for (one, other) in [
            ("jim@x.org", " jim@X.ORG"),
            ("joe@x.org", "joe@X.org "),
            ("ann@x.org", " ann@X.ORG"),
        ] {
            let (one, other) = (keys("scram-sha-256", one), keys("scram-sha-256", other));
            assert_eq!(one.expect("keys").salt, other.expect("keys").salt);
        }
        let rounds: Vec<u32> = (0..40)
            .filter_map(|number| Some(keys("scram-sha-256", &format!("jim{number}@x.org"))?.rounds))
            .collect();
        assert!(
            rounds.len() == 40 && rounds.contains(&4096) && rounds.contains(&of_joe.rounds),
            "{rounds:?}"
        );
        t.auth(&plain("ann@x.org", "pencil")).ok();
        t.auth(&plain("ann@x.org", stored)).denied("wrong password");
    }

    #[test]
    fn what_was_not_utf8_fits_nothing() {
        // so the file is read where there are bytes of another encoding
        let lines = ["joe@example.com:p\u{fffd}ss", "j\u{fffd}rg@example.com:secret"];
        let mut t = Kit::load(&DECLARATION, "");
        t.config("flat_auth_pw", &lines);
        for password in ["p\u{fffd}ss", "p\u{e4}ss", "p\u{f6}ss"] {
            let outcome = t.auth(&plain("joe@example.com", password)).declined();
            assert!(outcome.failed, "{password}");
        }
        assert!(
            t.logged()
                .iter()
                .any(|line| line.contains("error, the stored password is not UTF-8"))
        );
        t.auth(&Credentials::digest("joe@example.com", "<1@x>", "00"))
            .declined();
        assert!(
            t.auth(&Credentials::name("scram-sha-256", "joe@example.com"))
                .login
                .is_none()
        );
        t.auth(&plain("j\u{fffd}rg@example.com", "secret")).declined();
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
