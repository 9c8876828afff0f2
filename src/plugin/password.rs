//! Whether a password is the right one: the table that all providers share (catalogue 4.5), and what of it SCRAM can
//! use.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use subtle::ConstantTimeEq;

use super::scram::{SALT, ScramLooks};
use super::{Answer, Credentials, ScramHash, ScramKeys, declined, deny, ok, ok_keys, random_bytes, unavailable};
use crate::log::Level;
use crate::session::Session;

/// What a provider has stored of a user's password.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// The password itself.
    pub clear: Option<&'a str>,
    /// A hash of it, as crypt(3) makes them: `$5$`, `$6$`, yescrypt's `$y$` or bcrypt's `$2a$`, `$2b$`, `$2x$`, `$2y$`;
    /// or one of argon2, `$argon2id$` and its kin.
    pub crypt: Option<&'a str>,
    /// Keys of SCRAM; several are separated by a blank.
    pub scram: Option<&'a str>,
}

impl<'a> Stored<'a> {
    /// Takes a stored word for a hash if it has the form of one.
    pub fn of(word: &'a str) -> Stored<'a> {
        let one = Some(word);
        match () {
            () if is_hash(word) => Stored {
                crypt: one,
                ..Stored::default()
            },
            () if are_keys(word) => Stored {
                scram: one,
                ..Stored::default()
            },
            () => Stored {
                clear: one,
                ..Stored::default()
            },
        }
    }

    /// Whether a user of whom this is stored can log in by a mechanism, in lower case.
    pub fn serves(&self, mechanism: &str) -> bool {
        match ScramHash::of(mechanism) {
            Some(hash) => self.clear.is_some() || self.keys().any(|keys| keys.hash == hash),
            None => self.clear.is_some() || mechanism != "cram-md5",
        }
    }

    /// Why nobody can tell whether a password is the right one, if that is so.
    fn unusable(&self) -> Option<&'static str> {
        let crypt = self.crypt.filter(|hash| !hash.is_empty());
        match () {
            () if self.clear.is_some_and(is_garbled) => Some("the stored password is not UTF-8"),
            () if crypt.is_some_and(|hash| !is_hash(hash)) => {
                Some("the stored hash is damaged, or of a kind that is not known here")
            }
            () => None,
        }
    }

    /// What a client that asks for this user's keys sees of them; none if there are none of this hash.
    pub fn looks(&self, hash: ScramHash) -> Option<ScramLooks> {
        let stored = self.keys().find(|keys| keys.hash == hash).map(|keys| keys.looks());
        stored.or(self.clear.map(|_| ScramLooks::default()))
    }

    fn keys(&self) -> impl Iterator<Item = ScramKeys> {
        let words = self.scram.unwrap_or_default().split(' ');
        words.filter_map(ScramKeys::parse)
    }
}

/// The length of what yescrypt makes of a password, as it is written.
const YESCRYPT: usize = 43;

/// Whether a text was read from bytes that are not UTF-8: nobody knows what stood there.
fn is_garbled(text: &str) -> bool {
    text.contains(char::REPLACEMENT_CHARACTER)
}

/// Whether words are keys of SCRAM, all of them.
fn are_keys(words: &str) -> bool {
    words.split(' ').all(|word| ScramKeys::parse(word).is_some())
}

/// Whether a word has the form of a hash that can be checked.
fn is_hash(word: &str) -> bool {
    let known = [
        "$1$",
        "$5$",
        "$6$",
        "$y$",
        "$2a$",
        "$2b$",
        "$2x$",
        "$2y$",
        "$argon2i$",
        "$argon2d$",
        "$argon2id$",
    ];
    known.iter().any(|start| word.starts_with(start)) && word.len() > 30
}

