//! The scoreboard: what master and workers know of each other, in memory that all of them share.
//!
//! It is made before the first fork, and goes from master to master with upgrades. A worker writes only its own row
//! and seats, the master clears those of the workers it has reaped; every field is an atomic and nobody ever waits for
//! a lock.

mod row;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::Fallen;
use super::house::Gate;
use super::keepsake::{Keepsake, Left, keep, moment, sign_of_hashes};
use super::pool::Present;
use super::seat::{Census, Client, Doing, Grouping, Limits, PATIENCE, Seat, admit, readmit};
use super::sys::Shared;

pub(super) use row::{Order, Row, State};

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
    /// The generation that is on trial beside the present one; 0 for none.
    canary: AtomicU32,
    /// How many rows have been used; those behind are free.
    rows: AtomicU64,
    /// When the board was made, see [`moment`].
    made: AtomicU64,
}

/// To be changed with the meaning of anything that lies on a board.
const LAYOUT: u32 = 1;

/// The scoreboard.
pub(super) struct Board {
    head: Shared<Head>,
    rows: Shared<Row>,
    seats: Shared<Seat>,
    seats_per_row: usize,
    group: Grouping,
    made: Instant,
    /// The master of this process: itself, or the one that has forked it.
    master: u32,
}

impl Board {
    /// Whether some worker has asked this before.
    pub(super) fn confinement_was_told(&self) -> bool {
        self.head[0].told.swap(1, SeqCst) == 1
    }

    /// The board that a former master has left, if it is laid out alike and has room for as many workers as `wanted`;
    /// else an empty one of `rows` rows, each with `sessions` seats.
    pub(super) fn kept(
        (rows, wanted): (usize, usize),
        sessions: usize,
        group: Grouping,
        left: Option<Left>,
    ) -> io::Result<(Self, Keepsake)> {
        let sizes = (size_of::<Head>(), size_of::<Row>(), size_of::<Seat>());
        let about = format!(
            "{LAYOUT}-{rows}-{sessions}-{}-{}-{}-{:x}",
            sizes.0,
            sizes.1,
            sizes.2,
            sign_of_hashes()
        );
        keep("board", about, left, &|sheet| {
            let head: Shared<Head> = sheet.part(1)?;
            let board = Self {
                made: moment(&head[0].made)?,
                head,
                rows: sheet.part(rows)?,
                seats: sheet.part(rows * sessions)?,
                seats_per_row: sessions,
                group,
                master: std::process::id(),
            };
            // a master that had our process id is no more
            board.rows_of(board.master).for_each(|row| board.clear(row));
            // those of another release may be confined in another way
            board.head[0].told.store(0, SeqCst);
            match sheet.is_used() && board.rows_of(0).count() < wanted {
                true => Err(io::Error::other("it is full")),
                false => Ok(board),
            }
        })
    }

    /// A board for nobody after this master; IPv6 clients count by `prefix` bits.
    #[cfg(test)]
    pub(super) fn new(rows: usize, sessions: usize, prefix: u8) -> io::Result<Self> {
        Ok(Self::kept((rows, 0), sessions, Grouping::new(prefix, (24, 48)), None)?.0)
    }

    /// The rows of the workers of a master, or with 0 those that are free.
    pub(super) fn rows_of(&self, master: u32) -> impl Iterator<Item = usize> {
        let rows = self.rows.iter().enumerate();
        rows.filter(move |(_, row)| row.master() == master).map(|(row, _)| row)
    }

