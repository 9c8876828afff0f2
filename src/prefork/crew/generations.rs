//! Which generation workers are made of, and which leave: the present one, and perhaps one on trial.

use std::time::Instant;

use super::super::board::{Order, State};
use super::super::canary::{Score, basis};
use super::super::pool::{Wanted, births};
use super::super::{Level, Log};
use super::Crew;

/// A generation on trial.
pub(super) struct Canary {
    pub(super) generation: u32,
    workers: u32,
    /// What the present generation had done when it began.
    before: Score,
    /// What came of the sessions of those that are no more.
    pub(super) past: Score,
    /// One has crashed, or given up.
    pub(super) broken: Option<String>,
}

impl Crew {
    /// The generation that wants one more worker.
    pub(super) fn wanted(&self) -> Option<u32> {
        let present = self.board.present(self.generation);
        let Some(canary) = &self.canary else {
            return (births(self.wanted, present) > 0).then_some(self.generation);
        };
        let others = Wanted {
            children: self.wanted.children.saturating_sub(canary.workers),
            ..self.wanted
        };
        if births(others, present) > 0 {
            return Some(self.generation);
        }
        let birds = self.board.present(canary.generation).living;
        let room = self.wanted.children > present.living + present.leaving + birds;
        (room && birds < canary.workers).then_some(canary.generation)
    }

    /// All rows are taken, most of them by workers that leave: the oldest of those ends its sessions, which have had
    /// longer than any other.
    pub(super) fn make_room(&mut self, log: Log<'_>) {
        let rows = self.board.rows();
        let leaves = |row: &usize| self.hands[*row].is_some() && !rows[*row].stays();
        let leaving: Vec<usize> = (0..rows.len()).filter(leaves).collect();
        let Some(oldest) = leaving.iter().copied().min_by_key(|row| rows[*row].generation()) else {
            return;
        };
        if leaving.iter().any(|row| rows[*row].order() > Order::Retire) {
            return;
        }
        let pid = rows[oldest].pid();
        log(
            Level::Notice,
            &format!("too many workers leave slowly: {pid} ends its sessions"),
        );
        self.board.give(oldest, Order::Finish, Instant::now() + self.grace);
        self.wake(oldest);
    }

    /// Begins a new generation; those of the old one leave when they have nothing to do.
    pub(in super::super) fn renew(&mut self) {
        self.end_canary();
        self.newest += 1;
        self.settle(self.newest, Score::default());
    }

    /// Puts a new generation on trial with so many workers; as many others leave as it takes to make room.
    pub(in super::super) fn begin_canary(&mut self, workers: u32) -> u32 {
        self.newest += 1;
        let before = self.score(self.generation).plus(self.past);
        self.canary = Some(Canary {
            generation: self.newest,
            workers,
            before,
            past: Score::default(),
            broken: None,
        });
        self.board.set_canary(self.newest);
        self.throttle.relax();
        let stay = self.wanted.children.saturating_sub(workers);
        let surplus = self.board.present(self.generation).living.saturating_sub(stay);
        let rows = self.board.rows();
        let stays = |row: &usize| self.hands[*row].is_some() && rows[*row].stays();
        let mut there: Vec<usize> = (0..rows.len()).filter(stays).collect();
        there.sort_by_key(|row| rows[*row].state() == State::Busy);
        self.order(
            &there[..there.len().min(surplus as usize)],
            Order::Retire,
            Instant::now(),
        );
        self.wake_all();
        self.newest
    }

    /// Makes the generation on trial the present one.
    pub(in super::super) fn promote(&mut self) {
        if let Some(canary) = self.canary.take() {
            self.board.set_canary(0);
            self.settle(canary.generation, canary.past);
        }
    }

    /// Ends the trial: those who have served in it leave.
    pub(in super::super) fn end_canary(&mut self) {
        if let Some(canary) = self.canary.take() {
            self.board.set_canary(0);
            let rows = self.rows_of(|generation| generation == canary.generation);
            self.order(&rows, Order::Retire, Instant::now());
            self.wake_all();
        }
    }

    /// Makes this the present generation.
    fn settle(&mut self, generation: u32, past: Score) {
        (self.generation, self.past) = (generation, past);
        self.throttle.relax();
        let rows = self.rows_of(|other| other != generation);
        self.order(&rows, Order::Retire, Instant::now());
        self.wake_all();
    }

    /// Why the trial cannot go on: a worker has crashed.
    pub(in super::super) fn broken_canary(&mut self) -> Option<String> {
        self.canary.as_mut().and_then(|canary| canary.broken.take())
    }

    /// What the present generation is judged by, and what the one on trial has done.
    pub(in super::super) fn scores(&self) -> Option<(Score, Score)> {
        let canary = self.canary.as_ref()?;
        let life = self.score(self.generation).plus(self.past);
        let new = self.score(canary.generation).plus(canary.past);
        Some((basis(life, life.since(canary.before)), new))
    }

    /// What came of the sessions of a generation's workers that are there.
    fn score(&self, generation: u32) -> Score {
        let rows = self.rows_of(|one| one == generation);
        let scores = rows.into_iter().map(|row| self.board.rows()[row].score());
        scores.fold(Score::default(), Score::plus)
    }

    /// The rows of the workers of some generations.
    pub(super) fn rows_of(&self, some: impl Fn(u32) -> bool) -> Vec<usize> {
        let rows = self.board.rows();
        let is = |row: &usize| self.hands[*row].is_some() && some(rows[*row].generation());
        (0..rows.len()).filter(is).collect()
    }
}
