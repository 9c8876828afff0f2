//! The keys of SCRAM (RFC 5802, 7677): how they are stored, made of a password, and what a client's proof is checked
//! against.
//!
//! Of a user whom nobody knows there are keys as well, with a salt that is always the same and looks like those of the
//! users that there are, so that the exchange does not tell who is known: neither by what is said, nor by the time it
//! takes.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Rounds of PBKDF2 for keys that are made here; RFC 7677 asks for 4096 at least.
pub const ROUNDS: u32 = 10_000;
/// More rounds than anybody can want; a stored number above it is an error.
const MOST_ROUNDS: u32 = 10_000_000;
/// Octets of salt in keys that are made here.
pub const SALT: usize = 16;
/// The longest salt that is taken from a file, in octets.
const LONGEST_SALT: usize = 256;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// SCRAM-SHA-1.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
}

impl ScramHash {
    /// That of a mechanism, in lower case, with or without `-plus`.
    pub fn of(mechanism: &str) -> Option<ScramHash> {
        match mechanism.strip_suffix("-plus").unwrap_or(mechanism) {
            "scram-sha-1" => Some(ScramHash::Sha1),
            "scram-sha-256" => Some(ScramHash::Sha256),
            _ => None,
        }
    }

    /// As stored keys begin.
    pub fn name(self) -> &'static str {
        match self {
            ScramHash::Sha1 => "SCRAM-SHA-1",
            ScramHash::Sha256 => "SCRAM-SHA-256",
        }
    }

    /// The length of its keys, in octets.
    fn octets(self) -> usize {
        match self {
            ScramHash::Sha1 => 20,
            ScramHash::Sha256 => 32,
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            ScramHash::Sha1 => Sha1::digest(bytes).to_vec(),
            ScramHash::Sha256 => Sha256::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        match self {
            ScramHash::Sha1 => {
                Hmac::<Sha1>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
            }
            ScramHash::Sha256 => {
                Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
            }
        }
        .unwrap_or_default()
    }

    /// StoredKey and ServerKey of a password.
    fn derive(self, password: &str, salt: &[u8], rounds: u32) -> (Vec<u8>, Vec<u8>) {
        let mut salted = vec![0; self.octets()];
        match self {
            ScramHash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), salt, rounds, &mut salted),
            ScramHash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, rounds, &mut salted),
        }
        let stored = self.hash(&self.hmac(&salted, b"Client Key"));
        (stored, self.hmac(&salted, b"Server Key"))
    }
}

/// What a client's proof is checked against. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Of which mechanism.
    pub hash: ScramHash,
    /// Rounds of PBKDF2.
    pub rounds: u32,
    /// The salt.
    pub salt: Vec<u8>,
    of: Of,
}

#[derive(Clone, PartialEq, Eq)]
enum Of {
    /// StoredKey and ServerKey.
    Keys(Vec<u8>, Vec<u8>),
    /// The password itself, of which they are made when the proof is there.
    Password(String),
    /// A user whom nobody knows.
    Nobody,
}

/// What everybody sees of somebody's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScramLooks {
    /// Rounds of PBKDF2.
    pub rounds: u32,
    /// Octets of salt.
    pub salt: usize,
}

impl Default for ScramLooks {
    /// Of keys that are made here.
    fn default() -> ScramLooks {
        ScramLooks {
            rounds: ROUNDS,
            salt: SALT,
        }
    }
}

impl ScramKeys {
    /// Of a password that is known in clear. The salt is made of `secret` and the name, and so does not change.
    pub fn of_password(hash: ScramHash, user: &str, password: &str, secret: &[u8; 32]) -> ScramKeys {
        ScramKeys {
            of: Of::Password(prepared(password)),
            ..ScramKeys::of_nobody(hash, user, secret, &[])
        }
    }

    /// Of a user whom nobody knows: they look as those of one of the others do, always the same one, and no proof is
    /// right.
    pub fn of_nobody(hash: ScramHash, user: &str, secret: &[u8; 32], others: &[ScramLooks]) -> ScramKeys {
        let text = [hash.name().as_bytes(), b"\0", user.as_bytes()].concat();
        let octets = |part: u32| match part {
            0 => ScramHash::Sha256.hmac(secret, &text),
            part => ScramHash::Sha256.hmac(secret, &[&text[..], b"\0", &part.to_be_bytes()].concat()),
        };
        let choice = octets(u32::MAX)
            .iter()
            .take(8)
            .fold(0, |sum, octet| sum << 8 | u64::from(*octet));
        let choice = choice.checked_rem(others.len() as u64).unwrap_or(0) as usize;
        let looks = others.get(choice).copied().unwrap_or_default();
        let salt = (0..).flat_map(octets).take(looks.salt).collect();
        ScramKeys {
            hash,
            rounds: looks.rounds,
            salt,
            of: Of::Nobody,
        }
    }

