//! Checking a password of somebody who is not in the store, so that the time of a refusal does not tell who is.
//!
//! The password is compared with a word that belongs to another user, the one whose check costs most, and what comes
//! of that is thrown away. A refusal of somebody whose own word is cheap to check is drawn out in the same way. A login
//! that succeeds is not: then there is nothing to hide.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::password::{Stored, compare, validate};
use super::scram::ScramKeys;
use super::{Answer, Credentials};
use crate::log::Level;
use crate::session::{Session, Verdict};

/// How often md5crypt repeats itself.
const MD5_ROUNDS: u64 = 1000;
/// How often SHA-crypt repeats itself unless the hash says otherwise.
const SHA_ROUNDS: u64 = 5000;
/// What vpopmail makes of a password: a hash of none that anybody has.
const LIKELY: &str =
    "$6$vJRxTkbQ9Cq2$fTLwTqcbcmFDcWHnmq8qm0xBRZjE5Nc4ZPVQmpoFqVKmU5Yv2kXTMRBlnkWTqPZ9Vx0yHc2PLcTt3rQF6Jv2J/";

/// The word that is compared with the passwords of those who are not known.
pub struct Decoy(Mutex<String>);

impl Default for Decoy {
    /// For a store that shows one user at a time: as long as none has been seen, a likely word.
    fn default() -> Self {
        Self(Mutex::new(LIKELY.to_owned()))
    }
}

impl fmt::Debug for Decoy {
    /// Without the word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoy(about {} us)", cost(&self.word()))
    }
}

impl Decoy {
    /// For a store that shows all its words before it is asked. Without users, or with passwords in clear alone, it
    /// needs no time.
    pub fn none() -> Self {
        Self(Mutex::new(String::new()))
    }

