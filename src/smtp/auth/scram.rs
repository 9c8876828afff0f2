//! The server's side of SCRAM (RFC 5802, 7677): what is said, and what it means. Who says it is of no concern here.
//!
//! The crate rsasl has this too, and is not used: for a user whom nobody knows it makes up another salt each time, which
//! tells that there is no such user; it drops the name of the one acted for and leaves `=2C` in names; and its
//! cryptography is one generation older than that of all else here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::plugin::ScramKeys;

/// The channel binding of RFC 9266.
const EXPORTER: &str = "tls-exporter";
/// The longest nonce that a client may bring, in octets.
const LONGEST_NONCE: usize = 256;

/// What a client says of channel binding.
#[derive(Debug, PartialEq, Eq)]
enum Binding<'a> {
    /// `n`: it cannot do it.
    Unable,
    /// `y`: it could, and thinks that this server cannot.
    Unused,
    /// `p`: it does it, by this name.
    Used(&'a str),
}

/// The first message of a client.
#[derive(Debug)]
pub(super) struct First<'a> {
    /// What stands before `bare`.
    header: &'a str,
    bare: &'a str,
    binding: Binding<'a>,
    nonce: &'a str,
    /// Whom the client wants to act for; empty for itself.
    pub(super) acting_for: String,
    /// The user.
    pub(super) user: String,
}

impl<'a> First<'a> {
    /// Reads it; none if it is malformed, or has an extension that must not be passed over.
    pub(super) fn parse(text: &'a str) -> Option<First<'a>> {
        let (flag, rest) = text.split_once(',')?;
        let (acting_for, bare) = rest.split_once(',')?;
        let binding = match flag.split_once('=') {
            None if flag == "n" => Binding::Unable,
            None if flag == "y" => Binding::Unused,
            Some(("p", name)) if !name.is_empty() => Binding::Used(name),
            _ => return None,
        };
        let mut parts = bare.split(',');
        let user = name(parts.next()?.strip_prefix("n=")?)?;
        let nonce = parts.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
        Some(First {
            header: &text[..text.len() - bare.len()],
            bare,
            binding,
            nonce,
            acting_for: match acting_for {
                "" => String::new(),
                given => name(given.strip_prefix("a=")?)?,
            },
            user: Some(user).filter(|user| !user.is_empty())?,
        })
    }

    /// What the client must prove to be bound to: the binding of a mechanism with `-PLUS`, else nothing. `offered`
    /// tells whether such a mechanism was offered.
    ///
    /// # Errors
    /// Why the client must not be let in.
    pub(super) fn bound<'b>(&self, plus: Option<&'b [u8]>, offered: bool) -> Result<&'b [u8], &'static str> {
        match (&self.binding, plus) {
            (Binding::Used(EXPORTER), Some(bytes)) => Ok(bytes),
            (Binding::Used(_), Some(_)) => Err("unsupported channel binding, tls-exporter is wanted"),
            (Binding::Used(_), None) => Err("channel binding needs a mechanism with -PLUS"),
            (_, Some(_)) => Err("a mechanism with -PLUS needs channel binding"),
            // somebody in between has taken -PLUS out of our offer (RFC 5802 6)
            (Binding::Unused, None) if offered => Err("downgrade, the client has not been shown -PLUS"),
            (_, None) => Ok(&[]),
        }
    }
}

/// Printable ASCII without the comma, which is what separates the parts.
fn is_nonce(text: &str) -> bool {
    (1..=LONGEST_NONCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name in which `=2C` is a comma and `=3D` an equals sign.
pub(super) fn name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        match part.get(..2)? {
            "2C" => name.push(','),
            "3D" => name.push('='),
            _ => return None,
        }
        name.push_str(&part[2..]);
    }
    Some(name)
}

/// An exchange after its first half.
pub(super) struct Exchange {
    /// `c=` of the client's last message.
    bound: String,
    nonce: String,
    /// What both have said so far.
    said: String,
    /// The first message of the server.
    pub(super) prompt: String,
}

