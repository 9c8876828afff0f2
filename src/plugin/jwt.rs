//! JSON web tokens (RFC 7519): the keys of an issuer, and whether a token is one of its (RFC 8725).

use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

/// The longest token that is looked at, in octets.
const LONGEST: usize = 16 * 1024;

/// The public keys of an issuer: a JWK set (RFC 7517 5).
pub struct Jwks(Vec<Key>);

struct Key {
    id: Option<String>,
    /// The algorithms that a token may be signed by with it.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// What a token must say to be good for us.
#[derive(Clone, Debug, Default)]
pub struct JwtRules {
    /// Who may have issued it.
    pub issuers: Vec<String>,
    /// For whom it may be.
    pub audiences: Vec<String>,
    /// By how much clocks may differ, in seconds.
    pub leeway: u64,
}

/// What a good token says.
#[derive(Clone, Debug)]
pub struct Claims(Map<String, Value>);

/// Why a token is not good; holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadToken(&'static str);

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Jwks {
    /// Reads a JWK set. Keys that are secrets, for encryption, or of an unknown kind are left out.
    ///
    /// # Errors
    /// It is none, or no key is left.
    pub fn read(text: &str) -> Result<Jwks, String> {
        let set: JwkSet = serde_json::from_str(text).map_err(|why| format!("no JWK set: {why}"))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::read).collect();
        match keys.is_empty() {
            true => Err("no key of RSA, EC or Ed25519 for signatures".to_owned()),
            false => Ok(Jwks(keys)),
        }
    }

    /// Checks the signature, the times, the issuer and the audience of a token.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn check(&self, token: &str, rules: &JwtRules) -> Result<Claims, BadToken> {
        if token.len() > LONGEST {
            return Err(BadToken("the token is too long"));
        }
        let header = decode_header(token).map_err(|_| BadToken("no token of a kind that is taken here"))?;
        if header.crit.is_some() {
            return Err(BadToken("the token asks for what is not known here"));
        }
        let fits = |key: &&Key| {
            let named = header.kid.is_none() || key.id.is_none() || header.kid == key.id;
            named && key.algorithms.contains(&header.alg)
        };
        let mut why = BadToken("no key for the token");
        for key in self.0.iter().filter(fits) {
            let mut validation = Validation::new(header.alg);
            validation.leeway = rules.leeway;
            validation.validate_nbf = true;
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
            validation.set_issuer(&rules.issuers);
            validation.set_audience(&rules.audiences);
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(good) => return Ok(Claims(good.claims)),
                Err(error) => why = BadToken(words(error.kind())),
            }
        }
        Err(why)
    }
}

impl Key {
    fn read(jwk: &Jwk) -> Option<Key> {
        if jwk
            .common
            .public_key_use
            .as_ref()
            .is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
        {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let mut algorithms = match key.family() {
            AlgorithmFamily::Rsa => vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmFamily::Ec => vec![Algorithm::ES256, Algorithm::ES384],
            AlgorithmFamily::Ed => vec![Algorithm::EdDSA],
            // whoever can check such a signature can make it
            _ => return None,
        };
        if let Some(named) = &jwk.common.key_algorithm {
            algorithms.retain(|algorithm| named_alike(*named, *algorithm));
        }
        let id = jwk.common.key_id.clone();
        (!algorithms.is_empty()).then_some(Key { id, algorithms, key })
    }
}

fn named_alike(named: KeyAlgorithm, algorithm: Algorithm) -> bool {
    named.to_string() == format!("{algorithm:?}")
}

fn words(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks expiry, issuer or audience",
        ErrorKind::InvalidSignature => "the signature of the token is wrong",
        _ => "malformed token",
    }
}

impl Claims {
    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Whether a claim is there and says false, as a flag or a text.
    pub fn denies(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|value| *value == Value::Bool(false) || value.as_str() == Some("false"))
    }

    /// The words of a claim: of a text, or a list of texts.
    pub fn words(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

/// A JSON object of texts.
pub fn json_object(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Value::from(*text)));
    Value::Object(pairs.collect()).to_string()
}
