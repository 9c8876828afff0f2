//! The policy of the pool: how many workers to have and when to hold back. No processes here, only numbers.

use std::time::{Duration, Instant};

/// The first pause after a worker that died young.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A worker that has waited this long for its first session did not die of its birth.
const CHILDHOOD: Duration = Duration::from_secs(1);

/// How many workers are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The most there may be.
    pub children: u32,
    /// How many sessions each has at a time.
    pub sessions: u32,
    /// How many seats to keep free for connections; 0 for as many as there may be.
    pub idle: u32,
}

/// How many workers of a generation there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// Those that have not been told to leave.
    pub living: u32,
    /// Free seats of those that wait for a connection or soon will.
    pub idle: u32,
    /// Those that leave, of whatever generation, as far as their sessions take the place of a worker: many that
    /// have one slow client each do not keep others from being made.
    pub leaving: u32,
}

/// How many workers to make now.
pub(super) fn births(wanted: Wanted, present: Present) -> u32 {
    let room = wanted.children.saturating_sub(present.living + present.leaving);
    match wanted.idle {
        0 => room,
        idle => room.min(idle.saturating_sub(present.idle).div_ceil(wanted.sessions.max(1))),
    }
}

/// Whether a worker's death says that its successors will die as well.
pub(super) fn died_young(served: u64, told_to_leave: bool, ready: bool, age: Duration) -> bool {
    served == 0 && !told_to_leave && (!ready || age < CHILDHOOD)
}

/// Holds births back while workers die before their first session: 1 s, doubling to 60 s.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    pause: Option<Duration>,
    until: Option<Instant>,
}

impl Throttle {
    /// A worker died young. Says for how long births stop, or nothing if they are stopped already.
    pub(super) fn lengthen(&mut self, now: Instant) -> Option<Duration> {
        if self.holds(now).is_some() {
            return None;
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |p| (p * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.until = Some(now + pause);
        Some(pause)
    }

    /// A worker has got as far as a session: all is well.
    pub(super) fn relax(&mut self) {
        *self = Self::default();
    }

    /// Until when births have to wait, if they have to.
    pub(super) fn holds(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(children: u32, idle: u32, living: u32, waiting: u32) -> u32 {
        let wanted = Wanted {
            children,
            sessions: 1,
            idle,
        };
        births(wanted, present(living, waiting))
    }

    fn present(living: u32, idle: u32) -> Present {
        Present {
            living,
            idle,
            leaving: 0,
        }
    }

    #[test]
    fn keeps_the_idle_ones_up_to_all() {
        assert_eq!(needed(15, 5, 0, 0), 5, "at the start");
        assert_eq!(needed(15, 5, 5, 4), 1, "one has become busy");
        assert_eq!(needed(15, 5, 5, 5), 0);
        assert_eq!(needed(15, 5, 9, 9), 0, "more than enough");
        assert_eq!(needed(15, 5, 13, 0), 2, "little room");
        assert_eq!(needed(15, 5, 15, 0), 0, "no room");
        assert_eq!(needed(3, 5, 0, 0), 3, "fewer allowed than wanted idle");
        assert_eq!(needed(15, 5, 17, 0), 0, "too many, whyever");
    }

    #[test]
    fn a_worker_of_many_sessions_has_many_free_seats() {
        let needed = |idle, free| {
            let wanted = Wanted {
                children: 4,
                sessions: 10,
                idle,
            };
            births(wanted, present(1, free))
        };
        assert_eq!(needed(5, 10), 0);
        assert_eq!(needed(5, 5), 0);
        assert_eq!(needed(5, 4), 1);
        assert_eq!(needed(25, 4), 3);
        assert_eq!(needed(0, 10), 3);
    }

    #[test]
    fn zero_idle_means_all() {
        assert_eq!(needed(15, 0, 0, 0), 15);
        assert_eq!(needed(15, 0, 14, 14), 1);
    }

    #[test]
    fn those_that_leave_take_room_as_long_as_they_are_in_the_way() {
        let needed = |children, leaving| {
            let wanted = Wanted {
                children,
                sessions: 1,
                idle: 5,
            };
            let present = Present {
                leaving,
                ..Present::default()
            };
            births(wanted, present)
        };
        assert_eq!(needed(15, 5), 5, "five old idle ones are about to leave");
        assert_eq!(needed(5, 5), 0, "no room before they have left");
        assert_eq!(needed(5, 3), 2);
    }

    #[test]
    fn young_is_who_never_served_unbidden() {
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(5));
        assert!(died_young(0, false, false, short));
        assert!(died_young(0, false, false, long), "a slow start that failed");
        assert!(died_young(0, false, true, short));
        assert!(!died_young(0, false, true, long), "killed while it waited");
        assert!(!died_young(1, false, true, short));
        assert!(!died_young(0, true, false, short), "it was told to");
    }

    #[test]
    fn pauses_double_to_a_minute_and_one_batch_counts_once() {
        let mut throttle = Throttle::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = throttle.lengthen(now).unwrap();
            assert_eq!(throttle.lengthen(now), None, "of the same batch");
            assert_eq!(throttle.holds(now), Some(now + pause));
            now += pause;
            assert_eq!(throttle.holds(now), None);
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        throttle.relax();
        assert_eq!(throttle.lengthen(now), Some(FIRST_PAUSE));
    }
}
