//! A client of SMTP (RFC 5321) and LMTP (RFC 2033): connections to one of several hosts, kept for further messages.
//!
//! The rule of all of it: what the other side may have accepted is never sent again, and what it has not said yes to is
//! never called delivered.

mod dots;
#[cfg(test)]
pub mod fake;
mod hosts;
mod link;
#[cfg(test)]
pub mod memory;
mod offers;
mod open;
mod pool;
pub mod report;
mod secure;
mod transfer;

pub use hosts::Hosts;
pub use link::{Link, Reply, Waits};
pub use offers::Offers;
pub use open::Open;
pub use secure::{Mode, Secure, SecureArguments};
pub use transfer::{Answered, mail_command, rcpt_command};

use std::time::{Duration, Instant};

use crate::plugin::*;
use pool::Pool;

/// The longest time for everything: clients do not wait longer than 600 seconds.
const WHOLE: Duration = Duration::from_secs(540);

/// When all that is done for a message must be over: it is passed on, and its sender is told.
pub fn latest() -> Instant {
    Instant::now() + WHOLE
}

/// Why a message was not passed on.
#[derive(Debug)]
pub enum Trouble {
    /// The server said so.
    Refused(Reply),
    /// Nothing has been passed on.
    Nothing(String),
    /// The whole message was sent, but there was no answer.
    Unknown(String),
}

impl From<Lost> for Trouble {
    fn from(why: Lost) -> Trouble {
        Trouble::Nothing(why.to_string())
    }
}

impl Trouble {
    /// Whether another connection may do better: nothing was passed on, and the server did not judge the message.
    fn may_try_again(&self) -> bool {
        match self {
            Trouble::Nothing(_) => true,
            Trouble::Refused(reply) => reply.code == 421,
            Trouble::Unknown(_) => false,
        }
    }

    /// The answer to the client, where the server of this name, and what it is, has not taken the message.
    pub fn answer(self, s: &Session, server: &str, what: &str) -> Answer {
        match self {
            Trouble::Refused(reply) => {
                info!(s, "fail, {server} said: {reply}");
                reply.answer()
            }
            // another queue plugin may do better
            Trouble::Nothing(_) => {
                let text = format!("{what} does not take messages now, try again later");
                answer(Verdict::Declined, text)
            }
            Trouble::Unknown(why) => {
                error!(s, "error, {server} has not confirmed the message: {why}");
                let text = format!("{what} has not confirmed the message");
                answer_with(Verdict::DenySoft, Status(4, 4, 2), text)
            }
        }
    }

    /// A refusal that says nothing about the message is none.
    fn not_of_message(self) -> Trouble {
        match self {
            Trouble::Refused(reply) => Trouble::Nothing(format!("it said: {reply}")),
            other => other,
        }
    }
}

/// A positive reply, or what the other one means.
pub fn expect_yes(reply: Reply) -> Result<Reply, Trouble> {
    match reply {
        reply if reply.is_positive() => Ok(reply),
        reply if reply.is_refusal() => Err(Trouble::Refused(reply)),
        reply => Err(Trouble::Nothing(format!("strange answer {reply}"))),
    }
}

/// Where to, and how.
#[derive(Default)]
pub struct Client {
    /// Whether LMTP is spoken.
    pub lmtp: bool,
    /// The hosts, in the order in which they are tried.
    pub hosts: Hosts,
    /// TLS.
    pub secure: Secure,
    /// The login, if there is one.
    pub login: Option<Login>,
    /// Whether the login may be sent in clear.
    pub login_in_clear: bool,
    /// The longest wait for a connection or an answer, in seconds.
    pub timeout: u32,
    /// The longest wait for the answer to the message, in seconds.
    pub final_timeout: u32,
    /// How long a connection is kept for a further message, in seconds; 0: not at all.
    pub keep: u32,
    /// How many messages a connection serves.
    pub most: u32,
    /// The connections that are kept.
    pub pool: Pool,
}

impl Client {
    /// Does something over a connection: over one that was kept, else over a new one to the first host that answers.
    ///
    /// `prepare` is called once for each new connection, `deliver` for each that is ready. Another connection is only
    /// tried when nothing can have been passed on. All is over at `end`.
    pub fn over<T>(
        &self,
        s: &Session,
        end: Instant,
        prepare: &dyn Fn(&mut Open) -> Result<(), Trouble>,
        deliver: &mut dyn FnMut(&mut Open) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let waits = self.waits(end);
        let order = self.hosts.order();
        if let Some(mut open) = self
            .pool
            .take(order.first().copied(), Duration::from_secs(self.keep.into()))
        {
            open.link.set_waits(waits);
            match open.reset().and_then(|()| deliver(&mut open)) {
                Err(why) if why.may_try_again() => {
                    debug!(s, "a connection that was kept is of no use any more: {}", words(&why));
                }
                outcome => return self.done(open, outcome),
            }
        }
        let mut last = Trouble::Nothing("there is no host".to_owned());
        for host in order {
            let target = &self.hosts.all[host];
            let opened = Open::new(self, s, host, waits).and_then(|mut open| prepare(&mut open).map(|()| open));
            last = match opened.map_err(Trouble::not_of_message) {
                Ok(mut open) => {
                    self.hosts.lives(host);
                    match deliver(&mut open) {
                        Err(why) if why.may_try_again() => why,
                        outcome => return self.done(open, outcome),
                    }
                }
                Err(why) => {
                    self.hosts.failed(host);
                    why
                }
            };
            error!(s, "error, {target}: {}", words(&last));
        }
        Err(last)
    }

    fn waits(&self, end: Instant) -> Waits {
        let seconds = |number: u32| Duration::from_secs(number.max(1).into());
        Waits {
            each: seconds(self.timeout),
            last: seconds(self.final_timeout),
            end,
        }
    }

    /// Keeps the connection for a further message, or ends it.
    fn done<T>(&self, mut open: Open, outcome: Result<T, Trouble>) -> Result<T, Trouble> {
        open.messages += 1;
        let sound = !matches!(outcome, Err(Trouble::Nothing(_) | Trouble::Unknown(_)));
        if sound && self.keep > 0 && open.messages < self.most && open.link.in_turn().is_ok() {
            self.pool.put(open);
        } else if sound {
            open.link.quit();
        }
        outcome
    }
}

/// A trouble in words.
pub fn words(why: &Trouble) -> String {
    match why {
        Trouble::Refused(reply) => format!("it said: {reply}"),
        Trouble::Nothing(why) | Trouble::Unknown(why) => why.clone(),
    }
}

/// The hosts that arguments name: `host` with `port`, and further ones that may have ports of their own.
pub fn targets(host: &str, port: u16, others: &[String]) -> Result<Vec<Target>, String> {
    let all = std::iter::once(host).chain(others.iter().map(String::as_str));
    all.map(|host| Target::parse(host, port)).collect()
}
