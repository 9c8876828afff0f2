//! What becomes of clients' certificates.
//!
//! Where one is only requested, any will do for the handshake: its owner has proved to have the key, and whether a CA
//! vouches for it is a fact for plugins, who may also know it by its fingerprint.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::keys::names;
use crate::session::ClientCertificate;
use crate::session::tls::Ask;

/// The most characters of a subject or a name that are kept.
const LONGEST: usize = 256;
/// The most names that are kept.
const MOST: usize = 16;

/// How to deal with clients' certificates.
pub(super) struct Clients {
    provider: Arc<CryptoProvider>,
    /// Vouches for certificates; none without CAs.
    strict: Option<Arc<dyn ClientCertVerifier>>,
}

impl Clients {
    pub(super) fn new(cas: &[CertificateDer<'static>], provider: Arc<CryptoProvider>) -> Clients {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(cas.iter().cloned());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        Clients {
            strict: builder.build().ok(),
            provider,
        }
    }

    /// Who checks the certificates of clients that are asked so; none if they are not asked.
    pub(super) fn verifier(&self, ask: Ask) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        match (ask, &self.strict) {
            (Ask::No, _) => Ok(None),
            (Ask::Request, strict) => Ok(Some(Arc::new(Any {
                algorithms: self.provider.signature_verification_algorithms,
                hints: strict
                    .as_ref()
                    .map_or(Vec::new(), |strict| strict.root_hint_subjects().to_vec()),
            }))),
            (Ask::Require, Some(strict)) => Ok(Some(strict.clone())),
            (Ask::Require, None) => {
                Err("no CA to check the certificates by that clients are required to have".to_owned())
            }
        }
    }

    /// What a client's certificate says.
    pub(super) fn facts(&self, chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
        let (own, others) = chain.split_first()?;
        let (_, cert) = X509Certificate::from_der(own).ok()?;
        let verified = self.strict.as_ref().is_some_and(|strict| {
            let checked = strict.verify_client_cert(own, others, UnixTime::now());
            checked.is_ok()
        });
        Some(ClientCertificate {
            subject: harmless(&cert.subject().to_string()),
            names: names(&cert).iter().take(MOST).map(|name| harmless(name)).collect(),
            fingerprint: fingerprint(own),
            verified,
        })
    }
}

/// Client data, without controls and of bounded length.
fn harmless(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { '?' } else { c });
    plain.take(LONGEST).collect()
}

/// SHA-256 in the form of `openssl x509 -fingerprint -sha256`.
pub(super) fn fingerprint(cert: &[u8]) -> String {
    let bytes = Sha256::digest(cert);
    bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// Takes any certificate whose key the client has.
#[derive(Debug)]
struct Any {
    algorithms: WebPkiSupportedAlgorithms,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Any {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
