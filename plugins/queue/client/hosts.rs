//! The hosts that a client may connect to, and which of them have lately not answered.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::plugin::*;

/// Hosts in the order in which they are tried.
#[derive(Default)]
pub struct Hosts {
    /// All of them.
    pub all: Vec<Target>,
    /// How long one that has failed is only tried after the others, in seconds.
    pub rest: u32,
    /// For each when it failed.
    failed: Mutex<Vec<Option<Instant>>>,
}

impl Hosts {
    /// These hosts.
    pub fn new(all: Vec<Target>, rest: u32) -> Hosts {
        Hosts {
            failed: Mutex::new(vec![None; all.len()]),
            all,
            rest,
        }
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of the hosts, those that have lately failed at the end.
    pub fn order(&self) -> Vec<usize> {
        let failed = self.failures();
        let rest = Duration::from_secs(self.rest.into());
        let rests = |host: &usize| failed[*host].is_some_and(|at| at.elapsed() < rest);
        let (resting, mut order): (Vec<usize>, Vec<usize>) = (0..self.all.len()).partition(rests);
        order.extend(resting);
        order
    }

    /// A host does not answer, or makes no sense.
    pub fn failed(&self, host: usize) {
        self.failures()[host] = Some(Instant::now());
    }

    /// A host answers.
    pub fn lives(&self, host: usize) {
        self.failures()[host] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_failed_are_tried_last_for_a_while() {
        let hosts = |rest| Hosts::new(vec![Target::Tcp("a".into(), 25); 3], rest);
        let some = hosts(3600);
        assert_eq!(some.order(), [0, 1, 2]);
        some.failed(0);
        assert_eq!(some.order(), [1, 2, 0]);
        some.failed(2);
        assert_eq!(some.order(), [1, 0, 2]);
        some.failed(1);
        assert_eq!(some.order(), [0, 1, 2]);
        some.lives(2);
        assert_eq!(some.order(), [2, 0, 1]);
        let forgotten = hosts(0);
        forgotten.failed(0);
        assert_eq!(forgotten.order(), [0, 1, 2]);
    }
}
