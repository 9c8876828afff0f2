//! TLS towards the next server: whether, and whom to believe.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::Trouble;
use crate::plugin::*;

/// How connections are encrypted: the argument `tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// Where it is offered; who the server is does not matter, and if it fails the message goes in clear.
    #[default]
    Opportunistic,
    /// Always; who the server is does not matter.
    Required,
    /// Always, and a CA must vouch for the server's name.
    Verified,
    /// Always, and the server must show a certain certificate.
    Fingerprint,
    /// As the server's TLSA records want it; without any, as opportunistic.
    Dane,
}

/// The words of the argument.
const MODES: [(&str, Mode); 6] = [
    ("off", Mode::Off),
    ("opportunistic", Mode::Opportunistic),
    ("required", Mode::Required),
    ("verified", Mode::Verified),
    ("fingerprint", Mode::Fingerprint),
    ("dane", Mode::Dane),
];

impl Arg for Mode {
    const WANTS: &'static str = "off, opportunistic, required, verified, fingerprint or dane";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let found = MODES.iter().find(|(name, _)| *name == word);
        let wrong = || format!("'{word}' is not {}", Self::WANTS);
        *slot = Some(found.ok_or_else(wrong)?.1);
        Ok(None)
    }

    fn show(&self) -> String {
        let found = MODES.iter().find(|(_, mode)| mode == self);
        found.map_or_else(String::new, |(name, _)| (*name).to_owned())
    }
}

/// The arguments that belong together.
#[derive(Default)]
pub struct SecureArguments<'a> {
    /// `tls`.
    pub mode: Mode,
    /// `tls_ca`.
    pub ca: Option<PathBuf>,
    /// `tls_fingerprint`.
    pub fingerprints: &'a [String],
    /// `tls_name`.
    pub name: Option<String>,
    /// Whether TLS begins with the connection.
    pub at_once: bool,
}

/// TLS as it is wanted.
#[derive(Default)]
pub struct Secure {
    mode: Mode,
    name: Option<String>,
    trust: Option<Trust>,
    /// Whether TLS begins with the connection.
    pub at_once: bool,
    /// For the hosts, by their numbers, what has been worked out.
    made: Vec<OnceLock<ClientTls>>,
}

/// TLS for one connection.
#[derive(Clone, Debug)]
pub struct Wish {
    /// How.
    pub how: ClientTls,
    /// Whether the connection is of no use without.
    pub must: bool,
    /// Whether it is known then who the server is.
    pub verified: bool,
}

impl Secure {
    /// Checks the arguments, for so many hosts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(given: SecureArguments<'_>, hosts: usize) -> Result<Secure, String> {
        let mode = given.mode;
        if given.ca.is_some() && mode != Mode::Verified {
            return Err("tls_ca needs 'tls verified'".to_owned());
        }
        if given.fingerprints.is_empty() == (mode == Mode::Fingerprint) {
            return Err("tls_fingerprint and 'tls fingerprint' belong together".to_owned());
        }
        if given.at_once && mode == Mode::Off {
            return Err("'smtps' cannot do without TLS".to_owned());
        }
        let trust = match mode {
            Mode::Off | Mode::Dane => None,
            Mode::Opportunistic | Mode::Required => Some(Trust::Anyone),
            Mode::Verified => Some(Trust::Roots(
                given.ca.as_deref().map_or_else(Roots::system, Roots::read)?,
            )),
            Mode::Fingerprint => {
                let all: Result<Vec<_>, _> = given.fingerprints.iter().map(|text| fingerprint(text)).collect();
                Some(Trust::Fingerprints(all?))
            }
        };
        Ok(Secure {
            mode,
            name: given.name,
            trust,
            at_once: given.at_once,
            made: (0..hosts).map(|_| OnceLock::new()).collect(),
        })
    }

    /// Whether a message goes to no server but those that have shown who they are; with DANE, to those that can.
    pub fn knows_the_server(&self) -> bool {
        matches!(self.mode, Mode::Verified | Mode::Fingerprint | Mode::Dane)
    }

    /// TLS for a connection to a host, the one of this number; none if it is not wanted.
    pub fn wish(&self, s: &Session, number: usize, target: &Target, wait: Duration) -> Result<Option<Wish>, Trouble> {
        let Target::Tcp(host, port) = target else {
            // nobody stands between us and a socket of this machine
            return Ok(None);
        };
        let name = self.name.as_ref().unwrap_or(host);
        let (how, must, verified) = match (&self.trust, self.mode) {
            (Some(trust), mode) => {
                let how = self.made[number].get_or_init(|| ClientTls::new(trust.clone(), name));
                let must = mode != Mode::Opportunistic;
                (how.clone(), must, !matches!(trust, Trust::Anyone))
            }
            (None, Mode::Dane) => match s.services().dns.tlsa(host, *port, wait) {
                Dns::Found(records) if !records.is_empty() => (ClientTls::new(Trust::Dane(records), name), true, true),
                Dns::Found(_) | Dns::NoData | Dns::NoName => (ClientTls::new(Trust::Anyone, name), false, false),
                Dns::Failed(why) => return Err(Trouble::Nothing(format!("its TLSA records are not to be had: {why}"))),
            },
            (None, _) => return Ok(None),
        };
        Ok(Some(Wish {
            how,
            must: must || self.at_once,
            verified,
        }))
    }
}
