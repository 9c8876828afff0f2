//! Lists of addresses and networks.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of addresses and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether the address lies in one of them. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// A list of these.
    pub fn of(networks: impl IntoIterator<Item = IpNet>) -> Networks {
        Networks(networks.into_iter().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The network or the single address that a word names; host bits are tolerated.
    pub fn parse(word: &str) -> Option<IpNet> {
        let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
        word.parse::<IpNet>()
            .ok()
            .or_else(|| address(word))
            .map(|network| network.trunc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_addresses_of_both_families() {
        let words = ["192.0.2.77/24", "2001:db8::1", "::ffff:198.51.100.1"];
        let networks = Networks::of(words.iter().filter_map(|word| Networks::parse(word)));
        let inside = |text: &str| networks.contains(text.parse().expect("an address"));
        assert!(inside("192.0.2.1") && inside("::ffff:192.0.2.1") && inside("198.51.100.1") && inside("2001:db8::1"));
        assert!(!inside("192.0.3.1") && !inside("2001:db8::2"));
    }

    #[test]
    fn other_words_are_none() {
        for word in ["300.1.1.1", "192.0.2.0/33", "reject", "192.0.2.", ""] {
            assert_eq!(Networks::parse(word), None, "{word}");
        }
    }
}
