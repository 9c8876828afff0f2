//! Options that limit how many sessions there may be at a time.

use std::str::FromStr;

use clap::Args;

use crate::prefork::Plan;

/// Limits besides that per address, which has its own default in each daemon.
#[derive(Args, Debug)]
pub(super) struct Bounds {
    /// Bits by which IPv6 addresses count as one client
    #[arg(long, value_name = "BITS", default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=128), help_heading = "Limits")]
    ipv6_prefix: u8,

    /// Sessions that one network may have at a time; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Limits")]
    max_from_net: u32,

    /// Bits of IPv4 and of IPv6 addresses that are their network
    #[arg(long, value_name = "BITS,BITS", default_value = "24,48", help_heading = "Limits")]
    net_prefix: Prefixes,

    /// Sessions that may come by one listening address at a time; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Limits")]
    max_per_listener: u32,
}

/// Lengths of the networks of either family, as written: `24,48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefixes(u8, u8);

impl FromStr for Prefixes {
    type Err = String;

    fn from_str(text: &str) -> Result<Prefixes, String> {
        let wrong = || format!("'{text}' is not two numbers of bits such as 24,48");
        let (four, six) = text.split_once(',').ok_or_else(wrong)?;
        match (four.trim().parse(), six.trim().parse()) {
            (Ok(four @ 1..=32), Ok(six @ 1..=128)) => Ok(Prefixes(four, six)),
            _ => Err(wrong()),
        }
    }
}

impl Bounds {
    /// Writes them into the plan.
    pub(super) fn limit(&self, plan: Plan) -> Plan {
        Plan {
            ipv6_prefix: self.ipv6_prefix,
            max_from_net: self.max_from_net,
            net_prefixes: (self.net_prefix.0, self.net_prefix.1),
            max_per_listener: self.max_per_listener,
            ..plan
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_a_length_in_either_family() {
        assert_eq!("16,32".parse(), Ok(Prefixes(16, 32)));
        assert_eq!("32, 128".parse(), Ok(Prefixes(32, 128)));
        for bad in ["24", "24,", "0,48", "33,48", "24,129", "24,48,64", "a,b"] {
            assert!(bad.parse::<Prefixes>().is_err(), "{bad}");
        }
    }
}
