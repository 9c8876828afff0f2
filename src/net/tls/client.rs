//! TLS at the client's side: towards servers that we connect to, and whom we believe there.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::clients::fingerprint;
use super::dane;
use super::wire::{Failed, TlsWire};
use super::{provider, suite_name, version_name};
use crate::session::remote::Lost;
use crate::session::tls::SUITES;
use crate::session::trust::{ClientTls, RemoteTls, Trust};
use crate::session::wire::Wire;

/// Makes an encrypted wire of a clear one, at the client's side.
pub fn encrypt(clear: Box<dyn Wire>, how: &ClientTls, until: Instant) -> Result<(Box<dyn Wire>, RemoteTls), Lost> {
    let config = client_config(how)?;
    // a dot at the end belongs to DNS, not to TLS
    let name = how.name.trim_end_matches('.').to_owned();
    let name = ServerName::try_from(name).map_err(|_| Lost::because("TLS: the name of the server is none"))?;
    let tls = ClientConnection::new(config, name).map_err(words)?;
    let mut wire = TlsWire::new(clear, tls);
    wire.handshake(until).map_err(|why| match why {
        Failed::Closed => Lost::because("TLS: the server closed the connection"),
        Failed::TimedOut | Failed::Leaving => Lost::because("TLS: not done in time"),
        Failed::Error(why) => match why.get_ref().and_then(|why| why.downcast_ref::<Error>()) {
            Some(tls) => words(tls.clone()),
            None => Lost::because(format_args!("TLS: {why}")),
        },
    })?;
    let tls = wire.connection();
    let own = tls.peer_certificates().and_then(<[_]>::first);
    let facts = RemoteTls {
        version: version_name(tls.protocol_version()),
        cipher: tls
            .negotiated_cipher_suite()
            .map_or("unknown", |suite| suite_name(suite.suite())),
        fingerprint: own.map_or_else(String::new, |own| fingerprint(own)),
    };
    Ok((Box::new(wire), facts))
}

/// The settings of rustls for a connection, kept with it.
pub fn client_config(how: &ClientTls) -> Result<Arc<ClientConfig>, Lost> {
    let made = how.made.get_or_init(|| Box::new(config(&how.trust)));
    match made.downcast_ref::<Result<Arc<ClientConfig>, String>>() {
        Some(Ok(config)) => Ok(config.clone()),
        Some(Err(why)) => Err(Lost::because(format_args!("TLS: {why}"))),
        None => Err(Lost::because("TLS: what was made of its settings is something else")),
    }
}

fn words(why: Error) -> Lost {
    Lost::because(match why {
        Error::InvalidMessage(_) => "TLS: what the server sent is no TLS".to_owned(),
        Error::InvalidCertificate(why) => format!("TLS: the certificate is not believed: {why}"),
        Error::AlertReceived(alert) => format!("TLS: the server refused it: {alert:?}"),
        other => format!("TLS: {other}"),
    })
}

/// The settings of rustls for those whom we trust.
fn config(trust: &Trust) -> Result<Arc<ClientConfig>, String> {
    let all: Vec<&str> = SUITES.iter().map(|(openssl, _)| *openssl).collect();
    let provider = Arc::new(provider(&all));
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Roots(roots) => webpki(certificates(&roots.0)?, &provider)?,
        Trust::Anyone => Arc::new(Known::new(provider.clone(), |_, _, _, _| Ok(()))),
        Trust::Fingerprints(known) => {
            let known = known.clone();
            Arc::new(Known::new(provider.clone(), move |_, own, _, _| {
                let sum = Sha256::digest(own);
                match known.iter().any(|one| one[..] == sum[..]) {
                    true => Ok(()),
                    false => Err(distrust(format!("its fingerprint is {}", fingerprint(own)))),
                }
            }))
        }
        Trust::Dane(records) => {
            let records = dane::usable(records);
            Arc::new(Known::new(provider.clone(), move |provider, own, others, name| {
                dane::verify(&records, provider, own, others, name)
            }))
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // a resumed session shows no certificate, and connections are kept open as long as they are of use
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Checks chain, dates and name as RFC 5280 and RFC 6125 say.
pub(super) fn webpki(
    cas: impl IntoIterator<Item = CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    // a file of CAs may hold one that is too old to be understood
    roots.add_parsable_certificates(cas);
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    builder.build().map_err(|why| why.to_string())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|why| format!("the CAs are no certificates in PEM form: {why}"))
}

/// Why a certificate is not believed, in words.
#[derive(Debug)]
struct Distrust(String);

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Distrust {}

/// An error that says why a certificate is not believed.
pub(super) fn distrust(why: impl Into<String>) -> Error {
    Error::Other(OtherError(Arc::new(Distrust(why.into()))))
}

/// Believes whom a function believes: it is given the server's certificate, the others of the chain, and the name.
struct Known<F> {
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
    believes: F,
}

impl<F> Known<F>
where
    F: Fn(&Arc<CryptoProvider>, &CertificateDer<'_>, &[CertificateDer<'_>], &ServerName<'_>) -> Result<(), Error>,
{
    fn new(provider: Arc<CryptoProvider>, believes: F) -> Known<F> {
        Known {
            algorithms: provider.signature_verification_algorithms,
            provider,
            believes,
        }
    }
}

impl<F> fmt::Debug for Known<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl<F> ServerCertVerifier for Known<F>
where
    F: Fn(&Arc<CryptoProvider>, &CertificateDer<'_>, &[CertificateDer<'_>], &ServerName<'_>) -> Result<(), Error>
        + Send
        + Sync,
{
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.believes)(&self.provider, own, others, name).map(|()| ServerCertVerified::assertion())
    }

    // whoever it is has the key of the certificate

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

#[cfg(test)]
mod tests;
