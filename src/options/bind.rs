//! Addresses to listen on, as they are written.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `smtp://`: SMTP, with STARTTLS if there is a certificate.
    Smtp,
    /// `smtps://`: SMTP within TLS.
    Smtps,
}

/// An address to listen on, as written: `127.0.0.1`, `[::1]:25`, `0.0.0.0:0`, `smtps://127.0.0.1:10465`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub ip: IpAddr,
    /// The port, if it has one of its own.
    pub port: Option<u16>,
    /// What is spoken there, if that is said; else TLS comes first on port 465 alone.
    pub scheme: Option<Scheme>,
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(whole: &str) -> Result<Bind, String> {
        let (scheme, text) = match whole.split_once("://") {
            None => (None, whole),
            Some(("smtp", text)) => (Some(Scheme::Smtp), text),
            Some(("smtps", text)) => (Some(Scheme::Smtps), text),
            Some((other, _)) => return Err(format!("'{other}://' is neither smtp:// nor smtps://")),
        };
        if let Ok(whole) = text.parse::<SocketAddr>() {
            return Ok(Bind {
                ip: whole.ip(),
                port: Some(whole.port()),
                scheme,
            });
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let ip = bare
            .parse()
            .map_err(|_| format!("'{text}' is no address (127.0.0.1, 127.0.0.1:25, [::1] or [::1]:25)"))?;
        Ok(Bind { ip, port: None, scheme })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_ports_of_their_own() {
        let bind = |text: &str| text.parse::<Bind>().map(|bind| (bind.ip.to_string(), bind.port));
        assert_eq!(bind("127.0.0.1"), Ok(("127.0.0.1".into(), None)));
        assert_eq!(bind("127.0.0.1:0"), Ok(("127.0.0.1".into(), Some(0))));
        assert_eq!(bind("[::1]:25"), Ok(("::1".into(), Some(25))));
        assert_eq!(bind("[::]"), Ok(("::".into(), None)));
        assert_eq!(bind("::1"), Ok(("::1".into(), None)));
        assert!(bind("localhost:25").is_err());
    }
}
