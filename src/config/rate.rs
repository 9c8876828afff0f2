//! Rates of events and the networks they are counted by: the settings connection_rate and its kin.

use std::net::IpAddr;
use std::time::Duration;

use super::networks::Networks;
use super::values::{Values, default};

/// So many events in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, from 1 to 65535.
    pub events: u32,
    /// In how long.
    pub within: Duration,
}

impl Rate {
    /// Reads `N/SECONDS`, or `N` for so many in a minute; none for 0.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Rate>, String> {
        let wrong = || format!("'{text}' is no rate such as 60/60 (events, seconds)");
        let (events, seconds) = text.split_once('/').unwrap_or((text, "60"));
        let events: u32 = events.trim().parse().map_err(|_| wrong())?;
        let seconds: u64 = seconds.trim().parse().map_err(|_| wrong())?;
        if events > 65_535 || seconds == 0 || seconds > 86_400 {
            return Err(format!("'{text}': at most 65535 events in at most 86400 seconds"));
        }
        let within = Duration::from_secs(seconds);
        Ok((events > 0).then_some(Rate { events, within }))
    }
}

/// The rates that hold for a network of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Connections.
    pub connections: Option<Rate>,
    /// Transactions begun.
    pub messages: Option<Rate>,
    /// RCPT commands.
    pub recipients: Option<Rate>,
    /// Commands answered by 5xx.
    pub errors: Option<Rate>,
    /// Logins that fail.
    pub auth_failures: Option<Rate>,
    /// Clients for whom no rate holds.
    pub exempt: Networks,
    prefixes: (u8, u8),
}

impl Rates {
    pub(super) fn read(values: &mut Values) -> Rates {
        Rates {
            connections: rate(values, "connection_rate"),
            messages: rate(values, "message_rate"),
            recipients: rate(values, "recipient_rate"),
            errors: rate(values, "error_rate"),
            auth_failures: rate(values, "auth_failure_rate"),
            exempt: values.networks("rate_exempt"),
            prefixes: prefixes(values),
        }
    }

    /// The network of an address as a number: its leading bits.
    pub fn network(&self, ip: IpAddr) -> u128 {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                u128::from(ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.prefixes.0)).unwrap_or(0))
            }
            IpAddr::V6(ip) => ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.prefixes.1)).unwrap_or(0),
        }
    }
}

impl Rates {
    /// A network in words, as [`Rates::network`] gives it.
    pub fn show(&self, network: u128) -> String {
        let (ip, bits, all) = match u32::try_from(network) {
            Ok(four) => (IpAddr::from(four.to_be_bytes()), self.prefixes.0, 32),
            Err(_) => (IpAddr::from(network.to_be_bytes()), self.prefixes.1, 128),
        };
        match bits == all {
            true => ip.to_string(),
            false => format!("{ip}/{bits}"),
        }
    }

    /// The leading bits of IPv4 and of IPv6 addresses that are their network.
    pub fn prefixes(&self) -> (u8, u8) {
        self.prefixes
    }
}

fn rate(values: &mut Values, name: &str) -> Option<Rate> {
    let fallback = Rate::parse(default(name)).ok().flatten();
    let Some(line) = values.first(name) else {
        return fallback;
    };
    let parsed = Rate::parse(&line);
    values.keep(&line, parsed).unwrap_or(fallback)
}

fn prefixes(values: &mut Values) -> (u8, u8) {
    let parse = |text: &str| {
        let (four, six) = text.split_once(|c: char| c.is_whitespace())?;
        let (four, six) = (four.parse().ok()?, six.trim().parse().ok()?);
        (four <= 32 && six <= 128).then_some((four, six))
    };
    let Some(line) = values.first("rate_networks") else {
        return (32, 64);
    };
    let parsed = parse(&line).ok_or_else(|| format!("'{line}' is not two numbers of bits such as 32 64"));
    values.keep(&line, parsed).unwrap_or((32, 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Lookup, Settings};

    #[test]
    fn rates_are_events_and_seconds() {
        let rate = |events, seconds| {
            Ok(Some(Rate {
                events,
                within: Duration::from_secs(seconds),
            }))
        };
        assert_eq!(Rate::parse("60/3600"), rate(60, 3600));
        assert_eq!(Rate::parse("5"), rate(5, 60));
        assert_eq!(Rate::parse("0"), Ok(None));
        for bad in ["", "x", "5/", "5/0", "70000/60", "-1/60", "5/60/7"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_leading_bits() {
        let lookup = Lookup::in_memory();
        lookup.set("rate_networks", &["24 48"]);
        let settings = Settings::read(&|name| lookup.lines(name)).0;
        let network = |ip: &str| settings.rates.network(ip.parse().expect("an address"));
        assert_eq!(network("192.0.2.7"), network("192.0.2.200"));
        assert_eq!(network("::ffff:192.0.2.7"), network("192.0.2.200"));
        assert_ne!(network("192.0.2.7"), network("192.0.3.7"));
        assert_eq!(network("2001:db8:1::1"), network("2001:db8:1:ff::1"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
        let shown = |ip: &str| settings.rates.show(network(ip));
        assert_eq!(shown("192.0.2.7"), "192.0.2.0/24");
        assert_eq!(shown("2001:db8:1:ff::1"), "2001:db8:1::/48");
    }
}
