//! Canaries: a new configuration is given to a few workers first, and what comes of their sessions is compared with
//! what came of those of the others. This is the rule of comparison: numbers alone, no processes.

use std::time::Duration;

/// A configuration is on trial with so many workers, for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// How many workers get the new configuration.
    pub workers: u32,
    /// How long they are watched.
    pub span: Duration,
}

impl Default for Trial {
    fn default() -> Self {
        Trial {
            workers: 1,
            span: Duration::from_secs(60),
        }
    }
}

impl Trial {
    /// The same, if of so many workers some are left to compare with.
    ///
    /// # Errors
    /// None would be left.
    pub fn of(self, workers: u32) -> Result<Trial, String> {
        match self.workers < workers {
            true => Ok(self),
            false => Err(format!(
                "{} cannot be on trial: there may be {workers} in all, and at least one has to keep the old \
                 configuration",
                self::workers(self.workers)
            )),
        }
    }
}

/// So many workers, in words.
pub fn workers(number: u32) -> String {
    match number {
        1 => "1 worker".to_owned(),
        more => format!("{more} workers"),
    }
}

/// What came of one session; all of it may be true at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Something was accepted for good.
    pub accepted: bool,
    /// The client was told to try again later.
    pub put_off: bool,
    /// The client was refused something.
    pub refused: bool,
    /// Something broke that should not.
    pub failed: bool,
}

/// What came of many sessions: each counts once under each that is true of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Sessions that have ended.
    pub sessions: u64,
    /// Those in which something was accepted.
    pub accepted: u64,
    /// Those in which the client was told to try again later.
    pub put_off: u64,
    /// Those in which the client was refused something.
    pub refused: u64,
    /// Those in which something broke.
    pub failed: u64,
}

impl Score {
    /// Both together.
    pub(super) fn plus(self, other: Score) -> Score {
        self.with(other, u64::saturating_add)
    }

    /// What has come since then.
    pub(super) fn since(self, then: Score) -> Score {
        self.with(then, u64::saturating_sub)
    }

    fn with(self, other: Score, so: impl Fn(u64, u64) -> u64) -> Score {
        Score {
            sessions: so(self.sessions, other.sessions),
            accepted: so(self.accepted, other.accepted),
            put_off: so(self.put_off, other.put_off),
            refused: so(self.refused, other.refused),
            failed: so(self.failed, other.failed),
        }
    }
}

/// How sure to be before a trial is over that the new configuration is worse: looked at after every session, chance
/// has many chances.
pub(super) const EARLY: f64 = 1e-5;
/// How sure to be when it is over.
pub(super) const AT_THE_END: f64 = 0.005;
/// The old configuration is judged by the span of the trial if it had so many sessions in it, else by its whole life.
const ENOUGH: u64 = 30;

