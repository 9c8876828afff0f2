//! Encryption as the session sees it: what is wanted, who makes an encrypted wire of a clear one, and what is then
//! known. Nothing here knows how it is done.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use super::wire::Wire;

/// Facts of an encrypted connection.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`; what a proxy says, if that speaks TLS with the client.
    pub version: Cow<'static, str>,
    /// The cipher suite, by the name OpenSSL has for it.
    pub cipher: Cow<'static, str>,
    /// The group of the key exchange: `X25519MLKEM768`. None for a resumed session of TLS 1.2.
    pub group: Option<String>,
    /// SNI: the name by which the client called us. Client data.
    pub sni: Option<String>,
    /// The certificate of the client, if it showed one.
    pub client: Option<ClientCertificate>,
    /// The channel binding `tls-exporter` (RFC 9266), in TLS 1.3.
    pub binding: Option<[u8; 32]>,
}

/// The certificate of a client that has proved to have its key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Its subject: `CN=mail.example.com`. Client data unless verified.
    pub subject: String,
    /// Names and mail addresses in it. Client data unless verified.
    pub names: Vec<String>,
    /// SHA-256 over the certificate, in hexadecimal with colons, as `openssl x509 -fingerprint -sha256` shows it; empty
    /// if only a proxy has seen it.
    pub fingerprint: String,
    /// Whether one of our CAs vouches for it.
    pub verified: bool,
}

/// What makes an encrypted wire of a clear one, at the server's side.
pub trait Encrypt: Send + Sync {
    /// Shakes hands with the client that has connected to `local`, and must be done by `deadline`.
    ///
    /// # Errors
    /// Why it came to nothing, for the log; the wire is then closed.
    fn accept(
        &self,
        clear: Box<dyn Wire>,
        local: (Option<IpAddr>, u16),
        deadline: Instant,
    ) -> Result<(Box<dyn Wire>, Tls), String>;
}

/// Whether clients are to show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ask {
    /// They are not asked.
    #[default]
    No,
    /// They are asked; any certificate or none will do, and the facts tell which it was.
    Request,
    /// Only clients with a certificate of one of our CAs are served.
    Require,
}

/// Where certificates are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskAt {
    /// Our address; none for all.
    pub ip: Option<IpAddr>,
    /// Our port; none for all.
    pub port: Option<u16>,
    /// What is asked for there.
    pub ask: Ask,
}

/// How TLS is wanted: what plugin tls has read.
#[derive(Clone, Debug, Default)]
pub struct TlsPlan {
    /// The certificate and what is between it and its CA, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The two were named by the operator, who wants to hear when they cannot be read.
    pub named: bool,
    /// CAs: for clients' certificates, and to complete our chains.
    pub ca: Option<PathBuf>,
    /// The CAs were.
    pub ca_named: bool,
    /// A folder with further certificates, chosen by SNI.
    pub folder: Option<PathBuf>,
    /// The cipher suites, by their names in OpenSSL, best first; those of TLS 1.3 begin with `TLS_`. Versions without
    /// a suite are not spoken.
    pub suites: Vec<&'static str>,
    /// Where clients are to show certificates; the first that fits holds.
    pub clients: Vec<AskAt>,
}

impl TlsPlan {
    /// What a client that has connected to `local` is asked for.
    pub fn ask(&self, (ip, port): (Option<IpAddr>, u16)) -> Ask {
        let fits = |at: &&AskAt| at.ip.is_none_or(|own| Some(own) == ip) && at.port.is_none_or(|own| own == port);
        self.clients.iter().find(fits).map_or(Ask::No, |at| at.ask)
    }
}

/// The cipher suites that there are: OpenSSL's name, then the name in the RFCs; best first.
pub const SUITES: [(&str, &str); 9] = [
    ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_are_asked_for_depends_on_where_they_come_in() {
        let at = |ip: Option<&str>, port, ask| AskAt {
            ip: ip.and_then(|ip| ip.parse().ok()),
            port,
            ask,
        };
        let plan = TlsPlan {
            clients: vec![
                at(Some("127.0.0.2"), Some(465), Ask::No),
                at(None, Some(465), Ask::Require),
                at(None, None, Ask::Request),
            ],
            ..TlsPlan::default()
        };
        let ask = |ip: &str, port| plan.ask((ip.parse().ok(), port));
        assert_eq!(ask("127.0.0.2", 465), Ask::No);
        assert_eq!(ask("127.0.0.1", 465), Ask::Require);
        assert_eq!(ask("127.0.0.1", 25), Ask::Request);
        assert_eq!(plan.ask((None, 465)), Ask::Require);
        assert_eq!(TlsPlan::default().ask((None, 25)), Ask::No);
    }
}
