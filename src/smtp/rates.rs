//! Rates of a network of clients: how often it may connect, send, name recipients, err, and fail to log in.
//!
//! What exceeds a rate is answered by 421, 450 or 451, and the log names the limit (file connection_rate and its
//! kin). Relay clients and the networks of rate_exempt are let pass; of connections, which are counted before anybody
//! knows who may relay, only the latter.

use super::answers::{Canned, say};
use super::dialogue::{Dialogue, Flow};
use crate::config::{Rate, Rates};
use crate::log::Level;
use crate::session::Tally;
use crate::session::services::Event;

/// An event with the setting that limits it and the answer that tells of it.
struct Rule {
    event: Event,
    file: &'static str,
    rate: fn(&Rates) -> Option<Rate>,
    answer: Canned,
}

static CONNECTIONS: Rule = Rule {
    event: Event::Connection,
    file: "connection_rate",
    rate: |rates| rates.connections,
    answer: say(421, (7, 0), "too many connections in a short time, try again later"),
};

static MESSAGES: Rule = Rule {
    event: Event::Message,
    file: "message_rate",
    rate: |rates| rates.messages,
    answer: say(451, (7, 1), "too many messages in a short time, try again later"),
};

static RECIPIENTS: Rule = Rule {
    event: Event::Recipient,
    file: "recipient_rate",
    rate: |rates| rates.recipients,
    answer: say(450, (7, 1), "too many recipients in a short time, try again later"),
};

static ERRORS: Rule = Rule {
    event: Event::Error,
    file: "error_rate",
    rate: |rates| rates.errors,
    answer: say(421, (7, 0), "too many errors in a short time, try again later"),
};

static AUTH_FAILURES: Rule = Rule {
    event: Event::AuthFailure,
    file: "auth_failure_rate",
    rate: |rates| rates.auth_failures,
    answer: say(421, (7, 0), "too many failed logins in a short time, try again later"),
};

impl Dialogue<'_> {
    /// The rate that holds for this client, and its network; none if there is none.
    fn held(&self, rule: &Rule) -> Option<(Rate, u128)> {
        let rates = &self.s.settings.rates;
        let rate = (rule.rate)(rates)?;
        let exempt =
            self.upstream.itself || self.s.relay_client || self.s.rate_exempt || rates.exempt.contains(self.s.peer.ip);
        (!exempt).then(|| (rate, rates.network(self.s.peer.ip)))
    }

    fn tell(&mut self, rule: &Rule, rate: Rate) -> Flow {
        let (events, seconds) = (rate.events, rate.within.as_secs());
        self.log(
            Level::Notice,
            format_args!(
                "rate limit {} {events}/{seconds} reached by {}",
                rule.file, self.s.peer.ip
            ),
        );
        self.s.count(Tally::OverRate);
        self.say(rule.answer);
        match rule.answer.code {
            421 => Flow::Close,
            _ => Flow::Continue,
        }
    }

    /// Counts an event that must be within its rate; the flow after the refusal if it is not.
    fn admit(&mut self, rule: &Rule) -> Option<Flow> {
        let (rate, network) = self.held(rule)?;
        let within = self.s.services().meter.admit(rule.event, network, rate);
        (!within).then(|| self.tell(rule, rate))
    }

    /// A connection: also refused while its network errs too much or fails to log in too often.
    pub(super) fn connection_over_rate(&mut self) -> Option<Flow> {
        for rule in [&ERRORS, &AUTH_FAILURES] {
            if let Some((rate, network)) = self.held(rule)
                && self.s.services().meter.reached(rule.event, network, rate)
            {
                return Some(self.tell(rule, rate));
            }
        }
        self.admit(&CONNECTIONS)
    }

    /// MAIL.
    pub(super) fn message_over_rate(&mut self) -> Option<Flow> {
        self.admit(&MESSAGES)
    }

    /// RCPT.
    pub(super) fn recipient_over_rate(&mut self) -> Option<Flow> {
        self.admit(&RECIPIENTS)
    }

    /// Counts a reply of 5xx, also one that ends the session; the rate if there are too many.
    pub(super) fn count_error(&self) -> Option<Rate> {
        self.count(&ERRORS)
    }

    /// The answer to too many of them.
    pub(super) fn too_many_errors(&mut self, rate: Rate) -> Flow {
        self.tell(&ERRORS, rate)
    }

    /// Counts a login that failed, whatever the client does next; the rate if there are too many.
    pub(super) fn count_auth_failure(&self) -> Option<Rate> {
        self.count(&AUTH_FAILURES)
    }

    /// The answer to too many of them.
    pub(super) fn too_many_auth_failures(&mut self, rate: Rate) -> Flow {
        self.tell(&AUTH_FAILURES, rate)
    }

    fn count(&self, rule: &Rule) -> Option<Rate> {
        let (rate, network) = self.held(rule)?;
        let within = self.s.services().meter.count(rule.event, network, rate);
        (!within).then_some(rate)
    }
}