/// What is compared: its words, how many sessions it is true of, and by how much of all it must be more to matter.
type Measure = (&'static str, fn(&Score) -> u64, f64);

const MEASURES: [Measure; 4] = [
    ("failed in", |score| score.failed, 0.01),
    ("put off", |score| score.put_off, 0.05),
    ("refused something in", |score| score.refused, 0.05),
    (
        "accepted nothing in",
        |score| score.sessions.saturating_sub(score.accepted),
        0.05,
    ),
];

/// What the old configuration is judged by: its sessions in the span of the trial, or, if they are few, all it had.
pub(super) fn basis(life: Score, span: Score) -> Score {
    if span.sessions >= ENOUGH { span } else { life }
}

/// In what the new configuration does worse than the old one, if that is more than chance may do: a difference as
/// large comes about by chance, if both are alike, less often than `doubt` (Fisher's exact test, which holds for
/// small numbers too), and is large enough to matter.
pub(super) fn worse(old: Score, new: Score, doubt: f64) -> Option<String> {
    let is_worse = |(_, of, margin): &&Measure| {
        let share = |score: &Score| of(score) as f64 / score.sessions as f64;
        old.sessions > 0
            && new.sessions > 0
            && share(&new) - share(&old) >= *margin
            && chance((of(&new), new.sessions), (of(&old), old.sessions)) < doubt
    };
    let (words, of, _) = MEASURES.iter().find(is_worse)?;
    Some(format!(
        "it {words} {} of {} sessions, the old configuration {} of {}",
        of(&new),
        new.sessions,
        of(&old),
        old.sessions
    ))
}

/// How likely at least so many of the first are hits, by chance alone, given how many of both are.
fn chance((hits, of): (u64, u64), (others, of_others): (u64, u64)) -> f64 {
    let (all, all_hits) = (of + of_others, (hits + others).min(of + of_others));
    let ways = ln_choose(all, of);
    let exactly = |hits: u64| {
        let (misses, all_misses) = (of - hits, all - all_hits);
        let ways_of = || ln_choose(all_hits, hits) + ln_choose(all_misses, misses);
        (misses <= all_misses).then(|| (ways_of() - ways).exp())
    };
    (hits..=of.min(all_hits)).filter_map(exactly).sum::<f64>().min(1.0)
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Stirling's series, and the sum itself where that is not exact enough.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|factor| (factor as f64).ln()).sum();
    }
    let n = n as f64;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_off(count: u64, sessions: u64) -> Score {
        Score {
            sessions,
            put_off: count,
            accepted: sessions,
            ..Score::default()
        }
    }

    fn is_worse(new: (u64, u64), old: (u64, u64), doubt: f64) -> bool {
        worse(put_off(old.0, old.1), put_off(new.0, new.1), doubt).is_some()
    }

    #[test]
    fn chances_are_those_of_the_tables() {
        let near = |is: f64, wanted: f64| assert!((is / wanted - 1.0).abs() < 1e-6, "{is} is not {wanted}");
        // the lady who tastes tea: 4 of 4 against 0 of 4 is one way of 70
        near(chance((4, 4), (0, 4)), 1.0 / 70.0);
        near(chance((3, 4), (1, 4)), 17.0 / 70.0);
        near(chance((0, 4), (2, 4)), 1.0);
        near(ln_factorial(32), (2..=32).map(|n| f64::from(n).ln()).sum());
        assert!(chance((500, 1000), (5_000, 10_000)) > 0.4);
    }

    #[test]
    fn small_numbers_do_not_decide() {
        for doubt in [EARLY, AT_THE_END] {
            assert!(!is_worse((1, 1), (0, 1), doubt));
            assert!(!is_worse((1, 2), (0, 100), doubt));
            assert!(!is_worse((3, 3), (0, 3), doubt));
            assert!(!is_worse((0, 0), (0, 100), doubt) && !is_worse((5, 5), (0, 0), doubt));
        }
        assert!(is_worse((4, 4), (0, 40), EARLY));
        assert!(is_worse((4, 4), (0, 8), AT_THE_END) && !is_worse((4, 4), (0, 8), EARLY));
    }

    #[test]
    fn large_numbers_decide_by_what_matters() {
        assert!(
            !is_worse((52_000, 100_000), (500_000, 1_000_000), AT_THE_END),
            "2 of 100"
        );
        assert!(is_worse((60_000, 100_000), (500_000, 1_000_000), EARLY));
        assert!(!is_worse((40, 100), (500, 1000), AT_THE_END), "it is better");
    }

    #[test]
    fn what_is_worse_is_named() {
        let old = Score {
            sessions: 100,
            accepted: 90,
            refused: 20,
            ..Score::default()
        };
        let new = |accepted, refused, failed| Score {
            sessions: 50,
            accepted,
            refused,
            failed,
            put_off: 0,
        };
        let told = |new| worse(old, new, EARLY).unwrap_or_default();
        assert_eq!(told(new(45, 10, 0)), "");
        assert_eq!(
            told(new(5, 10, 0)),
            "it accepted nothing in 45 of 50 sessions, the old configuration 10 of 100"
        );
        assert_eq!(
            told(new(45, 45, 0)),
            "it refused something in 45 of 50 sessions, the old configuration 20 of 100"
        );
        assert_eq!(
            told(new(0, 50, 50)),
            "it failed in 50 of 50 sessions, the old configuration 0 of 100"
        );
    }

    #[test]
    fn the_old_one_is_judged_by_the_span_if_that_says_enough() {
        let (life, few, many) = (put_off(5, 1000), put_off(2, 3), put_off(30, 40));
        assert_eq!(basis(life, few), life);
        assert_eq!(basis(life, many), many);
        assert_eq!(life.plus(few).since(life), few);
    }
}