    fn word(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a word of the store if its check costs more than that of the one before.
    pub fn consider(&self, word: &str) {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cost(word) > cost(&own) {
            word.clone_into(&mut own);
        }
    }

    /// Keeps the word that was seen last.
    fn follow(&self, word: &str) {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *own != word {
            word.clone_into(&mut own);
        }
    }

    /// Takes as long as the check of a password does; nothing if one has been checked already that cost as much.
    fn spend(&self, s: &Session, with: &Credentials, spent: u64) {
        let word = self.word();
        let Some(attempt) = with.password.as_deref().filter(|_| cost(&word) / 2 > spent) else {
            return;
        };
        let _ = std::hint::black_box(compare(attempt, &Stored::of(&word)));
        s.log(Level::Debug, format_args!("a password was compared with the decoy"));
    }
}

/// What a store knows of a user.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// What is stored; the store holds all its words in memory and has shown them to the decoy.
    Word(&'a str),
    /// What is stored; the store shows one user at a time, and the next unknown one is to look like this one.
    Row(Stored<'a>),
    /// The user is not there; this is the answer then.
    Nobody(fn() -> Answer),
}

/// As [`validate`], in a time that does not tell whether the user is known.
pub fn validate_evenly(s: &Session, known: Known<'_>, with: &Credentials, decoy: &Decoy) -> Answer {
    let (answer, spent) = match known {
        Known::Word(word) => (validate(s, Stored::of(word), with), cost(word)),
        Known::Row(stored) => {
            let word = stored.crypt.or(stored.scram).unwrap_or_default();
            if !word.is_empty() {
                decoy.follow(word);
            }
            (validate(s, stored, with), cost(word))
        }
        Known::Nobody(answer) => (answer(), 0),
    };
    if !matches!(&answer, Ok(decision) if decision.verdict == Verdict::Ok) {
        decoy.spend(s, with, spent);
    }
    answer
}

/// About how many microseconds the check of a password takes; 0 for a word that stands there in clear.
fn cost(word: &str) -> u64 {
    let stored = Stored::of(word);
    if let Some(scram) = stored.scram {
        let first = scram.split(' ').next().and_then(ScramKeys::parse);
        return first.map_or(0, |keys| u64::from(keys.rounds) / 3);
    }
    let Some(hash) = stored.crypt else {
        return 0;
    };
    let mut parts = hash.split('$').skip(1);
    let (kind, settings) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = |text: &str| text.parse::<u64>().ok();
    let cost = match kind {
        "1" => Some(MD5_ROUNDS / 3),
        "5" | "6" => Some(settings.strip_prefix("rounds=").and_then(number).unwrap_or(SHA_ROUNDS) / 2),
        "y" => yescrypt_kib(settings).map(|kib| kib.saturating_mul(2)),
        argon2 if argon2.starts_with("argon2") => {
            let settings = if settings.starts_with("v=") {
                parts.next().unwrap_or_default()
            } else {
                settings
            };
            let value = |name| settings.split(',').find_map(|part| number(part.strip_prefix(name)?));
            value("m=")
                .zip(value("t="))
                .map(|(kib, times)| kib.saturating_mul(times))
        }
        // bcrypt: twice as much with every step
        _ => number(settings).map(|steps| 50u64.saturating_mul(1 << steps.min(40))),
    };
    cost.unwrap_or(0)
}

/// How much memory yescrypt goes through with these settings, in KiB: of `j9T` the second letter stands for how often
/// it is doubled, the third for how much is taken at a time.
fn yescrypt_kib(settings: &str) -> Option<u64> {
    let digit = |byte: &u8| {
        let digits = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        digits.iter().position(|one| one == byte)
    };
    let [_, doubled, blocks, ..] = settings.as_bytes() else {
        return None;
    };
    let (doubled, blocks) = (digit(doubled)? + 1, digit(blocks)? + 1);
    Some((128 * blocks as u64).saturating_mul(1 << doubled.min(40)) / 1024)
}

#[cfg(test)]
mod tests {
    use super::super::password::{Scheme, compared};
    use super::*;
    use crate::config::Lookup;
    use crate::plugin::{Chain, Kit, declined, deny};

    fn kit() -> Kit {
        Kit::with(Chain::new(Vec::new()), Lookup::in_memory())
    }

    #[test]
    fn what_costs_more_is_known() {
        let cheap_first = [
            "geheim",
            "$1$saltsalt$wTLsTBb/.H7e4VHujepbF0",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "$argon2i$v=19$m=1024,t=3,p=1$c29tZXNhbHRzYWx0$spb3eE/t5Em3IHVSO0TJYKjFTsYdil0tlIaODeESwOg",
            "$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHRzYWx0$Y3CxijtySt8BMMrUhTUHkHIfR4Oef4vEYsti75PixTY",
            "$y$j9T$Zk8DpydofyOIfqvbJUPx81$YBITff20cLXu3coL.w0DQkL0OqwnUje0YX3xzg1CnJ5",
            "$6$rounds=100000$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS",
            "$2b$12$abcdefghijklmnopqrstuuxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ];
        let decoy = Decoy::none();
        for word in cheap_first {
            decoy.consider(word);
            assert_eq!(decoy.word(), if cost(word) == 0 { "" } else { word });
        }
        decoy.consider(cheap_first[1]);
        assert_eq!(decoy.word(), cheap_first[7]);
        assert_eq!(yescrypt_kib("j9T"), Some(16 * 1024));
        let keys = Scheme::ScramSha256.store("x").expect("keys");
        assert!(cost(&keys) > cost(cheap_first[1]) && cost(&keys) < cost(cheap_first[7]));
        // damaged ones are checked in no time
        for bad in [
            "$y$$0123456789012345678901234567890",
            "$2b$x$0123456789012345678901234567890",
        ] {
            assert_eq!(cost(bad), 0, "{bad}");
        }
        assert!(!format!("{decoy:?}").contains("abcdef") && cost(LIKELY) > 0);
    }

    /// How many passwords are compared for this user, and what comes of it.
    fn tries(t: &Kit, known: Known<'_>, password: &str, decoy: &Decoy) -> (usize, Verdict) {
        let before = compared();
        let with = Credentials::password("plain", "joe@example.com", password);
        let answer = validate_evenly(&t.s, known, &with, decoy).expect("an answer");
        (compared() - before, answer.verdict)
    }

    #[test]
    fn nobody_costs_a_comparison_and_is_never_let_in() {
        let t = kit();
        let hash = Scheme::Sha512.store("geheim").expect("a hash");
        let decoy = Decoy::none();
        assert_eq!(tries(&t, Known::Nobody(declined), "x", &decoy), (0, Verdict::Declined));
        decoy.consider(&hash);
        // not even with the password of the one whose word it is
        assert_eq!(
            tries(&t, Known::Nobody(declined), "geheim", &decoy),
            (1, Verdict::Declined)
        );
        assert_eq!(
            tries(&t, Known::Nobody(|| deny("")), "geheim", &decoy),
            (1, Verdict::Deny)
        );
        // one comparison has been made already
        assert_eq!(tries(&t, Known::Word(&hash), "x", &decoy), (1, Verdict::Deny));
        assert_eq!(tries(&t, Known::Word(&hash), "geheim", &decoy), (1, Verdict::Ok));
        // one in clear, too, which costs nothing by itself
        assert_eq!(tries(&t, Known::Word("clear"), "x", &decoy), (2, Verdict::Deny));
        assert_eq!(tries(&t, Known::Word("clear"), "geheim", &decoy), (2, Verdict::Deny));
        assert_eq!(tries(&t, Known::Word("clear"), "clear", &decoy), (1, Verdict::Ok));
        let before = compared();
        let cram = Credentials::digest("joe@example.com", "<1@x>", "00");
        let answer = validate_evenly(&t.s, Known::Nobody(declined), &cram, &decoy);
        assert_eq!(
            (answer.expect("an answer").verdict, compared() - before),
            (Verdict::Declined, 0)
        );
    }

    #[test]
    fn a_hash_that_nobody_here_knows_is_no_wrong_password() {
        let t = kit();
        for hash in [
            "abNANd1rDfiNc",
            "$1$cut",
            "$7$unknown$salt$0123456789012345678901234567890",
        ] {
            let row = |clear| {
                Known::Row(Stored {
                    clear,
                    crypt: Some(hash),
                    scram: None,
                })
            };
            let with = Credentials::password("plain", "joe@example.com", "geheim");
            let answer = validate_evenly(&t.s, row(None), &with, &Decoy::none()).expect("an answer");
            assert!(answer.failed && answer.verdict == Verdict::Declined, "{hash}");
            let answer = validate_evenly(&t.s, row(Some("geheim")), &with, &Decoy::none()).expect("an answer");
            assert_eq!(answer.verdict, Verdict::Ok, "{hash}");
        }
    }

    #[test]
    fn a_store_that_shows_one_user_at_a_time_is_followed() {
        let t = kit();
        let decoy = Decoy::default();
        assert_eq!(tries(&t, Known::Nobody(declined), "x", &decoy), (1, Verdict::Declined));
        let hash = "$1$saltsalt$wTLsTBb/.H7e4VHujepbF0";
        let row = Stored {
            crypt: Some(hash),
            ..Stored::default()
        };
        assert_eq!(tries(&t, Known::Row(row), "geheim", &decoy), (1, Verdict::Ok));
        assert_eq!(decoy.word(), hash);
        assert_eq!(
            tries(&t, Known::Nobody(declined), "geheim", &decoy),
            (1, Verdict::Declined)
        );
        assert_eq!(
            tries(&t, Known::Row(Stored::default()), "x", &decoy),
            (1, Verdict::Deny)
        );
        assert_eq!(decoy.word(), hash);
    }
}