/// Compares what a client has shown with what is stored; for SCRAM, hands the keys over.
pub fn validate(s: &Session, stored: Stored<'_>, with: &Credentials) -> Answer {
    let unusable = stored.unusable();
    let stored = Stored {
        clear: stored.clear.filter(|text| !text.is_empty() && !is_garbled(text)),
        crypt: stored.crypt.filter(|text| !text.is_empty()),
        scram: stored.scram.filter(|text| !text.is_empty()),
    };
    let log = |text: &str| s.log(Level::Info, format_args!("{text}"));
    if let (None, None, None, None) = (unusable, stored.clear, stored.crypt, stored.scram) {
        log("fail: missing password");
        return deny("no such user");
    }
    if let Some(hash) = ScramHash::of(with.mechanism) {
        let secret = &s.services().secret;
        let clear = stored
            .clear
            .map(|clear| ScramKeys::of_password(hash, &with.user, clear, secret));
        return match stored.keys().find(|keys| keys.hash == hash).or(clear) {
            Some(keys) => ok_keys(keys),
            None => {
                log("skip: no keys for scram");
                declined()
            }
        };
    }
    if with.mechanism == "cram-md5" && stored.clear.is_none() {
        log("skip: cram-md5 needs the password in clear");
        return declined();
    }
    if let Some(what) = with.password.as_deref().and_then(|attempt| compare(attempt, &stored)) {
        s.log(Level::Info, format_args!("pass: {what} match"));
        return ok();
    }
    if let (Some(digest), Some(clear)) = (&with.digest, stored.clear) {
        let Some(ticket) = &with.ticket else {
            log("skip: no ticket");
            return declined();
        };
        if same(digest.as_bytes(), hmac_md5(clear, ticket).as_bytes()) {
            log("pass: hash match");
            return ok();
        }
    }
    if let Some(why) = unusable {
        return unavailable(s, why);
    }
    log("fail: wrong password");
    deny("wrong password")
}

