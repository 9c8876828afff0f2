//! What only this server knows, so that it can give users whom nobody knows a salt that is always the same.
//!
//! It is made of the file scram_secret, or else of the identity that systemd gave this machine, which no client can
//! know either; where there is neither it is random, and the same until the daemon starts anew.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::config::Lookup;
use crate::plugin::random_bytes;

/// The secret; in a daemon to be asked for before the first worker is forked, so that all have the same.
pub(super) fn of(lookup: &Lookup) -> [u8; 32] {
    static RANDOM: OnceLock<[u8; 32]> = OnceLock::new();
    let own: Vec<String> = lookup
        .lines("scram_secret")
        .iter()
        .map(|line| line.to_string())
        .collect();
    let known = match own.is_empty() {
        false => Some(own.join("\n")),
        true => std::fs::read_to_string("/etc/machine-id")
            .ok()
            .map(|id| id.trim().to_owned()),
    };
    match known.filter(|known| known.len() >= 16) {
        // the machine's identity must not be used as it is (machine-id(5))
        Some(known) => Sha256::digest(format!("qpsmtpd scram salt\0{known}")).into(),
        None => *RANDOM.get_or_init(random_bytes),
    }
}
