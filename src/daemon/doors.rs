//! Where to listen, and what is spoken there.

use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::config::{Ip, Settings};
use crate::options::{Bind, Scheme};
use crate::prefork::Listen;

/// The port on which TLS comes first, whatever the configuration says (RFC 8314 3.3).
pub(super) const SUBMISSIONS: u16 = 465;

/// One listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Door {
    /// Where.
    pub(super) listen: Listen,
    /// Whether TLS comes before the greeting.
    pub(super) tls: bool,
}

impl Door {
    fn new(address: Option<IpAddr>, port: u16, scheme: Option<Scheme>) -> Door {
        let tls = match scheme {
            Some(scheme) => scheme == Scheme::Smtps,
            None => port == SUBMISSIONS,
        };
        Door {
            listen: Listen { address, port },
            tls,
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
            .flat_map(|bind| match (bind.port, bind.scheme) {
                (Some(port), scheme) => vec![Door::new(Some(bind.ip), port, scheme)],
                (None, Some(Scheme::Smtps)) => vec![Door::new(Some(bind.ip), SUBMISSIONS, bind.scheme)],
                (None, scheme) => at(Some(bind.ip), scheme),
            })
            .collect(),
    }
}

/// What is spoken at sockets that listen already: the port decides.
pub(super) fn open_doors(sockets: &[TcpListener]) -> Vec<Door> {
    let addresses = sockets.iter().map(|socket| socket.local_addr().ok());
    let door = |address: Option<SocketAddr>| Door::new(address.map(|a| a.ip()), address.map_or(0, |a| a.port()), None);
    addresses.map(door).collect()
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
}
