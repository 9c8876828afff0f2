//! Lists of hosts: addresses, networks, and the beginnings of addresses (catalogue 13.1, 13.8).
//!
//! Every form that an entry may have is a number of leading bits, so that a list becomes one hash table for each
//! length in use, and a search costs one probe for each, however long the list is. An IPv4 address mapped into IPv6
//! is that IPv4 address; the two families do not mix otherwise: `::/0` is no IPv4 host.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Line, Lines};

/// The bits of an address; IPv4 lies in `::ffff:0:0/96`.
const V4: u8 = 96;

/// Hosts, each entry with something that belongs to it.
#[derive(Debug)]
pub struct Hosts<T> {
    /// By number of leading bits: those bits, and the entry's place in `values`.
    tables: Vec<(u8, HashMap<u128, usize>)>,
    values: Vec<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Hosts {
            tables: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<T> Hosts<T> {
    /// Adds an entry; of several that fit an address, the first one added counts.
    ///
    /// An entry is an address, a network (`192.0.2.0/24`; host bits are tolerated), the first octets of an IPv4
    /// address with a dot behind them (`192.0.2.`), the first groups of an IPv6 address with a colon behind them
    /// (`2001:db8:`), or its first nibbles, with the zeros that lead a group written out (`2001:0db8:f`).
    /// What comes back on success may be a remark about an entry that probably means something else.
    ///
    /// # Errors
    /// Why the entry is none of these.
    pub fn add(&mut self, entry: &str, value: T) -> Result<Option<String>, String> {
        let (start, bits) = parse(entry)?;
        let at = self.values.len();
        self.values.push(value);
        let table = match self.tables.iter().position(|(length, _)| *length == bits) {
            Some(known) => &mut self.tables[known].1,
            None => {
                self.tables.push((bits, HashMap::new()));
                let last = self.tables.len() - 1;
                &mut self.tables[last].1
            }
        };
        table.entry(start & mask(bits)).or_insert(at);
        Ok(entry.ends_with("::").then(|| {
            let groups = &entry[..entry.len() - 1];
            format!("'{entry}' is taken as a single address; '{groups}' would be all addresses that begin so")
        }))
    }

    /// What belongs to the first entry that fits.
    pub fn find(&self, ip: IpAddr) -> Option<&T> {
        let (number, v4) = match ip.to_canonical() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().to_bits(), true),
            IpAddr::V6(ip) => (ip.to_bits(), false),
        };
        let tables = self.tables.iter().filter(|(bits, _)| *bits >= V4 || !v4);
        let first = tables
            .filter_map(|(bits, table)| table.get(&(number & mask(*bits))))
            .min()?;
        self.values.get(*first)
    }
}

impl Hosts<()> {
    /// The hosts that the first words of `lines` name; what is wrong with a line, which is then left out, goes to
    /// `complain`.
    pub fn read(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> Hosts<()> {
        let mut hosts = Hosts::default();
        for line in lines {
            let word = line.words().next().unwrap_or_default();
            if let Some(why) = hosts.add(word, ()).unwrap_or_else(Some) {
                complain(line, why);
            }
        }
        hosts
    }

    /// Whether an address is among them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.find(ip).is_some()
    }
}

/// Calls `known` with every way in which an entry of a list may name `ip`, the closest first, until it says yes;
/// for lists that can only be asked for keys, such as a cdb. IPv6 is asked for in lower case.
pub fn any_name_of(ip: IpAddr, mut known: impl FnMut(&str) -> bool) -> bool {
    let ip = ip.to_canonical();
    let (whole, separator, group) = match ip {
        IpAddr::V4(ip) => (ip.to_string(), '.', 0),
        IpAddr::V6(ip) => (expanded(ip), ':', 4),
    };
    // the ways to end a prefix: at an octet with its dot; at a nibble; at a group with its colon
    let prefixes = (1..whole.len()).rev().filter(|end| {
        let separated = whole[..*end].ends_with(separator);
        separated || group > 0
    });
    known(&whole)
        || (group > 0 && known(&ip.to_string()))
        || prefixes.into_iter().any(|end| known(&whole[..end]))
        || networks_around(ip).any(|network| known(&network))
}

/// `192.0.2.1/32`, `192.0.2.0/31` and so on.
fn networks_around(ip: IpAddr) -> impl Iterator<Item = String> {
    let most = if ip.is_ipv4() { 32 } else { 128 };
    (0..=most).rev().map(move |length| match ip {
        IpAddr::V4(ip) => {
            let bits = u128::from(ip.to_bits()) & mask(V4 + length);
            format!("{}/{length}", Ipv4Addr::from_bits(bits as u32))
        }
        IpAddr::V6(ip) => format!("{}/{length}", Ipv6Addr::from_bits(ip.to_bits() & mask(length))),
    })
}

