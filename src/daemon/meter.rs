//! The rates of networks of clients: sessions ask, the shared memory of prefork counts.

use std::io;
use std::time::Duration;

use crate::config::Rate;
use crate::prefork::{Counted, Heritage, Keepsake, Limit, Rates};
use crate::session::services::{Event, Meter};

/// How many networks can be kept in mind at a time; each takes memory only when it is there.
const KEYS: usize = 1 << 18;

/// Counts for all workers together.
pub(super) struct SharedMeter(Rates);

impl SharedMeter {
    /// To be made before the first worker is forked. Goes on with what a former master has counted; what is to be
    /// kept for the next one comes with it.
    pub(super) fn kept(heritage: Option<&mut Heritage>) -> io::Result<(SharedMeter, Keepsake)> {
        let left = heritage.and_then(|heritage| heritage.kept("rates"));
        let (rates, keepsake) = Rates::kept("rates", KEYS, left)?;
        Ok((SharedMeter(rates), keepsake))
    }
}

impl SharedMeter {
    /// The networks with most events in the time of a rate, so many at most.
    pub(super) fn heaviest(&self, what: Event, rate: Rate, most: usize) -> Vec<(u128, u32)> {
        self.0.heaviest(what as u8, rate.within, most)
    }
}

impl Meter for SharedMeter {
    fn admit(&self, what: Event, network: u128, rate: Rate) -> bool {
        let limit = Limit {
            events: rate.events,
            within: rate.within,
        };
        // a full table lets pass: it takes a flood of networks, which no limit of one of them can stop
        self.0.admit((what as u8, network), 1, limit) != Counted::Exceeded
    }

    fn count(&self, what: Event, network: u128, rate: Rate) -> bool {
        self.add(what, network, rate.within) <= rate.events
    }

    fn add(&self, what: Event, network: u128, within: Duration) -> u32 {
        self.0.count((what as u8, network), 1, within);
        self.0.level((what as u8, network), within)
    }

    fn reached(&self, what: Event, network: u128, rate: Rate) -> bool {
        self.0.level((what as u8, network), rate.within) >= rate.events
    }
}
