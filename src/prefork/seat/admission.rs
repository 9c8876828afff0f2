//! The rule by which a client is let in.
//!
//! The limits of sessions per address, per network and per listener are exact: never one too many, and nobody refused
//! for the sake of a client that is not let in itself. Clients who count under the same limit are decided in the
//! order of their tickets, as in a bakery: a seat first says whose it is, then draws a number, then waits until
//! everyone with a smaller number has been decided, and then counts those that are in. There are no locks; one that
//! dies between two steps is cleared by the master, and the wait for it is bounded.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{ADMITTED, ARRIVING, FREE, MOVING, Seat, WAITING};

/// How long to wait for a seat under the same limit that makes no progress; it is then counted as in, and somebody may
/// be refused without need. Only a process that was stopped within a few instructions makes anyone wait so long, or one
/// that does not get the processor on a machine that has far too much to do; the seat of one that is dead is cleared.
pub(in super::super) const PATIENCE: Duration = Duration::from_secs(15);

/// How often to look again at once before giving the processor away for longer.
const EAGER_LOOKS: u32 = 64;

/// A client who wants a seat.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Client {
    pub peer: SocketAddr,
    /// The listener it came by, as a number below 2^48.
    pub listener: u64,
    /// Milliseconds since the scoreboard was made.
    pub now: u64,
    /// How long it waits for those who came before it.
    pub patience: Duration,
}

/// How many sessions there may be at a time; none for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Limits {
    /// Of one address.
    pub address: Option<u32>,
    /// Of one network.
    pub network: Option<u32>,
    /// By one listener.
    pub listener: Option<u32>,
}

/// One of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Bound {
    Address,
    Network,
    Listener,
}

/// How many there were when a client was let in or not; never counting the client itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Census {
    /// The number drawn.
    pub ticket: u64,
    /// Sessions of the same address.
    pub same: u32,
    /// Sessions of the same network.
    pub network: u32,
    /// Sessions by the same listener.
    pub listener: u32,
    /// All sessions.
    pub all: u32,
    /// The limit that keeps the client out.
    pub exceeded: Option<Bound>,
}

impl Census {
    /// Whether the client is in.
    pub fn admitted(&self) -> bool {
        self.exceeded.is_none()
    }

    fn exceeds(&self, limits: Limits) -> Option<Bound> {
        let bounds = [
            (Bound::Address, self.same, limits.address),
            (Bound::Network, self.network, limits.network),
            (Bound::Listener, self.listener, limits.listener),
        ];
        let full = |(_, there, limit): &(Bound, u32, Option<u32>)| limit.is_some_and(|limit| *there >= limit);
        bounds.into_iter().find(full).map(|(bound, ..)| bound)
    }
}

/// The leading bits of addresses (as `number` gives them) that count.
#[derive(Clone, Copy, Debug)]
struct Masks {
    four: u128,
    six: u128,
}

impl Masks {
    fn of(four: u8, six: u8) -> Self {
        let mask = |bits: u8| u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
        Self {
            four: mask(96 + four.min(32)),
            six: mask(six),
        }
    }

    fn key(self, address: u128) -> u128 {
        match address >> 32 {
            0xffff => address & self.four,
            _ => address & self.six,
        }
    }
}

/// Which addresses count as one client, and which as one network.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Grouping {
    client: Masks,
    network: Masks,
}

impl Grouping {
    /// Counts IPv4 clients by their whole address, IPv6 clients by their first `prefix` bits (0 to 128); and
    /// networks by so many bits of either.
    pub fn new(prefix: u8, (four, six): (u8, u8)) -> Self {
        Self {
            client: Masks::of(32, prefix),
            network: Masks::of(four, six),
        }
    }
}

impl Seat {
    /// Says whose the seat is.
    fn write(&self, client: Client) {
        let (address, listener) = (number(client.peer.ip()), client.listener);
        self.high.store((address >> 64) as u64, SeqCst);
        self.low.store(address as u64, SeqCst);
        self.port.store(listener << 16 | u64::from(client.peer.port()), SeqCst);
    }
}

impl Grouping {
    /// The client, and the network, that an address counts as.
    pub fn of(self, ip: IpAddr) -> (IpAddr, IpAddr) {
        let shown = |key: u128| Ipv6Addr::from_bits(key).to_canonical();
        let address = number(ip);
        (shown(self.client.key(address)), shown(self.network.key(address)))
    }
}

/// An address as one number, IPv4 as `::ffff:a.b.c.d`.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// What two clients have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Common {
    address: bool,
    network: bool,
    listener: bool,
}

