//! Where to listen, and what is spoken there.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::{Ip, Settings};
use crate::options::{Bind, Place, Scheme};
use crate::prefork::{Listen, Socket};

/// The port on which TLS comes first, whatever the configuration says (RFC 8314 3.3).
pub(super) const SUBMISSIONS: u16 = 465;
/// The usual port of LMTP: that of any private mail system.
const LMTP: u16 = 24;

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    /// Where.
    pub(super) listen: Listen,
    /// Whether TLS comes before the greeting.
    pub(super) tls: bool,
    /// Whether LMTP is spoken, and not SMTP.
    pub(super) lmtp: bool,
}

impl Door {
    fn new(address: Option<IpAddr>, port: u16, scheme: Option<Scheme>) -> Door {
        let tls = match scheme {
            Some(scheme) => scheme == Scheme::Smtps,
            None => port == SUBMISSIONS,
        };
        Door {
            listen: Listen::Port { address, port },
            tls,
            lmtp: scheme == Some(Scheme::Lmtp),
        }
    }

    fn file(path: &Path, scheme: Option<Scheme>) -> Door {
        Door {
            listen: Listen::File(path.to_owned()),
            tls: false,
            lmtp: scheme != Some(Scheme::Smtp),
        }
    }
}

/// Options first, then config/IP and config/port, then all addresses and port 25 for root, 2525 for others.
pub(super) fn doors(addresses: &[Bind], ports: &[u16], settings: &Settings, root: bool) -> Vec<Door> {
    let usual = if root { 25 } else { 2525 };
    let ports = match ports {
        [] => vec![settings.port.unwrap_or(usual)],
        given => given.to_vec(),
    };
    let at = |address: Option<IpAddr>, scheme| {
        let all = ports.iter().map(move |port| Door::new(address, *port, scheme));
        all.collect::<Vec<_>>()
    };
    match (addresses, settings.ip) {
        ([], Some(Ip::One(ip))) => at(Some(ip), None),
        ([], _) => at(None, None),
        (given, _) => given
            .iter()
            .flat_map(|bind| match (&bind.place, bind.scheme) {
                (Place::File(path), scheme) => vec![Door::file(path, scheme)],
                (Place::Port(ip, Some(port)), scheme) => vec![Door::new(Some(*ip), *port, scheme)],
                (Place::Port(ip, None), Some(Scheme::Smtps)) => vec![Door::new(Some(*ip), SUBMISSIONS, bind.scheme)],
                (Place::Port(ip, None), Some(Scheme::Lmtp)) => vec![Door::new(Some(*ip), LMTP, bind.scheme)],
                (Place::Port(ip, None), scheme) => at(Some(*ip), scheme),
            })
            .collect(),
    }
}

/// What is spoken at sockets that listen already: what their names say (`smtp`, `smtps`, `lmtp`; all others say
/// nothing), else the port decides, and at a unix socket it is LMTP.
///
/// # Errors
/// TLS is wanted at a unix socket.
pub(super) fn open_doors(sockets: &[Socket], names: &[String]) -> Result<Vec<Door>, String> {
    let door = |(number, socket): (usize, &Socket)| {
        let scheme = names.get(number).and_then(|name| Scheme::named(name));
        let address = socket.local_addr().ok();
        let path = address.as_ref().and_then(|address| address.as_pathname());
        let port: Option<SocketAddr> = address.as_ref().and_then(|address| address.as_socket());
        match (port, path) {
            (Some(port), _) => Ok(Door::new(Some(port.ip()), port.port(), scheme)),
            (None, _) if scheme == Some(Scheme::Smtps) => Err("TLS is not spoken at unix sockets".to_owned()),
            (None, path) => Ok(Door::file(path.unwrap_or(Path::new("")), scheme)),
        }
    };
    sockets.iter().enumerate().map(door).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors_of(addresses: &[&str], ports: &[u16]) -> Vec<(String, bool)> {
        let binds: Vec<Bind> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
        assert_eq!(binds.len(), addresses.len());
        let doors = doors(&binds, ports, &Settings::default(), true);
        doors.iter().map(|door| (door.listen.to_string(), door.tls)).collect()
    }

    #[test]
    fn tls_comes_first_where_it_is_said_and_on_port_465() {
        let door = |text: &str, tls| (text.to_owned(), tls);
        assert_eq!(
            doors_of(
                &[
                    "smtps://127.0.0.1:10465",
                    "127.0.0.1:465",
                    "smtp://127.0.0.2:465",
                    "smtps://[::1]"
                ],
                &[2525]
            ),
            [
                door("127.0.0.1:10465", true),
                door("127.0.0.1:465", true),
                door("127.0.0.2:465", false),
                door("[::1]:465", true)
            ]
        );
        assert_eq!(
            doors_of(&["127.0.0.1"], &[25, 465]),
            [door("127.0.0.1:25", false), door("127.0.0.1:465", true)]
        );
        assert_eq!(doors_of(&["smtp://127.0.0.1"], &[465]), [door("127.0.0.1:465", false)]);
        assert_eq!(doors_of(&[], &[465]), [door("all addresses, port 465", true)]);
    }

    #[test]
    fn names_say_what_is_spoken_at_open_sockets() {
        let port = |_| Socket::from(std::net::TcpListener::bind("127.0.0.1:0").expect("bind"));
        let place = tempfile::tempdir().expect("a folder");
        let file = std::os::unix::net::UnixListener::bind(place.path().join("socket")).expect("bind");
        let mut sockets: Vec<Socket> = (0..4).map(port).collect();
        sockets.push(file.into());
        let spoken = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let doors = open_doors(&sockets, &names)?;
            Ok::<_, String>(doors.iter().map(|door| (door.tls, door.lmtp)).collect::<Vec<_>>())
        };
        let (smtp, smtps, lmtp) = ((false, false), (true, false), (false, true));
        assert_eq!(spoken(&[]), Ok(vec![smtp, smtp, smtp, smtp, lmtp]));
        let names = ["smtps", "lmtp", "smtp", "qpsmtpd.socket", "smtp"];
        assert_eq!(spoken(&names), Ok(vec![smtps, lmtp, smtp, smtp, smtp]));
        assert!(spoken(&["", "", "", "", "smtps"]).is_err());
    }

    #[test]
    fn lmtp_is_spoken_where_it_is_said_and_at_unix_sockets() {
        let spoken = |text: &str| {
            let bind: Bind = text.parse().expect("an address");
            let doors = doors(&[bind], &[25], &Settings::default(), true);
            (doors[0].listen.to_string(), doors[0].lmtp)
        };
        for (text, place, lmtp) in [
            ("lmtp://127.0.0.1", "127.0.0.1:24", true),
            ("lmtp://[::1]:2424", "[::1]:2424", true),
            ("127.0.0.1:24", "127.0.0.1:24", false),
            ("lmtp:///run/lmtp", "unix:/run/lmtp", true),
            ("unix:/run/lmtp", "unix:/run/lmtp", true),
            ("smtp:///run/smtp", "unix:/run/smtp", false),
        ] {
            assert_eq!(spoken(text), (place.to_owned(), lmtp), "{text}");
        }
    }
}
