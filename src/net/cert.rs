//! A CA and a certificate for this server, for sites that have none: what `qpsmtpctl cert` makes (catalogue 9).
//!
//! The files have the names of the original's tls_cert, so that plugin tls finds them. There is no file of
//! Diffie-Hellman parameters any more, as nothing would read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::{Ia5String, PrintableString};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

const DAY: Duration = Duration::from_secs(86_400);
/// How long the CA is valid: six years, as the original's.
const CA_LIFE: Duration = DAY.saturating_mul(6 * 365);
/// How long the certificate is valid: two years.
const LIFE: Duration = DAY.saturating_mul(2 * 365);

/// The kind of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on the curve P-256: every client of today understands it.
    #[default]
    P256,
    /// ECDSA on the curve P-384.
    P384,
    /// RSA with 2048 bits, for very old clients.
    Rsa,
}

/// What the certificates say.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Country, two letters.
    pub country: String,
    /// State.
    pub state: String,
    /// Place.
    pub locality: String,
    /// Organization.
    pub organization: String,
    /// Unit of it.
    pub unit: String,
    /// The name of the host.
    pub host: String,
    /// Whom to write to; empty for postmaster at the host.
    pub email: String,
}

/// What to make.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The folder, made if it is missing.
    pub folder: PathBuf,
    /// What the certificates say.
    pub subject: Subject,
    /// More names of the host.
    pub names: Vec<String>,
    /// The kind of the keys.
    pub key: KeyKind,
    /// Whether files that are there may be replaced. The CA stays in any case: clients may know it.
    pub force: bool,
}

/// The files of an order.
struct Files {
    ca_key: PathBuf,
    ca: PathBuf,
    key: PathBuf,
    request: PathBuf,
    cert: PathBuf,
}

impl Files {
    fn of(folder: &Path) -> Files {
        Files {
            ca_key: folder.join("qpsmtpd-ca.key"),
            ca: folder.join("qpsmtpd-ca.crt"),
            key: folder.join("qpsmtpd-server.key"),
            request: folder.join("qpsmtpd-server.csr"),
            cert: folder.join("qpsmtpd-server.crt"),
        }
    }
}

/// Makes a certificate, and first a CA if there is none; gives the names of the files it has written.
///
/// # Errors
/// A file is there already or cannot be written, or a name is none.
pub fn make(order: &Order) -> Result<Vec<PathBuf>, String> {
    let files = Files::of(&order.folder);
    let about = |file: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    if !order.force
        && let Some(there) = [&files.key, &files.cert].into_iter().find(|file| file.exists())
    {
        return Err(about(there, &"is there already; --force makes a new one"));
    }
    fs::create_dir_all(&order.folder).map_err(|why| about(&order.folder, &why))?;
    let mut made = Vec::new();
    let mut write = |file: &Path, text: &str, mode: u32| {
        write(file, text, mode).map_err(|why| about(file, &why))?;
        made.push(file.to_owned());
        Ok::<(), String>(())
    };
    let (ca, ca_key) = match (files.ca.exists(), files.ca_key.exists()) {
        (true, true) => (read(&files.ca)?, read(&files.ca_key)?),
        (false, false) => {
            let (cert, key) = new_ca(order).map_err(|why| why.to_string())?;
            write(&files.ca_key, &key, 0o600)?;
            write(&files.ca, &cert, 0o644)?;
            (cert, key)
        }
        (true, false) => return Err(about(&files.ca_key, &"is missing, and its certificate is there")),
        (false, true) => return Err(about(&files.ca, &"is missing, and its key is there")),
    };
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|why| about(&files.ca_key, &why))?;
    let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).map_err(|why| about(&files.ca, &why))?;
    let new = new_cert(order, &issuer).map_err(|why| why.to_string())?;
    write(&files.key, &new.key, 0o600)?;
    write(&files.request, &new.request, 0o644)?;
    write(&files.cert, &new.cert, 0o644)?;
    Ok(made)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))
}

/// Puts a new file in place of an old one at once, so that nobody reads half of it.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let fresh = file.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&fresh, file)
}

fn new_key(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyKind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
}

fn named(subject: &Subject, host: &str) -> Result<DistinguishedName, rcgen::Error> {
    let mut name = DistinguishedName::new();
    if !subject.country.is_empty() {
        // RFC 5280, appendix A.1: no other kind of text
        let country = PrintableString::try_from(subject.country.as_str())?;
        name.push(DnType::CountryName, DnValue::PrintableString(country));
    }
    let parts = [
        (DnType::StateOrProvinceName, &subject.state),
        (DnType::LocalityName, &subject.locality),
        (DnType::OrganizationName, &subject.organization),
        (DnType::OrganizationalUnitName, &subject.unit),
    ];
    for (kind, text) in parts {
        if !text.is_empty() {
            name.push(kind, text.as_str());
        }
    }
    name.push(DnType::CommonName, host);
    let email = match subject.email.as_str() {
        "" => format!("postmaster@{}", subject.host),
        given => given.to_owned(),
    };
    // emailAddress of PKCS #9
    let kind = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    name.push(kind, DnValue::Ia5String(Ia5String::try_from(email)?));
    Ok(name)
}