/// The last message of the client is malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Exchange {
    /// Answers the client's first message with these keys; `own` is our part of the nonce.
    pub(super) fn new(first: &First<'_>, bound: &[u8], keys: &ScramKeys, own: &str) -> Exchange {
        let nonce = format!("{}{own}", first.nonce);
        let prompt = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.rounds);
        Exchange {
            bound: STANDARD.encode([first.header.as_bytes(), bound].concat()),
            said: format!("{},{prompt}", first.bare),
            nonce,
            prompt,
        }
    }

    /// Checks the client's last message: the server's last one, or none if the client has not proved what it should.
    ///
    /// # Errors
    /// It is malformed.
    pub(super) fn finish(&self, last: &str, keys: &ScramKeys) -> Result<Option<String>, Malformed> {
        let (unproved, proof) = last.rsplit_once(",p=").ok_or(Malformed)?;
        let proof = STANDARD.decode(proof).map_err(|_| Malformed)?;
        let mut parts = unproved.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(Malformed);
        let same = part("c=")? == self.bound && part("r=")? == self.nonce;
        let signature = keys.check(format!("{},{unproved}", self.said).as_bytes(), &proof);
        Ok(signature
            .filter(|_| same)
            .map(|signature| format!("v={}", STANDARD.encode(signature))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::ScramHash;

    /// Of `pencil`, as in the examples of RFC 5802 and RFC 7677.
    fn keys() -> ScramKeys {
        ScramKeys::parse(
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        )
        .expect("keys")
    }

    const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn example() -> Exchange {
        let first = First::parse("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").expect("a first message");
        let bound = first.bound(None, true).expect("no binding");
        Exchange::new(&first, bound, &keys(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    }

    #[test]
    fn the_example_of_the_rfc() {
        let exchange = example();
        assert_eq!(
            exchange.prompt,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = format!("c=biws,r={},p={PROOF}", exchange.nonce);
        let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned();
        assert_eq!(exchange.finish(&last, &keys()), Ok(Some(signature)));
        let nobody = ScramKeys::of_nobody(ScramHash::Sha256, "user", &[0; 32], &[]);
        assert_eq!(exchange.finish(&last, &nobody), Ok(None));
    }

    #[test]
    fn what_is_not_proved() {
        let exchange = example();
        let nonce = &exchange.nonce;
        for last in [
            format!("c=eSws,r={nonce},p={PROOF}"),
            format!("c=biws,r={nonce}x,p={PROOF}"),
            format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={PROOF}"),
            format!("c=biws,r={nonce},x=y,p={PROOF}"),
            format!("c=biws,r={nonce},p="),
            format!("c=biws,r={nonce},p=AAAA"),
        ] {
            assert_eq!(exchange.finish(&last, &keys()), Ok(None), "{last}");
        }
        for last in [
            "",
            "c=biws",
            "p=AAAA",
            &format!("c=biws,r={nonce}"),
            &format!("r={nonce},c=biws,p={PROOF}"),
            &format!("c=biws,r={nonce},p=!!"),
        ] {
            assert_eq!(exchange.finish(last, &keys()), Err(Malformed), "{last}");
        }
    }

    #[test]
    fn first_messages() {
        let first = First::parse("p=tls-exporter,a=a=2Cb,n=c=3Dd@example.com,r=x%y,ext=1").expect("a first message");
        assert_eq!(first.header, "p=tls-exporter,a=a=2Cb,");
        assert_eq!(
            (&*first.acting_for, &*first.user, first.nonce),
            ("a,b", "c=d@example.com", "x%y")
        );
        for bad in [
            "",
            "n",
            "n,,",
            "n,,n=user",
            "n,,n=,r=x",
            "n,,n=user,r=",
            "n,,n=us=2Der,r=x",
            "n,,n=user=,r=x",
            "n,,m=ext,n=user,r=x",
            "n,b=x,n=user,r=x",
            "p,,n=user,r=x",
            "p=,,n=user,r=x",
            "x,,n=user,r=x",
            "n,,n=user,r=a b",
            "n,,r=x,n=user",
        ] {
            assert!(First::parse(bad).is_none(), "{bad}");
        }
        assert!(First::parse(&format!("n,,n=user,r={}", "x".repeat(257))).is_none());
    }

    #[test]
    fn channel_binding_is_neither_dropped_nor_invented() {
        let bound = |flag: &str, plus: Option<&'static [u8]>, offered| {
            let text = format!("{flag},,n=user,r=x");
            First::parse(&text).expect("a first message").bound(plus, offered)
        };
        assert_eq!(bound("p=tls-exporter", Some(b"abc"), true), Ok(&b"abc"[..]));
        assert_eq!(bound("n", None, true), Ok(&b""[..]));
        assert_eq!(bound("y", None, false), Ok(&b""[..]));
        for (flag, plus) in [
            ("y", None),
            ("p=tls-exporter", None),
            ("p=tls-unique", Some(&b"abc"[..])),
            ("n", Some(b"abc")),
            ("y", Some(b"abc")),
        ] {
            assert!(bound(flag, plus, true).is_err(), "{flag}");
        }
        let exchange = |bytes: &[u8]| {
            let first = First::parse("p=tls-exporter,,n=user,r=x").expect("a first message");
            Exchange::new(&first, bytes, &keys(), "y").bound
        };
        assert_ne!(exchange(b"one connection"), exchange(b"another one"));
    }
}
