//! Who watches a session from its seat: shows what it is at, and counts for the gauges.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::prefork::{self, Leave, Notice, Outcome};
use crate::session::{Company, Mark, Refused, Ruling, Stage, Tally, Watch};

use super::farewell;
use super::gauge::Gauge;

/// A word in capitals, as commands are written.
struct Loud(&'static str);

impl fmt::Display for Loud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(c.to_ascii_uppercase()))
    }
}

/// Watches one session from its seat.
pub(super) struct SeatWatch {
    gauge: Arc<Gauge>,
    notice: Notice,
    /// The client, if the process is all its own and named for it.
    only: Cell<Option<IpAddr>>,
    /// What has come of the session so far.
    outcome: Cell<Outcome>,
}

impl SeatWatch {
    /// For the session that hears this notice.
    pub(super) fn new(gauge: Arc<Gauge>, notice: Notice, only: Option<IpAddr>) -> SeatWatch {
        SeatWatch {
            gauge,
            notice,
            only: Cell::new(only),
            outcome: Cell::default(),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Outcome)) {
        let mut outcome = self.outcome.get();
        change(&mut outcome);
        self.outcome.set(outcome);
    }
}

impl Drop for SeatWatch {
    fn drop(&mut self) {
        self.note(|outcome| outcome.failed |= std::thread::panicking());
        self.notice.conclude(self.outcome.get());
    }
}

impl Watch for SeatWatch {
    fn stage(&self, stage: Stage) {
        self.notice.set_stage(stage as u16 + 1, Instant::now());
        if let Some(ip) = self.only.get() {
            prefork::title(format_args!("qpsmtpd worker [{ip}] {}", Loud(stage.word())));
        }
    }

    fn begins(&self, mark: Mark, at: Instant) {
        self.notice.set_task(mark, at);
    }

    fn ended(&self, mark: Mark, ruling: Ruling, took: Duration) {
        self.note(|outcome| outcome.failed |= matches!(ruling, Ruling::Error | Ruling::Panic));
        self.gauge.count_call(self.gauge.row(&self.notice), mark, ruling, took);
    }

    fn rests(&self) {
        self.notice.rest();
    }

    fn count(&self, what: Tally, by: u64) {
        self.note(|outcome| match what {
            Tally::Accepted => outcome.accepted = true,
            Tally::Soft => outcome.put_off = true,
            Tally::Hard => outcome.refused = true,
            _ => {}
        });
        self.gauge.counters.add(self.gauge.row(&self.notice), what as usize, by);
    }

    fn deciding(&self, parts: &dyn Fn(&mut dyn Hasher)) -> (u64, bool) {
        let mut hasher = self.gauge.crashes.hasher();
        parts(&mut hasher);
        let fingerprint = hasher.finish().max(1);
        let deadly = self.gauge.is_deadly(fingerprint);
        if !deadly {
            self.notice.set_message(fingerprint);
        }
        (fingerprint, deadly)
    }

    fn decided(&self) {
        self.notice.set_message(0);
    }

    fn moved(&self, to: SocketAddr, exempt: bool) -> Result<Company, Refused> {
        match self.notice.move_to(to, exempt) {
            Ok(others) => {
                self.only.set(self.only.get().map(|_| to.ip()));
                Ok(Company {
                    same: others.same_address + 1,
                    limit: others.limit,
                    all: others.all + 1,
                })
            }
            Err(why) => Err(Refused {
                reply: farewell::refusal(why),
                why: format!("refused {}: {why}", to.ip()),
            }),
        }
    }

    fn is_dismissed(&self) -> bool {
        self.notice.state() == Leave::Dismissed
    }
}
