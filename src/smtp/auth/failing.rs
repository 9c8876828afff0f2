//! A login that failed: who hears of it, how long the client waits, and when it has tried often enough.

use std::time::Duration;

use super::harmless;
use crate::config::Rate;
use crate::log::Level;
use crate::plugin::{Decision, Hook};
use crate::session::Verdict;
use crate::session::services::Event;
use crate::session::wire::Heard;
use crate::smtp::answers::{answer, say};
use crate::smtp::dialogue::{Dialogue, Flow};

/// For how long a failed login makes the next ones of its network wait longer.
const REMEMBERED: Duration = Duration::from_secs(900);

impl Dialogue<'_> {
    /// The login has failed; where a plugin could not decide the client is to try again.
    pub(super) fn failed(&mut self, mechanism: &str, user: &str, decision: Decision) -> Flow {
        if decision.failed {
            return self.say(say(454, (7, 0), "temporary authentication failure"));
        }
        let over = self.note_failure(mechanism, user);
        if let Some(flow) = self.delay() {
            return flow;
        }
        let (user, ip) = (harmless(user), self.s.peer.ip);
        let mut words = format!("authentication failed for {user} from {ip}");
        if !decision.text.is_empty() {
            match tells_why(mechanism) {
                true => words = format!("{words} - {}", decision.text),
                false => self.log(Level::Info, format_args!("login refused: {}", decision.text)),
            }
        }
        if let Some(canned) = answer(Hook::auth, Verdict::Deny) {
            self.say_text(canned, words);
        }
        if let Some(rate) = over {
            return self.too_many_auth_failures(rate);
        }
        let most = self.s.settings.limits.max_auth_failures;
        if self.auth_failures >= most {
            self.log(
                Level::Notice,
                format_args!("too many failed logins, limit max_auth_failures {most}"),
            );
            self.say(say(421, (7, 0), "too many failed logins"));
            return Flow::Close;
        }
        Flow::Continue
    }

    /// Logs and counts a login that has failed, before the client waits: one that hangs up meanwhile has failed, too. The
    /// rate if its network has failed too often.
    pub(super) fn note_failure(&mut self, mechanism: &str, user: &str) -> Option<Rate> {
        let user = harmless(user);
        // fail2ban looks for these words
        self.log(
            Level::Notice,
            format_args!("authentication failed for {user} from {} ({mechanism})", self.s.peer.ip),
        );
        self.s.login.failed = Some((user, mechanism.to_owned()));
        self.auth_failures += 1;
        self.count_auth_failure()
    }

    /// Lets the client wait, the longer the more logins of its network have failed lately; the flow if it does not
    /// bear that, or the daemon ends. It is not over sooner if the client says something. The time counts from the client's
    /// last word, so that how long the check took, which may tell whether there is such a user, does not show.
    fn delay(&mut self) -> Option<Flow> {
        let settings = self.s.settings.clone();
        let (first, most) = (settings.auth_delay, settings.auth_delay_max);
        let exempt = self.s.rate_exempt || settings.rates.exempt.contains(self.s.peer.ip);
        if first.is_zero() || exempt {
            return None;
        }
        let network = settings.rates.network(self.s.peer.ip);
        let failures = self.s.services().meter.add(Event::AuthDelay, network, REMEMBERED);
        let wait = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most);
        let wait = wait.saturating_sub(self.heard.map_or(Duration::ZERO, |heard| heard.elapsed()));
        match self.s.channel.pause(wait) {
            Heard::TimedOut | Heard::Bytes(_) => None,
            Heard::End => Some(Flow::Lost),
            Heard::Leaving => Some(self.leaving()),
        }
    }
}

/// Whether the client hears the plugins' words. Who has presented a token or a certificate may know what is wrong with
/// it; of a password nobody is told more than that it failed, or guesses would learn which users there are.
fn tells_why(mechanism: &str) -> bool {
    matches!(mechanism, "external" | "oauthbearer" | "xoauth2")
}
