//! How plugins that ask other servers about a password encrypt the connection.

use std::path::PathBuf;

use crate::plugin::*;

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    #[default]
    Off,
    /// By a command in clear, STARTTLS or what the protocol has in its place.
    StartTls,
    /// From the first byte.
    Implicit,
}

impl Arg for Encryption {
    const WANTS: &'static str = "off, starttls or implicit";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(match word {
            "off" => Encryption::Off,
            "starttls" => Encryption::StartTls,
            "implicit" => Encryption::Implicit,
            _ => return Err(format!("'{word}' is none of {}", Self::WANTS)),
        });
        Ok(None)
    }

    fn show(&self) -> String {
        match self {
            Encryption::Off => "off",
            Encryption::StartTls => "starttls",
            Encryption::Implicit => "implicit",
        }
        .to_owned()
    }
}

/// The settings of TLS for a server of this name: its certificate must be for that name, and of a CA of the file `ca`, or
/// of one that the system trusts.
///
/// # Errors
/// There is no such file, or it holds no certificate.
pub fn tls(name: &str, ca: Option<&PathBuf>) -> Result<ClientTls, String> {
    let roots = ca.map_or_else(Roots::system, |file| Roots::read(file))?;
    Ok(ClientTls::new(Trust::Roots(roots), name))
}

/// Whether a password may go to a server in clear without a word: it does not leave this machine.
pub fn is_here(at: &Target) -> bool {
    match at {
        Target::Unix(_) => true,
        Target::Tcp(host, _) => {
            host == "localhost"
                || host
                    .parse()
                    .is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
        }
    }
}
