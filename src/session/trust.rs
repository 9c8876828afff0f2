//! Whom to believe when a connection of ours is encrypted, and what is known of it afterwards.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{fmt, fs};

/// One TLSA record (RFC 6698).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 2: a CA of the chain; 3: the server's own. The others are of no use for mail (RFC 7672 3.1.3).
    pub usage: u8,
    /// 0: the whole certificate; 1: its public key.
    pub selector: u8,
    /// 0: the thing itself; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// What it must be.
    pub data: Vec<u8>,
}

/// Certificates of CAs, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Roots(pub Arc<str>);

/// Where systems keep the CAs that they trust, in one file.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Roots {
    /// Those of a file.
    ///
    /// # Errors
    /// It cannot be read or holds none.
    pub fn read(file: &Path) -> Result<Roots, String> {
        let text = fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?;
        match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(Roots(text.into())),
            false => Err(format!("{}: holds no certificate in PEM form", file.display())),
        }
    }

    /// Those that the system trusts.
    ///
    /// # Errors
    /// There is no such file.
    pub fn system() -> Result<Roots, String> {
        let file = SYSTEM_ROOTS.iter().map(Path::new).find(|file| file.is_file());
        file.map_or_else(|| Err("the system has no file of trusted CAs".to_owned()), Roots::read)
    }
}

/// By what the other side's certificate is believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// It is not looked at: who listens is kept out, who stands between is not.
    Anyone,
    /// One of these CAs vouches for the name.
    Roots(Roots),
    /// The SHA-256 of the certificate is one of these.
    Fingerprints(Vec<[u8; 32]>),
    /// A TLSA record that DNSSEC vouches for fits (RFC 7672).
    Dane(Vec<Tlsa>),
}

/// How a connection is to be encrypted. To be kept, and used for each connection of its kind: what is worked out at
/// the first one is kept with it.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Whom to believe.
    pub trust: Trust,
    /// The name of the other side: sent as SNI and looked for in its certificate.
    pub name: String,
    /// What [`Dial::encrypt`](super::remote::Dial::encrypt) has made of the above.
    pub made: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
}

impl ClientTls {
    /// With the other side's name.
    pub fn new(trust: Trust, name: impl Into<String>) -> ClientTls {
        ClientTls {
            trust,
            name: name.into(),
            made: Arc::default(),
        }
    }
}

/// Reads the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons.
///
/// # Errors
/// It is something else.
pub fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| Some(value(pair[0])? << 4 | value(*pair.get(1)?)?))
        .collect();
    let wrong = || format!("'{text}' is no SHA-256 of a certificate: 64 hexadecimal digits");
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}

/// Facts of a connection of ours that is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, by the name OpenSSL has for it.
    pub cipher: &'static str,
    /// SHA-256 of the other side's certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
}

impl fmt::Display for RemoteTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let hex = "ab".repeat(32);
        assert_eq!(fingerprint(&hex), Ok([0xab; 32]));
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(fingerprint(&colons), Ok([0xab; 32]));
        for bad in [
            "",
            "ab",
            &"ab".repeat(31),
            &"zz".repeat(32),
            &format!("{hex}a"),
            &format!("{hex}ab"),
        ] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn roots_are_certificates() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("ca.pem");
        assert!(Roots::read(&file).is_err());
        fs::write(&file, "no certificate").expect("written");
        assert!(Roots::read(&file).is_err_and(|why| why.ends_with("ca.pem: holds no certificate in PEM form")));
        fs::write(&file, "-----BEGIN CERTIFICATE-----\n").expect("written");
        assert!(Roots::read(&file).is_ok());
    }
}
