//! The limits of sessions, as the command line sets them, and what is said of them.

use std::fmt;
use std::net::IpAddr;

use super::Refusal;
use super::seat::{Bound, Limits};

/// The limits of sessions at a time; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub(super) address: u32,
    pub(super) network: u32,
    pub(super) listener: u32,
}

impl Bounds {
    /// Those that hold for a client.
    pub(super) fn limits(self, exempt: bool) -> Limits {
        let set = |limit: u32| (limit > 0).then_some(limit);
        let unless_exempt = |limit: u32| set(limit).filter(|_| !exempt);
        Limits {
            address: unless_exempt(self.address),
            network: unless_exempt(self.network),
            listener: set(self.listener),
        }
    }

    /// Why a client is sent away for one of them.
    pub(super) fn refusal(self, bound: Bound, ip: IpAddr) -> Refusal {
        match bound {
            Bound::Address => Refusal::PerAddress {
                ip,
                limit: self.address,
            },
            Bound::Network => Refusal::PerNetwork {
                ip,
                limit: self.network,
            },
            Bound::Listener => Refusal::PerListener { limit: self.listener },
        }
    }
}

/// The limit, as the log names it; nothing for refusals that are about no limit.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::PerAddress { limit, .. } => write!(f, "limit max-from-ip {limit}"),
            Refusal::PerNetwork { limit, .. } => write!(f, "limit max-from-net {limit}"),
            Refusal::PerListener { limit } => write!(f, "limit max-per-listener {limit}"),
            Refusal::ShuttingDown | Refusal::Paused => Ok(()),
        }
    }
}