/// What of the stored things a password fits, if any.
pub(super) fn compare(attempt: &str, stored: &Stored<'_>) -> Option<&'static str> {
    #[cfg(test)]
    COMPARED.set(COMPARED.get() + 1);
    let fits = |clear: &str| same(clear.as_bytes(), attempt.as_bytes());
    if stored.clear.is_some_and(fits) {
        return Some("clear");
    }
    if stored.crypt.is_some_and(|hash| matches_hash(attempt, hash)) {
        return Some("crypt");
    }
    let keys = stored.keys().next();
    keys.is_some_and(|keys| keys.are_of(attempt)).then_some("scram")
}

#[cfg(test)]
thread_local! {
    static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many passwords this thread has compared.
#[cfg(test)]
pub fn compared() -> usize {
    COMPARED.get()
}

/// Compares in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn matches_hash(attempt: &str, hash: &str) -> bool {
    use sha_crypt::PasswordVerifier;
    let password = attempt.as_bytes();
    match hash.get(..3).unwrap_or_default() {
        "$2a" | "$2b" | "$2x" | "$2y" => bcrypt::verify(attempt, hash).unwrap_or(false),
        "$ar" => argon2::Argon2::default().verify_password(password, hash).is_ok(),
        "$1$" => {
            let salt = hash[3..].split('$').next().unwrap_or_default();
            salt.len() <= 8 && same(&md5crypt::md5crypt(password, salt.as_bytes()), hash.as_bytes())
        }
        // a hash that was cut off must not match by its beginning
        "$y$" if hash.rsplit('$').next().map(str::len) != Some(YESCRYPT) => false,
        "$y$" => yescrypt::Yescrypt::default().verify_password(password, hash).is_ok(),
        _ => sha_crypt::ShaCrypt::default().verify_password(password, hash).is_ok(),
    }
}

/// The digest of CRAM-MD5 (RFC 2195) in hexadecimal.
pub(super) fn hmac_md5(key: &str, text: &str) -> String {
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A form in which a password is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Keys of SCRAM-SHA-256.
    ScramSha256,
    /// Keys of SCRAM-SHA-1.
    ScramSha1,
    /// Argon2id.
    Argon2,
    /// yescrypt, `$y$`.
    Yescrypt,
    /// bcrypt, `$2b$`.
    Bcrypt,
    /// SHA-512 as crypt(3) has it, `$6$`.
    Sha512,
    /// The password itself.
    Clear,
}

impl Scheme {
    /// What to store of a password.
    ///
    /// # Errors
    /// The scheme cannot take it: bcrypt knows no more than 72 bytes; and in clear it must not look like a hash.
    pub fn store(self, password: &str) -> Result<String, String> {
        let bytes = password.as_bytes();
        let failed = |why: &dyn std::fmt::Display| format!("no hash could be made: {why}");
        use sha_crypt::PasswordHasher;
        match self {
            Scheme::ScramSha256 => {
                Ok(ScramKeys::made(ScramHash::Sha256, password, &random_bytes::<SALT>()).to_string())
            }
            Scheme::ScramSha1 => Ok(ScramKeys::made(ScramHash::Sha1, password, &random_bytes::<SALT>()).to_string()),
            Scheme::Argon2 => argon2::Argon2::default()
                .hash_password(bytes)
                .map(|hash| hash.to_string())
                .map_err(|why| failed(&why)),
            Scheme::Yescrypt => yescrypt::Yescrypt::default()
                .hash_password(bytes)
                .map(|hash| hash.to_string())
                .map_err(|why| failed(&why)),
            Scheme::Sha512 => sha_crypt::ShaCrypt::default()
                // no more than 16 characters of salt, as crypt(3) has it
                .hash_password_with_salt(bytes, &random_bytes::<12>())
                .map(|hash| hash.to_string())
                .map_err(|why| failed(&why)),
            Scheme::Bcrypt if bytes.len() > 72 => Err("bcrypt passes over what comes after 72 bytes".to_owned()),
            Scheme::Bcrypt => bcrypt::hash(password, BCRYPT).map_err(|why| failed(&why)),
            Scheme::Clear if Stored::of(password).clear.is_none() => {
                Err("a password that looks like a hash cannot be stored in clear".to_owned())
            }
            Scheme::Clear if password.trim() != password => {
                Err("a password with a blank at its end cannot be stored in clear".to_owned())
            }
            Scheme::Clear => Ok(password.to_owned()),
        }
    }
}

/// The cost of bcrypt.
const BCRYPT: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_checked() {
        for (scheme, start) in [
            (Scheme::ScramSha256, "SCRAM-SHA-256$10000:"),
            (Scheme::ScramSha1, "SCRAM-SHA-1$10000:"),
            (Scheme::Argon2, "$argon2id$"),
            (Scheme::Yescrypt, "$y$"),
            (Scheme::Sha512, "$6$"),
        ] {
            let word = scheme.store("geheim").expect("a word");
            assert!(
                word.starts_with(start) && word != scheme.store("geheim").expect("a word"),
                "{word}"
            );
            let stored = Stored::of(&word);
            assert!(stored.clear.is_none(), "{word}");
            let fits = |password: &str| {
                let keys = stored.keys().next().is_some_and(|keys| keys.are_of(password));
                keys || stored.crypt.is_some_and(|hash| matches_hash(password, hash))
            };
            assert!(fits("geheim") && !fits("Geheim"), "{word}");
        }
        assert_eq!(Scheme::Clear.store("a:b c").as_deref(), Ok("a:b c"));
        for bad in [" a", "a ", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8i"] {
            assert!(Scheme::Clear.store(bad).is_err(), "{bad}");
        }
        assert!(Scheme::Bcrypt.store(&"x".repeat(73)).is_err());
    }

    #[test]
    fn the_digest_is_that_of_the_rfc() {
        let ticket = "<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(hmac_md5("tanstaaftanstaaf", ticket), "b913a602c7eda7a495b4e6e7334d3890");
    }

    #[test]
    fn hashes_of_crypt_are_checked() {
        let sha512 =
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        assert!(matches_hash("Hello world!", sha512));
        assert!(!matches_hash("hello world!", sha512));
        let sha256 = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        assert!(matches_hash("Hello world!", sha256));
        let bcrypt = bcrypt::hash("geheim", 4).expect("a hash");
        assert!(matches_hash("geheim", &bcrypt));
        assert!(!matches_hash("Geheim", &bcrypt));
        // as openssl-passwd(1), mkpasswd(1) of libxcrypt and argon2(1) write them
        for hash in [
            "$1$saltsalt$wTLsTBb/.H7e4VHujepbF0",
            "$y$j9T$Zk8DpydofyOIfqvbJUPx81$YBITff20cLXu3coL.w0DQkL0OqwnUje0YX3xzg1CnJ5",
            "$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHRzYWx0$Y3CxijtySt8BMMrUhTUHkHIfR4Oef4vEYsti75PixTY",
            "$argon2i$v=19$m=1024,t=3,p=1$c29tZXNhbHRzYWx0$spb3eE/t5Em3IHVSO0TJYKjFTsYdil0tlIaODeESwOg",
        ] {
            assert!(is_hash(hash) && matches_hash("geheim", hash), "{hash}");
            assert!(!matches_hash("Geheim", hash) && !matches_hash("geheim", &hash[..hash.len() - 3]));
        }
        assert!(is_hash(sha512) && is_hash(&bcrypt) && !is_hash("$6$short") && !is_hash("secret"));
    }
}