    /// Whether they are of a user whom nobody knows.
    pub fn are_nobodys(&self) -> bool {
        self.of == Of::Nobody
    }

    /// What everybody sees of them.
    pub fn looks(&self) -> ScramLooks {
        ScramLooks {
            rounds: self.rounds,
            salt: self.salt.len(),
        }
    }

    /// The keys to store of a password.
    pub fn made(hash: ScramHash, password: &str, salt: &[u8]) -> ScramKeys {
        let (stored, server) = hash.derive(&prepared(password), salt, ROUNDS);
        ScramKeys {
            hash,
            rounds: ROUNDS,
            salt: salt.to_vec(),
            of: Of::Keys(stored, server),
        }
    }

    /// Reads stored keys: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey` (RFC 5803, as PostgreSQL has them) or
    /// `{SCRAM-SHA-256}4096,salt,StoredKey,ServerKey` (as Dovecot has them). None if it is neither.
    pub fn parse(word: &str) -> Option<ScramKeys> {
        let (name, rest, marks) = match word.strip_prefix('{') {
            Some(rest) => rest.split_once('}').map(|(name, rest)| (name, rest, [',', ',', ',']))?,
            None => word.split_once('$').map(|(name, rest)| (name, rest, [':', '$', ':']))?,
        };
        let hash = [ScramHash::Sha1, ScramHash::Sha256]
            .into_iter()
            .find(|hash| hash.name() == name)?;
        let (rounds, rest) = rest.split_once(marks[0])?;
        let (salt, rest) = rest.split_once(marks[1])?;
        let (stored, server) = rest.split_once(marks[2])?;
        let key = |text: &str| STANDARD.decode(text).ok().filter(|key| key.len() == hash.octets());
        let salt = STANDARD.decode(salt).ok();
        Some(ScramKeys {
            hash,
            rounds: rounds
                .parse()
                .ok()
                .filter(|rounds| (1..=MOST_ROUNDS).contains(rounds))?,
            salt: salt.filter(|salt| (1..=LONGEST_SALT).contains(&salt.len()))?,
            of: Of::Keys(key(stored)?, key(server)?),
        })
    }

    /// Whether they are those of a password.
    pub fn are_of(&self, password: &str) -> bool {
        let (stored, server) = self.keys();
        let (own, own_server) = self.hash.derive(&prepared(password), &self.salt, self.rounds);
        (stored.ct_eq(&own) & server.ct_eq(&own_server)).into() && self.of != Of::Nobody
    }

    /// Checks the proof that a client has the password: the server's signature, which proves that we have the keys.
    /// Takes as long for a user whom nobody knows as for one whose password is wrong.
    pub fn check(&self, exchange: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        let (stored, server) = self.keys();
        let signature = self.hash.hmac(&stored, exchange);
        let proves = proof.len() == signature.len() && {
            let key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
            self.hash.hash(&key).ct_eq(&stored).into()
        };
        if proves && self.of != Of::Nobody {
            return Some(self.hash.hmac(&server, exchange));
        }
        if matches!(self.of, Of::Keys(..)) {
            self.hash.derive("", &self.salt, self.rounds);
        }
        None
    }

    fn keys(&self) -> (Vec<u8>, Vec<u8>) {
        match &self.of {
            Of::Keys(stored, server) => (stored.clone(), server.clone()),
            Of::Password(password) => self.hash.derive(password, &self.salt, self.rounds),
            Of::Nobody => self.hash.derive("", &self.salt, self.rounds),
        }
    }
}

/// A password as SCRAM wants it: by SASLprep, or as it is where that forbids it (RFC 5802 2.2, 5.1).
fn prepared(password: &str) -> String {
    stringprep::saslprep(password).map_or_else(|_| password.to_owned(), std::borrow::Cow::into_owned)
}

