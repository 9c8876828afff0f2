//! One row of the scoreboard: a worker, what it does, and what it is to do.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use super::super::canary::{Outcome, Score};

/// One worker's row.
#[derive(Default)]
#[repr(C, align(64))]
pub(in super::super) struct Row {
    /// The process of the master whose worker it is; 0 is a row that is free.
    pub(super) master: AtomicU32,
    pub(super) pid: AtomicU32,
    pub(super) generation: AtomicU32,
    state: AtomicU32,
    pub(super) order: AtomicU32,
    /// When an order must have been carried out, milliseconds since the board was made.
    pub(super) deadline: AtomicU64,
    served: AtomicU64,
    empty: AtomicU64,
    /// Sessions that are on, of a worker that may have several.
    sessions: AtomicU64,
    /// How many of its seats have been used; those behind are free.
    pub(super) places: AtomicU64,
    /// What came of its sessions, in the order of [`Score`].
    score: [AtomicU64; 5],
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(in super::super) enum State {
    /// There is no worker here.
    None,
    /// Forked, not yet waiting for connections.
    Starting,
    /// Waiting for a connection.
    Idle,
    /// Serving all the sessions it can.
    Busy,
    /// Serving those it has, and taking no more, of its own accord.
    Leaving,
}

/// What the master wants of a worker. Later ones outrank earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(in super::super) enum Order {
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
    pub(in super::super) fn state(&self) -> State {
        match self.state.load(SeqCst) {
            1 => State::Starting,
            2 => State::Idle,
            3 => State::Busy,
            4 => State::Leaving,
            _ => State::None,
        }
    }

    pub(in super::super) fn set_state(&self, state: State) {
        self.state.store(state as u32, SeqCst);
    }

    pub(in super::super) fn order(&self) -> Order {
        match self.order.load(SeqCst) {
            0 => Order::None,
            1 => Order::Retire,
            2 => Order::Finish,
            _ => Order::Now,
        }
    }

    /// Whether the worker goes on taking connections: nobody, and nothing, makes it leave.
    pub(in super::super) fn stays(&self) -> bool {
        self.order() == Order::None && self.state() != State::Leaving
    }

    /// The worker's process.
    pub(in super::super) fn pid(&self) -> u32 {
        self.pid.load(SeqCst)
    }

    pub(in super::super) fn generation(&self) -> u32 {
        self.generation.load(SeqCst)
    }

    /// The master whose worker it is; 0 for a free row.
    pub(in super::super) fn master(&self) -> u32 {
        self.master.load(SeqCst)
    }

    /// Sessions served so far; the worker counts one when it begins.
    pub(in super::super) fn served(&self) -> u64 {
        self.served.load(SeqCst)
    }

    /// Sessions that are on, if this worker may have several; else its state tells.
    pub(in super::super) fn sessions(&self) -> u64 {
        self.sessions.load(SeqCst)
    }

    /// Written by the worker, one thread at a time.
    pub(in super::super) fn set_sessions(&self, on: u64) {
        self.sessions.store(on, SeqCst);
    }

    pub(in super::super) fn count_session(&self) -> u64 {
        self.served.fetch_add(1, SeqCst) + 1
    }

    /// Wake-ups that found no connection to accept.
    pub(in super::super) fn empty(&self) -> u64 {
        self.empty.load(SeqCst)
    }

    pub(in super::super) fn count_empty(&self) {
        self.empty.fetch_add(1, SeqCst);
    }

    /// Adds a session that has ended.
    pub(in super::super) fn conclude(&self, outcome: Outcome) {
        let flags = [true, outcome.accepted, outcome.put_off, outcome.refused, outcome.failed];
        for (sum, _) in self.score.iter().zip(flags).filter(|(_, counts)| *counts) {
            sum.fetch_add(1, Relaxed);
        }
    }

    /// What came of the sessions that have ended.
    pub(in super::super) fn score(&self) -> Score {
        let [sessions, accepted, put_off, refused, failed] =
            [0, 1, 2, 3, 4].map(|at: usize| self.score[at].load(Relaxed));
        Score {
            sessions,
            accepted,
            put_off,
            refused,
            failed,
        }
    }

    /// Makes the row one of a worker that is not there; whose it is stays as it is.
    pub(super) fn clear(&self) {
        self.set_state(State::None);
        for field in [&self.pid, &self.generation, &self.order] {
            field.store(0, SeqCst);
        }
        let own = [&self.deadline, &self.served, &self.empty, &self.sessions, &self.places];
        own.into_iter()
            .chain(&self.score)
            .for_each(|field| field.store(0, SeqCst));
    }
}
