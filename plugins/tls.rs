//! TLS: certificates, protocols and ciphers, and what clients' certificates are worth (catalogue 14.2).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::plugin::*;

mod ciphers;

plugin! {
    /// Offers TLS: STARTTLS on plain ports, and TLS from the first byte on port 465 and where the daemon is told to
    /// listen on smtps://.
    ///
    /// Files are named in the order certificate, key, CA, dhparam, or by name. Without names they are
    /// qpsmtpd-server.crt, qpsmtpd-server.key and qpsmtpd-ca.crt in ssl/, or config/ssl/ where there is no ssl/;
    /// `qpsmtpctl cert` makes them. If these cannot be read TLS is not offered; files that were named must be there.
    /// Keys are read before the daemon gives up root. After HUP renewed files are taken if the user who serves may
    /// read them; else what was read before stays, and the log says so.
    ///
    /// Only TLS 1.2 and 1.3 are spoken.
    "tls", TlsPlugin {
        /// The certificate, PEM, followed by those between it and its CA.
        @1 cert: Option<PathBuf>,
        /// Its key, PEM, not encrypted.
        @2 key: Option<PathBuf>,
        /// CAs, PEM: they vouch for clients' certificates and complete the chain of ours.
        @3 ca: Option<PathBuf>,
        /// Is not needed any more: the key exchange is always by elliptic curves.
        @4 dhparam: Option<PathBuf>,
        /// A folder with further certificates, of which a client sees the one for the name it calls the server by,
        /// and with RSA or ECDSA as it can: NAME.crt with NAME.key, NAME.pem, or NAME/fullchain.pem with privkey.pem.
        certs: Option<PathBuf>,
        /// Whether clients are to show certificates: no, request (any or none will do) or require (one of a CA in
        /// ca). May be given several times, also for one address or port of the server: 465=require,
        /// 192.0.2.1:587=request.
        clients: Vec<Clients>,
    }
    files ["tls_ciphers", "tls_protocols", "relay_clientcerts"]
    state { plan: TlsPlan, relays: Cached<HashSet<[u8; 32]>> }
    hooks [connect, ehlo, helo]
    with [setup, tls_plan]
}

/// What clients are asked for, and where.
#[derive(Clone, Copy)]
struct Clients(AskAt);

impl Arg for Clients {
    const WANTS: &'static str = "no, request or require, maybe with [ADDRESS:]PORT= before it";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let wrong = || format!("'{word}' is not {}", Self::WANTS);
        let (place, ask) = match word.rsplit_once('=') {
            Some((place, ask)) => (Some(place), ask),
            None => (None, word),
        };
        let ask = match ask {
            "no" | "none" | "0" => Ask::No,
            "request" => Ask::Request,
            "require" => Ask::Require,
            _ => return Err(wrong()),
        };
        let (ip, port) = match place {
            None => (None, None),
            Some(place) => where_to(place).ok_or_else(wrong)?,
        };
        *slot = Some(Clients(AskAt { ip, port, ask }));
        Ok(None)
    }
}

/// Reads an address, a port, or both.
fn where_to(place: &str) -> Option<(Option<IpAddr>, Option<u16>)> {
    if let Ok(both) = place.parse::<SocketAddr>() {
        return Some((Some(both.ip()), Some(both.port())));
    }
    match place.parse() {
        Ok(port) => Some((None, Some(port))),
        Err(_) => Some((Some(place.parse().ok()?), None)),
    }
}

impl TlsPlugin {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let folder = default_folder(at);
        let file = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| folder.join(name));
        if self.dhparam.is_some() {
            at.warn("dhparam is not used: the key exchange is always by elliptic curves");
        }
        let mut clients: Vec<AskAt> = self.clients.iter().map(|one| one.0).collect();
        // the narrowest first
        clients.sort_by_key(|at| (at.ip.is_none(), at.port.is_none()));
        self.relays.load(at, CERTIFICATES, certificates);
        self.plan = TlsPlan {
            cert: file(&self.cert, "qpsmtpd-server.crt"),
            key: file(&self.key, "qpsmtpd-server.key"),
            named: self.cert.is_some() || self.key.is_some(),
            ca: Some(file(&self.ca, "qpsmtpd-ca.crt")),
            ca_named: self.ca.is_some(),
            folder: self.certs.clone(),
            suites: ciphers::suites(at)?,
            clients,
        };
        Ok(())
    }

    fn tls_plan(&self) -> Option<&TlsPlan> {
        Some(&self.plan)
    }

    /// Lets clients relay whose certificates relay_clientcerts lists.
    fn recognise(&self, s: &mut Session) -> Answer {
        let Some(client) = s.tls.as_ref().and_then(|tls| tls.client.as_ref()) else {
            return declined();
        };
        if s.relay_client {
            return declined();
        }
        // none, if only a proxy has seen the certificate
        let own = fingerprint(&client.fingerprint);
        let relays = self.relays.of(s, CERTIFICATES, certificates)?;
        if own.is_ok_and(|own| relays.contains(&own)) {
            info!(s, "pass, relay client by its certificate {}", client.subject);
            s.relay_client = true;
        }
        declined()
    }

    fn connect(&self, s: &mut Session) -> Answer {
        self.recognise(s)
    }

    fn ehlo(&self, s: &mut Session, _host: &str) -> Answer {
        self.recognise(s)
    }

    fn helo(&self, s: &mut Session, _host: &str) -> Answer {
        self.recognise(s)
    }
}