/// Stored keys as they are written; those of a password in clear are not written.
impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, rounds) = (self.hash.name(), self.rounds);
        match &self.of {
            Of::Keys(stored, server) => {
                let [salt, stored, server] = [&self.salt, stored, server].map(|bytes| STANDARD.encode(bytes));
                write!(f, "{name}${rounds}:{salt}${stored}:{server}")
            }
            _ => f.write_str(name),
        }
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({})", self.hash.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn bytes(text: &str) -> Vec<u8> {
        STANDARD.decode(text).expect("base64")
    }

    /// The exchanges of RFC 5802 5 and RFC 7677 3, of user `user` with password `pencil`.
    const SHA1: (&str, &str, &str, &str) = (
        "QSXCR+Q6sek8bf92",
        "n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
        "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    );
    const SHA256: (&str, &str, &str, &str) = (
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    );

    #[test]
    fn proofs_are_those_of_the_rfcs() {
        for (hash, (salt, exchange, proof, signature)) in [(ScramHash::Sha1, SHA1), (ScramHash::Sha256, SHA256)] {
            let (stored, server) = hash.derive("pencil", &bytes(salt), 4096);
            let keys = ScramKeys {
                hash,
                rounds: 4096,
                salt: bytes(salt),
                of: Of::Keys(stored, server),
            };
            let clear = ScramKeys {
                of: Of::Password("pencil".into()),
                ..keys.clone()
            };
            let nobody = ScramKeys {
                of: Of::Nobody,
                ..keys.clone()
            };
            for keys in [&keys, &clear] {
                assert_eq!(keys.check(exchange.as_bytes(), &bytes(proof)), Some(bytes(signature)));
                assert_eq!(keys.check(b"another", &bytes(proof)), None);
                assert_eq!(keys.check(exchange.as_bytes(), &bytes(proof)[1..]), None);
                assert!(keys.are_of("pencil") && !keys.are_of("pencils") && !keys.are_of(""));
            }
            assert_eq!(nobody.check(exchange.as_bytes(), &bytes(proof)), None);
            assert!(!nobody.are_of("pencil") && !nobody.are_of(""));
            let read = ScramKeys::parse(&keys.to_string()).expect("keys");
            assert!(read == keys);
        }
    }

    #[test]
    fn stored_keys_are_read_in_both_forms() {
        // as PostgreSQL 16 and doveadm pw write them, both of the password `pencil`
        let both = [
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        ];
        for word in both {
            let keys = ScramKeys::parse(word).expect("keys");
            assert!(keys.are_of("pencil"), "{word}");
            assert_eq!(keys.to_string(), both[0]);
        }
        for bad in [
            "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$4096:$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d:wfPL",
            "SCRAM-SHA-512$4096:AA==$AA==:AA==",
            "{SCRAM-SHA-256",
            "pencil",
        ] {
            assert_eq!(ScramKeys::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn nobody_looks_like_somebody() {
        for hash in [ScramHash::Sha1, ScramHash::Sha256] {
            let known = ScramKeys::of_password(hash, "joe@example.com", "secret", &SECRET);
            let nobody = ScramKeys::of_nobody(hash, "jim@example.com", &SECRET, &[]);
            let again = ScramKeys::of_nobody(hash, "jim@example.com", &SECRET, &[]);
            assert_eq!(nobody.salt, again.salt);
            assert_ne!(nobody.salt, known.salt);
            assert_eq!((known.salt.len(), known.rounds), (nobody.salt.len(), nobody.rounds));
            let made = ScramKeys::made(hash, "secret", &[1; SALT]);
            assert_eq!((made.salt.len(), made.rounds), (nobody.salt.len(), nobody.rounds));
            assert_ne!(
                ScramKeys::of_nobody(hash, "jim@example.com", &[8; 32], &[]).salt,
                nobody.salt
            );
        }
    }

    #[test]
    fn nobody_looks_like_one_of_many() {
        let looks = |rounds, salt| ScramLooks { rounds, salt };
        let others = [looks(4096, 16), looks(4096, 16), looks(4096, 16), looks(20_000, 100)];
        let of = |number: usize| {
            let user = format!("user{number}@example.com");
            ScramKeys::of_nobody(ScramHash::Sha256, &user, &SECRET, &others)
        };
        let many: Vec<ScramKeys> = (0..400).map(of).collect();
        let long = many.iter().filter(|keys| keys.looks() == others[3]).count();
        assert!(
            (50..150).contains(&long),
            "{long} of 400, where one in four would be 100"
        );
        assert!(
            many.iter()
                .all(|keys| others.contains(&keys.looks()) && keys.are_nobodys())
        );
        assert!((0..400).all(|number| of(number).salt == many[number].salt));
        let salt = &many.iter().find(|keys| keys.rounds == 20_000).expect("one").salt;
        assert_ne!(salt[..32], salt[32..64], "it does not repeat itself");
    }

    #[test]
    fn passwords_are_prepared() {
        // SASLprep: a soft hyphen is nothing, a Roman numeral nine is IX (RFC 4013 3)
        let keys = ScramKeys::made(ScramHash::Sha256, "I\u{ad}X", &[1; SALT]);
        assert!(keys.are_of("IX") && keys.are_of("\u{2168}"));
        let odd = ScramKeys::made(ScramHash::Sha256, "a\u{7}", &[1; SALT]);
        assert!(odd.are_of("a\u{7}") && !odd.are_of("a"));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let clear = ScramKeys::of_password(ScramHash::Sha256, "joe", "secret", &SECRET);
        assert_eq!(format!("{clear:?} {clear}"), "ScramKeys(SCRAM-SHA-256) SCRAM-SHA-256");
    }
}
