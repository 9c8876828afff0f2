//! The scoreboard: what master and workers know of each other, in memory that all of them share.
//!
//! It is made before the first fork. A worker writes only its own row and seats, the master clears
//! those of the workers it has reaped; every field is an atomic and nobody ever waits for a lock.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::Fallen;
use super::house::Gate;
use super::pool::Present;
use super::seat::{Census, Client, Doing, Grouping, Limits, Seat, admit};
use super::sys::Shared;

/// What all processes share once.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Head {
    /// The last session number given.
    tickets: AtomicU64,
    /// Connections that were refused by a limit of sessions.
    refused: AtomicU64,
    /// Whether a worker has told what of its confinement this kernel cannot do.
    told: AtomicU64,
    /// Whether new clients are served, see [`Gate`].
    gate: AtomicU32,
}

/// One worker's row.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Row {
    pid: AtomicU32,
    generation: AtomicU32,
    state: AtomicU32,
    order: AtomicU32,
    /// When an order must have been carried out, milliseconds since the board was made.
    deadline: AtomicU64,
    served: AtomicU64,
    empty: AtomicU64,
    /// Sessions that are on, of a worker that may have several.
    sessions: AtomicU64,
    /// How many of its seats have been used; those behind are free.
    places: AtomicU64,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// There is no worker here.
    None,
    /// Forked, not yet waiting for connections.
    Starting,
    /// Waiting for a connection.
    Idle,
    /// Serving all the sessions it can.
    Busy,
}

/// What the master wants of a worker. Later ones outrank earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(super) enum Order {
    /// To go on.
    None,
    /// To leave when the present session is over.
    Retire,
    /// To end sessions that are between transactions, and the others until the deadline.
    Finish,
    /// To end at once.
    Now,
}

impl Row {
    pub(super) fn state(&self) -> State {
        match self.state.load(SeqCst) {
            1 => State::Starting,
            2 => State::Idle,
            3 => State::Busy,
            _ => State::None,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u32, SeqCst);
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(SeqCst) {
            0 => Order::None,
            1 => Order::Retire,
            2 => Order::Finish,
            _ => Order::Now,
        }
    }

    /// The worker's process.
    pub(super) fn pid(&self) -> u32 {
        self.pid.load(SeqCst)
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(SeqCst)
    }

    /// Sessions served so far; the worker counts one when it begins.
    pub(super) fn served(&self) -> u64 {
        self.served.load(SeqCst)
    }

    /// Sessions that are on, if this worker may have several; else its state tells.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(SeqCst)
    }

    /// Written by the worker, one thread at a time.
    pub(super) fn set_sessions(&self, on: u64) {
        self.sessions.store(on, SeqCst);
    }

    pub(super) fn count_session(&self) -> u64 {
        self.served.fetch_add(1, SeqCst) + 1
    }

    /// Wake-ups that found no connection to accept.
    pub(super) fn empty(&self) -> u64 {
        self.empty.load(SeqCst)
    }

    pub(super) fn count_empty(&self) {
        self.empty.fetch_add(1, SeqCst);
    }
}

/// The scoreboard.
pub(super) struct Board {
    head: Shared<Head>,
    rows: Shared<Row>,
    seats: Shared<Seat>,
    seats_per_row: usize,
    group: Grouping,
    made: Instant,
}

impl Board {
    /// Whether some worker has asked this before.
    pub(super) fn confinement_was_told(&self) -> bool {
        self.head[0].told.swap(1, SeqCst) == 1
    }

    /// A board for `workers` workers of `sessions` sessions each; IPv6 counted by `prefix` bits.
    pub(super) fn new(workers: usize, sessions: usize, prefix: u8) -> io::Result<Self> {
        Ok(Self {
            head: Shared::new(1)?,
            rows: Shared::new(workers)?,
            seats: Shared::new(workers * sessions)?,
            seats_per_row: sessions,
            group: Grouping::new(prefix, (24, 48)),
            made: Instant::now(),
        })
    }

