//! Addresses to listen on, as they are written on the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `smtp://`: SMTP, with STARTTLS if there is a certificate.
    Smtp,
    /// `smtps://`: SMTP within TLS.
    Smtps,
    /// `lmtp://`: LMTP, with STARTTLS if there is a certificate.
    Lmtp,
}

impl Scheme {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Scheme> {
        match name {
            "smtp" => Some(Scheme::Smtp),
            "smtps" => Some(Scheme::Smtps),
            "lmtp" => Some(Scheme::Lmtp),
            _ => None,
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address, and the port, if it has one of its own.
    Port(IpAddr, Option<u16>),
    /// A unix socket.
    File(PathBuf),
}

/// An address to listen on, as written: `127.0.0.1`, `[::1]:25`, `0.0.0.0:0`, `smtps://127.0.0.1:10465`,
/// `lmtp://127.0.0.1`, `unix:/run/qpsmtpd/lmtp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where.
    pub place: Place,
    /// What is spoken there, if that is said; else TLS comes first on port 465 alone, and a unix socket is for LMTP.
    pub scheme: Option<Scheme>,
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(whole: &str) -> Result<Bind, String> {
        if let Some(path) = whole.strip_prefix("unix:") {
            let place = file(path)?;
            return Ok(Bind { place, scheme: None });
        }
        let (scheme, text) = match whole.split_once("://") {
            None => (None, whole),
            Some((name, text)) => match Scheme::named(name) {
                None => return Err(format!("'{name}://' is neither smtp:// nor smtps:// nor lmtp://")),
                scheme => (scheme, text),
            },
        };
        let place = match text.starts_with('/') {
            true if scheme == Some(Scheme::Smtps) => return Err("TLS is not spoken at unix sockets".to_owned()),
            true => file(text)?,
            false => port(text)?,
        };
        Ok(Bind { place, scheme })
    }
}

fn file(path: &str) -> Result<Place, String> {
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        return Err(format!("'{path}' is no absolute path without blanks"));
    }
    Ok(Place::File(path.into()))
}

fn port(text: &str) -> Result<Place, String> {
    if let Ok(whole) = text.parse::<SocketAddr>() {
        return Ok(Place::Port(whole.ip(), Some(whole.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let ip = bare
        .parse()
        .map_err(|_| format!("'{text}' is no address (127.0.0.1, 127.0.0.1:25, [::1] or [::1]:25)"))?;
    Ok(Place::Port(ip, None))
}

/// Permission bits in octal.
///
/// # Errors
/// It is no such number, or has more bits than there are.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("'{text}' is no mode such as 0660"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_ports_of_their_own() {
        let bind = |text: &str| match text.parse::<Bind>().map(|bind| bind.place) {
            Ok(Place::Port(ip, port)) => Some((ip.to_string(), port)),
            _ => None,
        };
        assert_eq!(bind("127.0.0.1"), Some(("127.0.0.1".into(), None)));
        assert_eq!(bind("127.0.0.1:0"), Some(("127.0.0.1".into(), Some(0))));
        assert_eq!(bind("[::1]:25"), Some(("::1".into(), Some(25))));
        assert_eq!(bind("[::]"), Some(("::".into(), None)));
        assert_eq!(bind("::1"), Some(("::1".into(), None)));
        assert_eq!(bind("localhost:25"), None);
    }

    #[test]
    fn unix_sockets_have_paths() {
        for text in ["unix:/run/lmtp", "lmtp:///run/lmtp", "smtp:///run/lmtp"] {
            let place = text.parse::<Bind>().map(|bind| bind.place);
            assert_eq!(place, Ok(Place::File("/run/lmtp".into())), "{text}");
        }
        for text in [
            "unix:lmtp",
            "unix:",
            "unix:/a b",
            "smtps:///run/lmtp",
            "http://127.0.0.1",
        ] {
            assert!(text.parse::<Bind>().is_err(), "{text}");
        }
        assert_eq!(
            ["0660", "666", "1777", "rw"].map(|text| mode(text).ok()),
            [Some(0o660), Some(0o666), None, None]
        );
    }
}