    /// The rows of the workers of other masters.
    pub(super) fn foreign_rows(&self) -> impl Iterator<Item = usize> {
        let rows = self.used_rows();
        rows.filter(|(_, row)| ![0, self.master].contains(&row.master()))
            .map(|(row, _)| row)
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The seat `place` of the worker in row `row`.
    pub(super) fn seat(&self, row: usize, place: usize) -> &Seat {
        &self.seats[row * self.seats_per_row + place]
    }

    /// Takes a free row for a worker of this master; none if there is none.
    pub(super) fn claim(&self) -> Option<usize> {
        let free = |row: &Row| row.master.compare_exchange(0, self.master, SeqCst, SeqCst).is_ok();
        self.rows.iter().position(free)
    }

    /// Writes a new worker into a row that was claimed; called before the fork, so that the child finds it.
    pub(super) fn engage(&self, row: usize, generation: u32) {
        self.empty(row);
        self.head[0].rows.fetch_max(row as u64 + 1, SeqCst);
        let row = &self.rows[row];
        row.master.store(self.master, SeqCst);
        row.generation.store(generation, SeqCst);
        row.set_state(State::Starting);
    }

    /// Writes the process id of the worker in row `row`; parent and child both do it.
    pub(super) fn set_pid(&self, row: usize, pid: Pid) {
        self.rows[row].pid.store(pid.as_raw().unsigned_abs(), SeqCst);
    }

    /// The sessions of a worker that is no more, before its row is cleared.
    pub(super) fn fallen(&self, row: usize) -> Vec<Fallen> {
        let fallen = |seat: &Seat| {
            Some(Fallen {
                occupant: seat.occupant()?,
                stage: seat.stage().what,
                task: seat.task().what,
                message: seat.message(),
            })
        };
        self.used(row).iter().filter_map(fallen).collect()
    }

    /// Clears row and seats of a worker that is no more, for another one.
    pub(super) fn clear(&self, row: usize) {
        self.empty(row);
        self.rows[row].master.store(0, SeqCst);
    }

    fn empty(&self, row: usize) {
        self.used(row).iter().for_each(Seat::clear);
        self.rows[row].clear();
    }

    /// The workers of this master: those of this generation that stay, how many connections they will take, and how
    /// many workers' worth of sessions those have that leave, and take no connection.
    pub(super) fn present(&self, generation: u32) -> Present {
        let seats = self.seats_per_row as u32;
        let (mut count, mut leaving) = (Present::default(), 0);
        for (_, row) in self.used_rows().filter(|(_, row)| row.master() == self.master) {
            let (state, stays) = (row.state(), row.stays());
            match state {
                State::None => {}
                // whoever serves one at a time is in the way as long as it is there
                _ if !stays && seats == 1 => leaving += 1,
                _ if !stays => leaving += row.sessions() as u32,
                _ if row.generation() != generation => {}
                State::Starting | State::Idle => {
                    count.living += 1;
                    count.idle += seats.saturating_sub(row.sessions() as u32);
                }
                State::Busy | State::Leaving => count.living += 1,
            }
        }
        count.leaving = leaving / seats;
        count
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

    /// Which addresses count as one client, and which as one network.
    pub(super) fn grouping(&self) -> Grouping {
        self.group
    }

    /// Clients refused for a limit of sessions.
    pub(super) fn refused(&self) -> u64 {
        self.head[0].refused.load(SeqCst)
    }

    /// All seats that have been used, with row and place.
    pub(super) fn all_seats(&self) -> impl Iterator<Item = (usize, usize, &Seat)> {
        let seats = |row: usize| self.used(row).iter().enumerate();
        self.used_rows()
            .flat_map(move |(row, _)| seats(row).map(move |(place, seat)| (row, place, seat)))
    }

    /// How many sessions are on.
    pub(super) fn busy(&self) -> usize {
        self.used_seats().filter(|seat| seat.occupant().is_some()).count()
    }

    /// Whether no session is on.
    pub(super) fn is_empty(&self) -> bool {
        self.busy() == 0
    }

    /// The generation that is on trial; 0 for none.
    pub(super) fn canary(&self) -> u32 {
        self.head[0].canary.load(SeqCst)
    }

    /// Puts a generation on trial, or with 0 none.
    pub(super) fn set_canary(&self, generation: u32) {
        self.head[0].canary.store(generation, SeqCst);
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

    /// The rows that have been used since the board was made; more may be while this goes on.
    fn used_rows(&self) -> impl Iterator<Item = (usize, &Row)> {
        let used = |(row, _): &(usize, &Row)| (*row as u64) < self.head[0].rows.load(SeqCst);
        self.rows.iter().enumerate().take_while(used)
    }

    /// The seats of a row that have been used since its worker was born.
    fn used(&self, row: usize) -> &[Seat] {
        let used = self.rows[row].places.load(SeqCst) as usize;
        let first = row * self.seats_per_row;
        &self.seats[first..first + used.min(self.seats_per_row)]
    }

    /// The seats that have been used since their workers were born; rows are read when their turn comes.
    fn used_seats(&self) -> impl Iterator<Item = &Seat> {
        self.used_rows().flat_map(|(row, _)| self.used(row))
    }

    /// Lets the client of a seat that is taken stay as the one it has turned out to be, or not.
    pub(super) fn move_to(&self, (row, place): (usize, usize), peer: SocketAddr, limits: Limits) -> Census {
        let seat = self.seat(row, place);
        let tickets = &self.head[0].tickets;
        let census = readmit(seat, self.used_seats(), tickets, self.group, peer, limits);
        if !census.admitted() {
            self.head[0].refused.fetch_add(1, SeqCst);
        }
        census
    }

    /// Lets a client take a seat, or not; the seat is free again when the result is dropped.
    pub(super) fn take(
        &self,
        (row, place): (usize, usize),
        peer: SocketAddr,
        listener: u64,
        limits: Limits,
    ) -> Taken<'_> {
        let mine = row * self.seats_per_row + place;
        let now = self.made.elapsed().as_millis() as u64;
        let client = Client {
            peer,
            listener,
            now,
            patience: PATIENCE,
        };
        self.head[0].rows.fetch_max(row as u64 + 1, SeqCst);
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