    /// Counts networks by so many bits of IPv4 and IPv6 addresses; of clients as [`Board::new`] was told.
    pub(super) fn with_networks(mut self, prefix: u8, bits: (u8, u8)) -> Self {
        self.group = Grouping::new(prefix, bits);
        self
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The seat `place` of the worker in row `row`.
    pub(super) fn seat(&self, row: usize, place: usize) -> &Seat {
        &self.seats[row * self.seats_per_row + place]
    }

    /// Writes a new worker into row `row`; called before the fork, so that the child finds it.
    pub(super) fn engage(&self, row: usize, generation: u32) {
        self.clear(row);
        self.rows[row].generation.store(generation, SeqCst);
        self.rows[row].set_state(State::Starting);
    }

    /// Writes the process id of the worker in row `row`; parent and child both do it.
    pub(super) fn set_pid(&self, row: usize, pid: Pid) {
        self.rows[row].pid.store(pid.as_raw().unsigned_abs(), SeqCst);
    }

    /// The sessions of a worker that is no more, before its row is cleared.
    pub(super) fn fallen(&self, row: usize) -> Vec<Fallen> {
        let used = self.rows[row].places.load(SeqCst) as usize;
        let seats = (0..used).map(|place| self.seat(row, place));
        let fallen = |seat: &Seat| {
            Some(Fallen {
                occupant: seat.occupant()?,
                stage: seat.stage().what,
                task: seat.task().what,
                message: seat.message(),
            })
        };
        seats.filter_map(fallen).collect()
    }

    /// Clears row and seats of a worker that is no more.
    pub(super) fn clear(&self, row: usize) {
        for place in 0..self.seats_per_row {
            self.seat(row, place).clear();
        }
        let row = &self.rows[row];
        row.set_state(State::None);
        for field in [&row.pid, &row.generation, &row.order] {
            field.store(0, SeqCst);
        }
        for field in [&row.deadline, &row.served, &row.empty, &row.sessions, &row.places] {
            field.store(0, SeqCst);
        }
    }

    /// How many workers there are, and how many connections they will take. One that has an order takes none, and
    /// all of an old generation have one.
    pub(super) fn present(&self) -> Present {
        self.rows
            .iter()
            .fold(Present::default(), |count, row| match row.state() {
                State::None => count,
                State::Starting | State::Idle if row.order() == Order::None => Present {
                    living: count.living + 1,
                    idle: count.idle + (self.seats_per_row as u32).saturating_sub(row.sessions() as u32),
                },
                _ => Present {
                    living: count.living + 1,
                    ..count
                },
            })
    }

    /// Gives a worker an order, unless a higher one stands; `true` if that is news, of which the worker must still
    /// be told.
    pub(super) fn give(&self, row: usize, order: Order, deadline: Instant) -> bool {
        let row = &self.rows[row];
        if order < row.order() {
            return false;
        }
        let deadline = deadline.saturating_duration_since(self.made).as_millis() as u64;
        let before = row.deadline.swap(deadline, SeqCst);
        let stood = row.order.swap(order as u32, SeqCst);
        stood != order as u32 || (order != Order::Retire && deadline < before)
    }

    /// When the order of this row must have been carried out.
    pub(super) fn deadline(&self, row: usize) -> Instant {
        self.made + Duration::from_millis(self.rows[row].deadline.load(SeqCst))
    }

    /// Milliseconds since the board was made.
    pub(super) fn now(&self) -> u64 {
        self.made.elapsed().as_millis() as u64
    }

    /// Clients refused for the limit of their address.
    pub(super) fn refused(&self) -> u64 {
        self.head[0].refused.load(SeqCst)
    }

    /// All seats, with row and place.
    pub(super) fn all_seats(&self) -> impl Iterator<Item = (usize, usize, &Seat)> {
        let seats = self.seats.iter().enumerate();
        seats.map(|(at, seat)| (at / self.seats_per_row, at % self.seats_per_row, seat))
    }

    /// How many sessions are on.
    pub(super) fn busy(&self) -> usize {
        self.seats.iter().filter(|seat| seat.occupant().is_some()).count()
    }

    /// Whether no session is on.
    pub(super) fn is_empty(&self) -> bool {
        self.seats.iter().all(|seat| seat.occupant().is_none())
    }

    /// Whether new clients are served. A worker asks after it has taken a seat: then either it sees that the gate is
    /// closed, or who has closed it sees the seat.
    pub(super) fn gate(&self) -> Gate {
        match self.head[0].gate.load(SeqCst) {
            0 => Gate::Open,
            1 => Gate::Paused,
            _ => Gate::Draining,
        }
    }

    /// Opens or closes the gate.
    pub(super) fn set_gate(&self, gate: Gate) {
        self.head[0].gate.store(gate as u32, SeqCst);
    }

    /// What is done from this moment on, in the form that seats hold.
    pub(super) fn doing(&self, what: u16, at: Instant) -> Doing {
        let since = at.saturating_duration_since(self.made).as_millis() as u64;
        Doing { what, since }
    }

    /// The seats that have been used since their workers were born; rows are read when their turn comes.
    fn used_seats(&self) -> impl Iterator<Item = &Seat> {
        self.rows.iter().enumerate().flat_map(|(row, used)| {
            let first = row * self.seats_per_row;
            &self.seats[first..first + used.places.load(SeqCst) as usize]
        })
    }

    /// Lets a client take a seat, or not; the seat is free again when the result is dropped.
    pub(super) fn take(
        &self,
        (row, place): (usize, usize),
        peer: SocketAddr,
        listener: usize,
        limits: Limits,
    ) -> Taken<'_> {
        let mine = row * self.seats_per_row + place;
        let now = self.made.elapsed().as_millis() as u64;
        let client = Client { peer, listener, now };
        self.rows[row].places.fetch_max(place as u64 + 1, SeqCst);
        let census = admit(
            &self.seats[mine],
            self.used_seats(),
            &self.head[0].tickets,
            self.group,
            client,
            limits,
        );
        if !census.admitted() {
            self.head[0].refused.fetch_add(1, SeqCst);
        }
        Taken {
            seat: &self.seats[mine],
            census,
        }
    }
}

/// A seat that a client has taken, if `census.admitted()`.
pub(super) struct Taken<'a> {
    pub(super) seat: &'a Seat,
    pub(super) census: Census,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.seat.clear();
    }
}

#[cfg(test)]
mod tests;
