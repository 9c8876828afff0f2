//! One seat of the scoreboard: who sits there and what the session is at.

mod admission;

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

pub(super) use admission::{Bound, Census, Client, Grouping, Limits, PATIENCE, admit, readmit};

/// Nobody sits here.
const FREE: u64 = 0;
/// The address is written, the ticket not yet.
const ARRIVING: u64 = 1;
/// The ticket is drawn, the decision is not made.
const WAITING: u64 = 2;
/// The session is on.
const ADMITTED: u64 = 3;
/// The session is on, and its client turns out to be another; whether that one may come in is not decided.
const MOVING: u64 = 4;

/// One session's entry in the scoreboard. Only the worker that owns it writes it, except that the
/// master clears it after that worker's death.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Seat {
    /// Ticket in the upper 56 bits, phase in the lower 8. A seat draws a new ticket for every client, so
    /// that an unchanged word means unchanged fields.
    word: AtomicU64,
    /// The peer's address, IPv4 as `::ffff:a.b.c.d`: upper half.
    high: AtomicU64,
    /// Lower half.
    low: AtomicU64,
    /// The peer's port in the lower 16 bits, above them the mark of the listener it came by.
    port: AtomicU64,
    /// The session's number, the ticket with which it came; the ticket is another when the client has turned out to be
    /// another.
    number: AtomicU64,
    /// When the session began, milliseconds since the scoreboard was made.
    since: AtomicU64,
    /// What the session is at, and since when; see [`Doing`].
    stage: AtomicU64,
    /// What runs for it, and since when.
    task: AtomicU64,
    /// The ticket of the client that has to go.
    unwanted: AtomicU64,
    /// The message that is being decided, as a number that its owner understands; 0 for none.
    message: AtomicU64,
}

/// Something a session does, as a number that its owner understands; 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// What.
    pub what: u16,
    /// Since when, milliseconds since the scoreboard was made.
    pub since: u64,
}

impl Doing {
    fn word(self) -> u64 {
        u64::from(self.what) << 48 | self.since & 0xffff_ffff_ffff
    }

    fn of(word: u64) -> Doing {
        Doing {
            what: (word >> 48) as u16,
            since: word & 0xffff_ffff_ffff,
        }
    }
}

/// What a seat held when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The session's number, unique in the life of this daemon, upgrades included.
    pub number: u64,
    /// The client.
    pub peer: SocketAddr,
    /// When it was let in, milliseconds since the scoreboard was made.
    pub since: u64,
}

impl Seat {
    /// Who sits here, if anyone who was let in does.
    pub fn occupant(&self) -> Option<Occupant> {
        loop {
            let word = self.word.load(SeqCst);
            if !matches!(word & 0xff, ADMITTED | MOVING) {
                return None;
            }
            let ip = Ipv6Addr::from_bits(self.address()).to_canonical();
            let port = self.port.load(SeqCst) as u16;
            let (number, since) = (self.number.load(SeqCst), self.since.load(SeqCst));
            if self.word.load(SeqCst) == word {
                return Some(Occupant {
                    number,
                    peer: SocketAddr::new(ip, port),
                    since,
                });
            }
        }
    }

    /// The mark of the listener that the client came by.
    pub(super) fn listener(&self) -> u64 {
        self.port.load(SeqCst) >> 16
    }

    /// Says what the session is at.
    pub(super) fn set_stage(&self, doing: Doing) {
        self.stage.store(doing.word(), Relaxed);
    }

    /// Says what runs for the session.
    pub(super) fn set_task(&self, doing: Doing) {
        self.task.store(doing.word(), Relaxed);
    }

    /// Says which message is being decided.
    pub(super) fn set_message(&self, fingerprint: u64) {
        self.message.store(fingerprint, Relaxed);
    }

    /// The message that is being decided; 0 for none.
    pub fn message(&self) -> u64 {
        self.message.load(Relaxed)
    }

    /// What the session is at.
    pub fn stage(&self) -> Doing {
        Doing::of(self.stage.load(Relaxed))
    }

    /// What runs for the session.
    pub fn task(&self) -> Doing {
        Doing::of(self.task.load(Relaxed))
    }

    /// Wants the session of this number to end, if it still sits here.
    pub(super) fn dismiss(&self, ticket: u64) {
        self.unwanted.store(ticket, SeqCst);
    }

    /// Whether the session of this number has to end.
    pub(super) fn is_unwanted(&self, ticket: u64) -> bool {
        self.unwanted.load(SeqCst) == ticket
    }

    /// Makes the seat free.
    pub(super) fn clear(&self) {
        self.stage.store(0, Relaxed);
        self.task.store(0, Relaxed);
        self.message.store(0, Relaxed);
        let word = self.word.load(SeqCst);
        self.word.store(word & !0xff | FREE, SeqCst);
    }

    fn address(&self) -> u128 {
        u128::from(self.high.load(SeqCst)) << 64 | u128::from(self.low.load(SeqCst))
    }

    /// Phase, ticket, address and listener as they were together at one moment.
    fn read(&self) -> (u64, u64, u128, u64) {
        loop {
            let word = self.word.load(SeqCst);
            let (address, listener) = (self.address(), self.port.load(SeqCst) >> 16);
            if self.word.load(SeqCst) == word {
                return (word & 0xff, word >> 8, address, listener);
            }
            std::hint::spin_loop();
        }
    }
}
