//! TLS: the one door to rustls. Here is the server's side.
//!
//! - `wire`: an encrypted wire over any other, and the handshake;
//! - `keys`: certificates and keys from files, kept across reloads;
//! - `choice`: which certificate a client is shown;
//! - `clients`: what of the client's certificate;
//! - `client`: the client's side, towards servers that we connect to; `dane`: whom TLSA records let it believe.
//!
//! Versions 1.2 and 1.3 alone; the key exchange X25519MLKEM768, safe from quantum computers, is preferred.

mod choice;
mod client;
mod clients;
mod dane;
mod keys;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ProtocolVersion, ServerConfig, ServerConnection};

use crate::session::tls::{Ask, Encrypt, SUITES, Tls, TlsPlan};
use crate::session::wire::Wire;

use choice::Choice;
#[cfg(feature = "ldap")]
pub(super) use client::client_config;
pub(super) use client::encrypt;
use clients::Clients;
pub use keys::Keyring;
use wire::TlsWire;

/// Something that is wrong with the certificates, or that the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The file meant, as it was named; empty for none.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether TLS cannot be offered as it was wanted.
    pub error: bool,
}

impl Trouble {
    fn error(file: &std::path::Path, why: impl std::fmt::Display) -> Trouble {
        Trouble {
            error: true,
            ..Trouble::warning(file, why)
        }
    }

    fn warning(file: &std::path::Path, why: impl std::fmt::Display) -> Trouble {
        let file = file.display().to_string();
        let why = match &*file {
            "" => why.to_string(),
            file => format!("{file}: {why}"),
        };
        Trouble {
            file,
            why,
            error: false,
        }
    }
}

/// TLS as one generation offers it.
pub struct Server {
    plan: TlsPlan,
    clients: Clients,
    /// By what clients are asked for.
    configs: Vec<(Ask, Arc<ServerConfig>)>,
}

/// Makes what `plan` wants, with the files as they are now or as `ring` has kept them.
///
/// None with no error means that nothing was wanted by name and there is nothing to offer.
pub fn server(plan: &TlsPlan, ring: &Keyring) -> (Option<Arc<dyn Encrypt>>, Vec<Trouble>) {
    let mut troubles = Vec::new();
    let made = make(plan, ring, &mut troubles);
    (made.map(|server| Arc::new(server) as Arc<dyn Encrypt>), troubles)
}

fn make(plan: &TlsPlan, ring: &Keyring, troubles: &mut Vec<Trouble>) -> Option<Server> {
    let provider = Arc::new(provider(&plan.suites));
    let cas = plan.ca.as_deref().map(|file| ring.certificates(file, troubles));
    let cas = match cas {
        Some(Err(why)) if plan.ca_named => {
            troubles.push(why);
            return None;
        }
        Some(Ok(cas)) => cas,
        _ => Vec::new(),
    };
    let choice = Arc::new(Choice::load(plan, &cas, ring, &provider, troubles)?);
    let clients = Clients::new(&cas, provider.clone());
    let mut kinds: Vec<Ask> = plan.clients.iter().map(|at| at.ask).chain([Ask::No]).collect();
    kinds.dedup();
    let mut configs = Vec::new();
    for ask in kinds {
        match config(ask, &provider, &clients, choice.clone()) {
            Ok(config) => configs.push((ask, Arc::new(config))),
            Err(why) => {
                let file = plan.ca.as_deref().unwrap_or(std::path::Path::new(""));
                troubles.push(Trouble::error(file, why));
                return None;
            }
        }
    }
    Some(Server {
        plan: plan.clone(),
        clients,
        configs,
    })
}

/// The cryptography, with the cipher suites that are wanted, in their order.
fn provider(wanted: &[&str]) -> CryptoProvider {
    let all = default_provider();
    let suites = wanted.iter().filter_map(|wanted| {
        let mut found = all.cipher_suites.iter();
        found.find(|suite| suite_name(suite.suite()) == *wanted).copied()
    });
    CryptoProvider {
        cipher_suites: suites.collect(),
        ..all
    }
}

/// OpenSSL's name of a suite.
fn suite_name(suite: CipherSuite) -> &'static str {
    // `TLS13_AES_128_GCM_SHA256` is rustls's own word for the first kind
    let name = format!("{suite:?}").replacen("TLS13_", "TLS_", 1);
    let found = SUITES.iter().find(|(_, rfc)| *rfc == name);
    found.map_or("unknown", |(openssl, _)| openssl)
}

/// OpenSSL's name of a version.
fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    }
}

/// The settings of rustls for those clients.
fn config(
    ask: Ask,
    provider: &Arc<CryptoProvider>,
    clients: &Clients,
    choice: Arc<Choice>,
) -> Result<ServerConfig, String> {
    let spoken = |version| {
        let mut suites = provider.cipher_suites.iter();
        suites.any(|suite| suite.version().version == version)
    };
    let mut versions = Vec::new();
    if spoken(ProtocolVersion::TLSv1_3) {
        versions.push(&TLS13);
    }
    if spoken(ProtocolVersion::TLSv1_2) {
        versions.push(&TLS12);
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|why| why.to_string())?;
    let builder = match clients.verifier(ask)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(choice);
    // Workers are forked from the process that makes this, so that each knows the tickets of the others; a cache
    // would be each worker's own. Kinds of clients do not share tickets: who has shown no certificate must not come
    // in again where one is required.
    config.ticketer = Ticketer::new().map_err(|why| why.to_string())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

impl Encrypt for Server {
    fn accept(
        &self,
        clear: Box<dyn Wire>,
        local: (Option<IpAddr>, u16),
        deadline: Instant,
    ) -> Result<(Box<dyn Wire>, Tls), String> {
        let ask = self.plan.ask(local);
        let config = self.configs.iter().find(|(kind, _)| *kind == ask);
        let (_, config) = config.ok_or("no settings for this client")?;
        let tls = ServerConnection::new(config.clone()).map_err(|why| why.to_string())?;
        let mut wire = TlsWire::new(clear, tls);
        wire.handshake(deadline).map_err(|why| why.at_client())?;
        let facts = self.facts(wire.connection());
        Ok((Box::new(wire), facts))
    }
}

impl Server {
    fn facts(&self, tls: &ServerConnection) -> Tls {
        let version = version_name(tls.protocol_version());
        let suite = tls.negotiated_cipher_suite();
        let group = tls.negotiated_key_exchange_group();
        let exported = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
        Tls {
            version: version.into(),
            cipher: suite.map_or("unknown", |suite| suite_name(suite.suite())).into(),
            group: group.map(|group| format!("{:?}", group.name())),
            sni: tls.server_name().map(str::to_owned),
            client: tls.peer_certificates().and_then(|chain| self.clients.facts(chain)),
            // TLS 1.2 has it only together with an extension whose use rustls does not tell
            binding: exported.ok().filter(|_| version == "TLSv1.3"),
        }
    }
}

#[cfg(test)]
mod tests;
