//! LMTP (RFC 2033): SMTP with a greeting of its own, and with one reply for each recipient after the data.
//!
//! Plugins decide about the message; their verdict is the answer to all recipients, unless the plugin that takes the
//! message has settled some of them by themselves ([`Transaction::settle`](crate::session::Transaction::settle)).

use std::collections::BTreeMap;

use super::dialogue::{Dialogue, Flow};
use crate::log::Level;
use crate::plugin::{Decision, Hook};
use crate::session::{RcptOutcome, Verdict};

/// What became of a message.
#[derive(Default)]
pub(super) struct Settled {
    all: usize,
    outcomes: BTreeMap<usize, RcptOutcome>,
}

fn decision(outcome: RcptOutcome) -> Decision {
    Decision {
        text: outcome.text,
        status: outcome.status,
        ..Decision::bare(outcome.verdict)
    }
}

impl Dialogue<'_> {
    /// The end of the data has come: what is said from now on is said to each recipient, if this is LMTP.
    pub(super) fn answer_each(&mut self) {
        if self.s.lmtp {
            self.s.replies = self.s.recipients().count().max(1);
        }
    }

    /// The number of recipients, and what the plugin that took the message has said of some.
    pub(super) fn settled(&mut self) -> Settled {
        self.s
            .transaction
            .as_mut()
            .map_or_else(Settled::default, |transaction| Settled {
                all: transaction.recipients.len(),
                outcomes: std::mem::take(&mut transaction.outcomes),
            })
    }

    /// Answers the message, in LMTP to each recipient; true if someone gets it.
    pub(super) fn answer_queue(&mut self, decided: Decision, mut settled: Settled) -> (Flow, bool) {
        let taken = decided.verdict == Verdict::Ok;
        if !self.s.lmtp {
            let decided = self.folded(decided, &settled);
            let taken = decided.verdict == Verdict::Ok;
            return (self.answer(Hook::queue, decided, ""), taken);
        }
        if settled.outcomes.is_empty() {
            return (self.answer(Hook::queue, decided, ""), taken);
        }
        let count = std::mem::replace(&mut self.s.replies, 1);
        let (mut flow, mut best) = (Flow::Continue, u16::MAX);
        for number in 0..count {
            let one = settled.outcomes.remove(&number);
            let one = one.map_or_else(|| decided.clone(), decision);
            if self.answer(Hook::queue, one, "") != Flow::Continue {
                flow = Flow::Close;
            }
            best = best.min(self.code);
        }
        // the message counts as taken if it was for anyone
        self.code = best;
        (flow, (200..300).contains(&best))
    }

    /// One answer where SMTP has no more: recipients that failed may make the others get the message twice, but nothing
    /// is lost.
    fn folded(&self, decided: Decision, settled: &Settled) -> Decision {
        let (all, outcomes) = (settled.all, settled.outcomes.values());
        let failed: Vec<&RcptOutcome> = outcomes.filter(|one| one.verdict.denies()).collect();
        let soft = failed.iter().find(|one| one.verdict.is_soft());
        let (Verdict::Ok, Some(first)) = (decided.verdict, soft.or(failed.first())) else {
            return decided;
        };
        let text = format_args!("{} of {all} recipients failed, which SMTP cannot tell", failed.len());
        self.log(Level::Warn, text);
        let for_good = soft.is_none() && failed.len() == all;
        let verdict = if for_good { Verdict::Deny } else { Verdict::DenySoft };
        decision(RcptOutcome {
            verdict,
            ..(*first).clone()
        })
    }
}