impl Common {
    /// Whether the other client counts under one of the limits.
    fn counts(self, limits: Limits) -> bool {
        self.address || self.network && limits.network.is_some() || self.listener && limits.listener.is_some()
    }
}

/// Lets `client` in at `seat` unless a limit keeps it out; then the seat is free again on return. `others` is asked for
/// the other seats when this one has drawn its ticket; those that nobody has used until then may be missing.
pub(in super::super) fn admit<'a>(
    seat: &Seat,
    others: impl Iterator<Item = &'a Seat>,
    tickets: &AtomicU64,
    group: Grouping,
    client: Client,
    limits: Limits,
) -> Census {
    let before = seat.word.load(SeqCst) >> 8;
    // Say whose the seat is before drawing the number: whoever draws a later one then sees us.
    seat.write(client);
    seat.since.store(client.now, SeqCst);
    seat.word.store(before << 8 | ARRIVING, SeqCst);
    let ticket = tickets.fetch_add(1, SeqCst) + 1;
    seat.number.store(ticket, SeqCst);
    seat.word.store(ticket << 8 | WAITING, SeqCst);
    decide(seat, others, ticket, group, client, limits)
}

/// Lets the client at `seat`, who is in already, stay as that of `peer`, who it has turned out to be, unless a limit keeps
/// that one out; then the seat is free. The limit of the listener has been kept when the client came.
///
/// The seat counts at its listener all the while, and for its address as one that waits in the order of a new ticket.
pub(in super::super) fn readmit<'a>(
    seat: &Seat,
    others: impl Iterator<Item = &'a Seat>,
    tickets: &AtomicU64,
    group: Grouping,
    peer: SocketAddr,
    limits: Limits,
) -> Census {
    let client = Client {
        peer,
        listener: seat.port.load(SeqCst) >> 16,
        now: seat.since.load(SeqCst),
        patience: PATIENCE,
    };
    let before = seat.word.load(SeqCst) >> 8;
    seat.word.store(before << 8 | MOVING, SeqCst);
    // Who reads half of an address now only waits, or has a lower number than the one that is drawn next.
    seat.write(client);
    let ticket = tickets.fetch_add(1, SeqCst) + 1;
    seat.word.store(ticket << 8 | MOVING, SeqCst);
    let limits = Limits {
        listener: None,
        ..limits
    };
    decide(seat, others, ticket, group, client, limits)
}

/// Counts those that are in, and lets the client in or not.
fn decide<'a>(
    seat: &Seat,
    others: impl Iterator<Item = &'a Seat>,
    ticket: u64,
    group: Grouping,
    client: Client,
    limits: Limits,
) -> Census {
    let (address, listener) = (number(client.peer.ip()), client.listener);
    let (own, network) = (group.client.key(address), group.network.key(address));
    let common = |theirs: u128, by: u64| Common {
        address: group.client.key(theirs) == own,
        network: group.network.key(theirs) == network,
        listener: by == listener,
    };
    let mut census = Census {
        ticket,
        ..Census::default()
    };
    let mut until = (client.patience, None);
    for other in others.filter(|other| !std::ptr::eq(*other, seat)) {
        let Some(common) = decided(other, ticket, limits, common, &mut until) else {
            continue;
        };
        census.all += 1;
        census.same += u32::from(common.address);
        census.network += u32::from(common.network);
        census.listener += u32::from(common.listener);
    }
    census.exceeded = census.exceeds(limits);
    let phase = if census.admitted() { ADMITTED } else { FREE };
    seat.word.store(ticket << 8 | phase, SeqCst);
    census
}

/// Waits until the other seat, if it counts under a limit and came first, has been decided; none if nobody is in.
fn decided(
    other: &Seat,
    ticket: u64,
    limits: Limits,
    common: impl Fn(u128, u64) -> Common,
    (patience, until): &mut (Duration, Option<Instant>),
) -> Option<Common> {
    let mut looks = 0;
    loop {
        let (phase, theirs, address, listener) = other.read();
        if phase == FREE {
            return None;
        }
        let common = common(address, listener);
        match phase {
            ADMITTED => return Some(common),
            WAITING if theirs < ticket && common.counts(limits) => {}
            ARRIVING if common.counts(limits) => {}
            MOVING => {
                let counts = common.address || common.network && limits.network.is_some();
                if theirs > ticket || !counts {
                    return Some(Common {
                        listener: common.listener,
                        ..Common::default()
                    });
                }
            }
            _ => return None,
        }
        if Instant::now() >= *until.get_or_insert_with(|| Instant::now() + *patience) {
            return Some(common);
        }
        looks += 1;
        match looks {
            0..EAGER_LOOKS => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(20)),
        }
    }
}

#[cfg(test)]
mod tests;
