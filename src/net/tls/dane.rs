//! DANE for mail servers (RFC 7672): a certificate is believed when a TLSA record fits it.
//!
//! The records must come from an answer that DNSSEC vouches for; who asks sees to that.

use std::sync::Arc;

use rustls::Error;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha512};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client::{distrust, webpki};
use crate::session::trust::Tlsa;

/// Those that mean something for mail: of a CA in the chain (2) or of the server itself (3), RFC 7672 3.1.
pub(super) fn usable(records: &[Tlsa]) -> Vec<Tlsa> {
    let sound = |record: &&Tlsa| {
        let length = match record.matching {
            0 => !record.data.is_empty(),
            1 => record.data.len() == 32,
            2 => record.data.len() == 64,
            _ => false,
        };
        matches!(record.usage, 2 | 3) && record.selector <= 1 && length
    };
    records.iter().filter(sound).cloned().collect()
}

fn fits(record: &Tlsa, cert: &CertificateDer<'_>) -> bool {
    let key;
    let thing: &[u8] = match record.selector {
        0 => cert,
        _ => match X509Certificate::from_der(cert) {
            Ok((_, parsed)) => {
                key = parsed.public_key().raw.to_vec();
                &key
            }
            Err(_) => return false,
        },
    };
    match record.matching {
        0 => thing == record.data,
        1 => Sha256::digest(thing)[..] == record.data,
        _ => Sha512::digest(thing)[..] == record.data,
    }
}

/// Whether one of the records, which are usable, fits. Without any, the certificate says nothing: the connection is
/// encrypted all the same (RFC 7672 2.2).
pub(super) fn verify(
    records: &[Tlsa],
    provider: &Arc<CryptoProvider>,
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Result<(), Error> {
    let mut why = distrust("no TLSA record fits it");
    if records.is_empty() {
        return Ok(());
    }
    // of the server's own neither name nor dates matter (RFC 7672 3.1.1)
    if records.iter().any(|record| record.usage == 3 && fits(record, own)) {
        return Ok(());
    }
    for record in records.iter().filter(|record| record.usage == 2) {
        let Some(ca) = ca(record, others) else { continue };
        let checked = webpki([ca], provider).map_err(distrust);
        match checked.and_then(|webpki| webpki.verify_server_cert(own, others, name, &[], UnixTime::now())) {
            Ok(_) => return Ok(()),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// The CA that a record names: in the chain, or in the record itself.
fn ca(record: &Tlsa, others: &[CertificateDer<'_>]) -> Option<CertificateDer<'static>> {
    let found = others.iter().find(|cert| fits(record, cert));
    let whole = record.selector == 0 && record.matching == 0;
    match found {
        Some(ca) => Some(ca.clone().into_owned()),
        None if whole => Some(record.data.clone().into()),
        None => None,
    }
}