/// The certificates of clients that may relay.
const CERTIFICATES: &str = "relay_clientcerts";

/// Where the files are that nobody has named.
fn default_folder(at: &Loading<'_>) -> PathBuf {
    let usual = [PathBuf::from("ssl")].into_iter();
    let mut places = usual.chain(at.config_dirs().iter().map(|dir| dir.join("ssl")));
    places
        .find(|place| place.is_dir())
        .unwrap_or_else(|| Path::new("config").join("ssl"))
}

/// The certificates whose fingerprints begin the lines.
fn certificates(lines: &Lines, wrong: &mut dyn FnMut(&Line, String)) -> HashSet<[u8; 32]> {
    let print = |line: &Line| {
        let print = fingerprint(entry(line).0).ok();
        if print.is_none() {
            wrong(line, "this is not the SHA-256 fingerprint of a certificate".to_owned());
        }
        print
    };
    lines.iter().filter_map(print).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str =
        "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99";

    fn plan(arguments: &str) -> TlsPlan {
        Kit::load(&DECLARATION, arguments).tls_plan().expect("a plan")
    }

    fn with_certificate(t: &mut Kit) {
        t.s.tls = Some(Box::new(Tls {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            group: None,
            sni: None,
            client: Some(ClientCertificate {
                subject: "CN=client.example".to_owned(),
                names: Vec::new(),
                fingerprint: MARK.to_owned(),
                verified: false,
            }),
            binding: None,
        }));
    }

    #[test]
    fn the_files_have_the_original_s_places() {
        let usual = plan("");
        assert!(usual.cert.ends_with("ssl/qpsmtpd-server.crt"));
        assert!(usual.key.ends_with("ssl/qpsmtpd-server.key"));
        assert!(usual.ca.is_some_and(|ca| ca.ends_with("ssl/qpsmtpd-ca.crt")));
        assert!(!usual.named && !usual.ca_named);
        let named = plan("/a.crt /a.key /ca.crt");
        assert_eq!(named.cert, Path::new("/a.crt"));
        assert_eq!(named.key, Path::new("/a.key"));
        assert!(named.named && named.ca_named);
        assert!(Kit::faults(&DECLARATION, "a b c d")[0].contains("warning: tls: dhparam is not used"));
        assert!(Kit::faults(&DECLARATION, "a b c d e")[0].contains("unknown argument 'e'"));
    }

    #[test]
    fn clients_are_asked_by_the_narrowest_rule() {
        let plan = plan("clients request clients 465=require clients [::1]:465=no");
        let ask = |ip: &str, port| plan.ask((ip.parse().ok(), port));
        assert_eq!(ask("::1", 465), Ask::No);
        assert_eq!(ask("127.0.0.1", 465), Ask::Require);
        assert_eq!(ask("::1", 25), Ask::Request);
        assert!(Kit::faults(&DECLARATION, "clients sometimes")[0].contains("is not no, request or require"));
        assert!(Kit::faults(&DECLARATION, "clients x=request")[0].contains("is not no"));
    }

    #[test]
    fn a_listed_certificate_may_relay() {
        let mut t = Kit::load(&DECLARATION, "");
        with_certificate(&mut t);
        t.ehlo("client.example").declined();
        assert!(!t.s.relay_client);
        let listed = format!("{} the branch office", MARK.to_lowercase().replace(':', ""));
        t.config("relay_clientcerts", &[&listed]);
        t.ehlo("client.example").declined();
        assert!(t.s.relay_client);
        assert_eq!(
            t.logged(),
            ["(ehlo) tls: pass, relay client by its certificate CN=client.example"]
        );
        let mut t = Kit::load(&DECLARATION, "");
        t.config("relay_clientcerts", &[&listed]);
        t.ask(Event::Connect).declined();
        assert!(!t.s.relay_client, "a client without certificate");
    }

    #[test]
    fn a_fingerprint_has_64_digits() {
        let listed = |line: &str| certificates(&Lines::of("relay_clientcerts", [line]), &mut |_, _| {}).len();
        assert_eq!(listed(MARK) + listed(&format!("{MARK} joe's laptop")), 2);
        assert_eq!(listed(&MARK[3..]) + listed(&MARK.replace("AA", "GG")), 0);
    }
}