/// All eight groups with all their digits.
fn expanded(ip: Ipv6Addr) -> String {
    let groups = ip.segments().map(|group| format!("{group:04x}"));
    groups.join(":")
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The leading bits of an entry, and how many they are.
fn parse(entry: &str) -> Result<(u128, u8), String> {
    if let Some((address, length)) = entry.split_once('/') {
        let ip: IpAddr = address.parse().map_err(|_| format!("'{address}' is no address"))?;
        let (most, before) = if ip.is_ipv4() { (32, V4) } else { (128, 0) };
        return match length.parse::<u8>() {
            Ok(bits) if bits <= most => Ok((number(ip), before + bits)),
            _ => Err(format!("'/{length}' is no length of a network, 0 to {most}")),
        };
    }
    if let Ok(ip) = entry.parse::<IpAddr>() {
        return Ok((number(ip), 128));
    }
    let prefix = match entry.strip_suffix('.') {
        Some(octets) => octets_of(octets),
        None if entry.contains(':') => groups_of(entry),
        None => None,
    };
    prefix.ok_or_else(|| match octets_of(entry) {
        Some(_) => format!("'{entry}' is no address; with a dot behind it, it is the beginning of one"),
        None => format!("'{entry}' is neither an address, nor a network, nor the beginning of an address"),
    })
}

/// One to three octets.
fn octets_of(text: &str) -> Option<(u128, u8)> {
    let (mut octets, mut count) = ([0; 4], 0);
    for part in text.split('.') {
        *octets.get_mut(count).filter(|_| count < 3)? = part.parse().ok()?;
        count += 1;
    }
    Some((number(Ipv4Addr::from(octets).into()), V4 + 8 * count as u8))
}

/// Groups of hexadecimal digits; behind the last colon stand the first nibbles of the next group.
fn groups_of(text: &str) -> Option<(u128, u8)> {
    let (mut bits, mut count) = (0_u128, 0);
    let last = text.split(':').count() - 1;
    for (at, part) in text.split(':').enumerate() {
        if part.is_empty() && at == last {
            break;
        }
        let sound = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let nibbles = if at == last { part.len() } else { 4 };
        count += 4 * nibbles;
        if !sound || count > 128 {
            return None;
        }
        bits |= u128::from_str_radix(part, 16).ok()? << (128 - count);
    }
    Some((bits, count as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(entry: &str, ip: &str) -> bool {
        let mut hosts = Hosts::default();
        assert!(hosts.add(entry, ()).is_ok(), "{entry}");
        hosts.contains(ip.parse().unwrap())
    }

    #[test]
    fn entries_of_every_form() {
        for (entry, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.1", "::ffff:192.0.2.1", "::192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.", "192.0.2.255", "192.0.20.1"),
            ("192.", "192.255.0.0", "193.0.0.0"),
            ("192.0.2.0/24", "192.0.2.0", "192.0.3.0"),
            ("192.0.2.77/24", "192.0.2.255", "192.0.1.255"),
            ("192.0.2.4/31", "192.0.2.5", "192.0.2.6"),
            ("192.0.2.4/32", "192.0.2.4", "192.0.2.5"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("2001:DB8::1", "2001:db8::1", "2001:db8::2"),
            ("2001:db8:", "2001:db8:ffff::1", "2001:db80::1"),
            ("2001:0db8:f", "2001:db8:f123::1", "2001:db8:e000::1"),
            ("2001:0db8:00", "2001:db8:a1::1", "2001:db8:1a1::1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("1:2:3:4:5:6:7:", "1:2:3:4:5:6:7:9", "1:2:3:4:5:6:8:9"),
        ] {
            assert!(fits(entry, inside), "{entry} {inside}");
            assert!(!fits(entry, outside), "{entry} {outside}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for entry in [
            "",
            ".",
            ":",
            "::1:",
            "192.0.2",
            "192.0.2.1.",
            "256.",
            "192.0.2.0/33",
            "2001:db8::/129",
            "192.0.2.0/-1",
            "host.example",
            "2001",
            "2001:12345:",
            "1:2:3:4:5:6:7:8:9",
            "192.0.2.0/24/24",
            "g:",
        ] {
            assert!(Hosts::default().add(entry, ()).is_err(), "{entry}");
        }
        let hint = Hosts::default().add("192.0.2", ()).unwrap_err();
        assert!(hint.contains("with a dot behind it"), "{hint}");
        let remark = Hosts::default().add("2001:db8::", ()).unwrap().unwrap();
        assert!(remark.contains("'2001:db8:' would be"), "{remark}");
    }

    #[test]
    fn the_first_entry_counts() {
        let mut hosts = Hosts::default();
        for (entry, value) in [
            ("192.0.2.1", 1),
            ("192.0.2.0/24", 2),
            ("192.0.2.2", 3),
            ("192.0.2.1", 4),
        ] {
            assert_eq!(hosts.add(entry, value), Ok(None));
        }
        let find = |ip: &str| hosts.find(ip.parse().unwrap()).copied();
        assert_eq!(find("192.0.2.1"), Some(1));
        assert_eq!(find("192.0.2.2"), Some(2));
        assert_eq!(find("192.0.3.2"), None);
    }

    #[test]
    fn bad_lines_are_told_and_left_out() {
        let mut told = Vec::new();
        let lines = Lines::of("x", ["192.0.2.1 a text", "nonsense", "10."]);
        let hosts = Hosts::read(&lines, &mut |line, why| told.push(format!("{}: {why}", line.place)));
        assert!(hosts.contains("192.0.2.1".parse().unwrap()));
        assert!(hosts.contains("10.1.1.1".parse().unwrap()));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("config/x:2: 'nonsense' is neither"), "{told:?}");
    }

    #[test]
    fn keys_that_may_name_a_host() {
        let named = |ip: &str, key: &str| any_name_of(ip.parse().unwrap(), |name| name == key);
        for key in [
            "192.0.2.1",
            "192.0.2.",
            "192.0.",
            "192.",
            "192.0.2.0/24",
            "192.0.2.1/32",
            "0.0.0.0/0",
        ] {
            assert!(named("192.0.2.1", key), "{key}");
        }
        for key in ["192.0.2", "192.0.2.1/24", "19", "", "192.0.3."] {
            assert!(!named("192.0.2.1", key), "{key}");
        }
        for key in [
            "2001:db8::1",
            "2001:0db8:0000:0000:0000:0000:0000:0001",
            "2001:0db8:",
            "2001:0db8",
            "2001:0d",
            "2001:db8::/32",
        ] {
            assert!(named("2001:db8::1", key), "{key}");
        }
        assert!(!named("2001:db8::1", "2001:0db9"));
    }
}
