//! Proxies in front of us: the settings proxy_networks, proxy_ports and proxy_timeout.

use std::net::IpAddr;
use std::time::Duration;

use super::networks::Networks;
use super::values::Values;

/// Who begins connections with a PROXY header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// Their addresses.
    pub networks: Networks,
    /// The local ports at which they do; empty for all.
    pub ports: Vec<u16>,
    /// How long to wait for the header.
    pub wait: Duration,
}

impl Proxies {
    pub(super) fn read(values: &mut Values) -> Proxies {
        let mut ports = Vec::new();
        for line in &(values.source)("proxy_ports") {
            for word in line.split_ascii_whitespace() {
                let parsed = word.parse::<u16>().map_err(|_| format!("'{word}' is no port"));
                ports.extend(values.keep(line, parsed));
            }
        }
        Proxies {
            networks: values.networks("proxy_networks"),
            ports,
            wait: Duration::from_secs(values.number("proxy_timeout")),
        }
    }

    /// Whether a connection from `peer` to this local port begins with a header.
    pub fn is_one(&self, peer: IpAddr, port: u16) -> bool {
        self.networks.contains(peer) && (self.ports.is_empty() || self.ports.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Lines, Settings};
    use std::net::Ipv4Addr;

    #[test]
    fn proxies_are_known_by_address_and_port() {
        let source = |name: &str| match name {
            "proxy_networks" => Lines::of(name, ["192.0.2.0/28", "::1"]),
            "proxy_ports" => Lines::of(name, ["25 465", "2525", "http"]),
            _ => Lines::empty(),
        };
        let (settings, faults) = Settings::read(&source);
        let is_one = |ip: &str, port| settings.proxies.is_one(ip.parse().expect("an address"), port);
        assert!(is_one("192.0.2.1", 25) && is_one("::1", 2525) && is_one("::ffff:192.0.2.1", 465));
        assert!(!is_one("192.0.2.1", 26) && !is_one("192.0.2.16", 25));
        assert_eq!(faults.len(), 1, "{faults:?}");
        let none = Settings::default().proxies;
        assert!(!none.is_one(Ipv4Addr::LOCALHOST.into(), 25) && none.wait == Duration::from_secs(5));
    }
}