fn params(name: DistinguishedName, life: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    // clocks of clients may be behind
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
    params
}

/// A CA: certificate and key.
fn new_ca(order: &Order) -> Result<(String, String), rcgen::Error> {
    let subject = &order.subject;
    let key = new_key(order.key)?;
    let mut params = params(named(subject, &format!("CA of {}", subject.host))?, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

struct New {
    key: String,
    request: String,
    cert: String,
}

fn new_cert(order: &Order, issuer: &Issuer<'_, KeyPair>) -> Result<New, rcgen::Error> {
    let subject = &order.subject;
    let key = new_key(order.key)?;
    let mut params = params(named(subject, &subject.host)?, LIFE);
    let names = std::iter::once(&subject.host).chain(&order.names);
    let names: Result<_, _> = names
        .map(|name| match name.parse() {
            Ok(ip) => Ok(SanType::IpAddress(ip)),
            Err(_) => Ia5String::try_from(name.as_str()).map(SanType::DnsName),
        })
        .collect();
    params.subject_alt_names = names?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if order.key == KeyKind::Rsa {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    // a server that hands mail on is a client
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let request = params.serialize_request(&key)?.pem()?;
    params.use_authority_key_identifier_extension = true;
    let cert = params.signed_by(&key, issuer)?;
    Ok(New {
        key: key.serialize_pem(),
        request,
        cert: cert.pem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::prelude::{FromDer, X509Certificate};

    fn order(folder: &Path) -> Order {
        Order {
            folder: folder.join("ssl"),
            subject: Subject {
                country: "XY".into(),
                organization: "QSMTPD".into(),
                host: "mail.example.com".into(),
                ..Subject::default()
            },
            names: vec!["mx.example.com".into(), "192.0.2.1".into()],
            ..Order::default()
        }
    }

    #[test]
    fn makes_what_the_plugin_looks_for() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let order = order(dir.path());
        let made = make(&order).expect("made");
        let names: Vec<_> = made.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        assert_eq!(
            names,
            [
                "qpsmtpd-ca.key",
                "qpsmtpd-ca.crt",
                "qpsmtpd-server.key",
                "qpsmtpd-server.csr",
                "qpsmtpd-server.crt"
            ]
        );
        for (file, mode) in made.iter().zip([0o600, 0o644, 0o600, 0o644, 0o644]) {
            let found = fs::metadata(file).expect("a file").permissions().mode() & 0o777;
            assert_eq!(found & !mode, 0, "{}", file.display());
        }
        let pem = fs::read(&made[4]).expect("read");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
        let (_, cert) = X509Certificate::from_der(&pem.contents).expect("a certificate");
        assert_eq!(
            cert.subject().to_string(),
            "C=XY, O=QSMTPD, CN=mail.example.com, Email=postmaster@mail.example.com"
        );
        assert!(cert.issuer().to_string().contains("CN=CA of mail.example.com"));
        let alternatives = cert.subject_alternative_name().expect("sound").expect("some");
        assert_eq!(alternatives.value.general_names.len(), 3);
    }

    #[test]
    fn the_ca_stays_and_nothing_is_replaced_by_accident() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let mut order = order(dir.path());
        make(&order).expect("made");
        let ca = fs::read(order.folder.join("qpsmtpd-ca.crt")).expect("a CA");
        assert!(make(&order).is_err_and(|why| why.contains("--force")));
        order.force = true;
        assert_eq!(make(&order).map(|made| made.len()), Ok(3));
        assert_eq!(fs::read(order.folder.join("qpsmtpd-ca.crt")).expect("a CA"), ca);
        fs::remove_file(order.folder.join("qpsmtpd-ca.key")).expect("removed");
        assert!(make(&order).is_err_and(|why| why.contains("qpsmtpd-ca.key: is missing")));
    }

    #[test]
    fn keys_of_each_kind_are_made() {
        for key in [KeyKind::P384, KeyKind::Rsa] {
            let dir = tempfile::TempDir::new().expect("a folder");
            let order = Order {
                key,
                ..order(dir.path())
            };
            assert!(make(&order).is_ok(), "{key:?}");
        }
        let dir = tempfile::TempDir::new().expect("a folder");
        let mut wrong = order(dir.path());
        wrong.names.push("mäil.example.com".into());
        assert!(make(&wrong).is_err());
    }
}
