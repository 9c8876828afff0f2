//! Who watches a session: what it is at, which plugin runs, what came of it. For status displays and counters.
//!
//! A process that serves one session has no watcher. Everything here is called often and must cost next to nothing.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Session;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl $name {
            /// All of them, in their order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The word for it in displays and metrics.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
    };
}

table! {
    /// What a session is at.
    Stage {
        /// The greeting is being decided.
        Connect "connect",
        /// TLS is being agreed on.
        Tls "tls",
        /// The client has been greeted and has not said who it is.
        Greeted "greeted",
        /// The client has said who it is; no transaction is open.
        Hello "helo",
        /// A sender is named.
        Mail "mail",
        /// Recipients are named.
        Rcpt "rcpt",
        /// The message comes in.
        Data "data",
        /// The message is here and is being decided.
        Decide "decide",
        /// The connection ends.
        End "end",
    }
}

table! {
    /// What is counted.
    Tally {
        /// Sessions begun.
        Connections "connections",
        /// Messages taken, answered by 250.
        Accepted "accepted",
        /// Messages put off, answered by 4xx at DATA or after it.
        Deferred "deferred",
        /// Messages refused, answered by 5xx at DATA or after it.
        Rejected "rejected",
        /// Messages that broke off.
        Broken "broken",
        /// Recipients taken.
        Recipients "recipients",
        /// Recipients put off or refused.
        RefusedRecipients "refused_recipients",
        /// Bytes of messages that came in.
        Bytes "bytes",
        /// Replies 2xx and 3xx.
        Positive "replies_positive",
        /// Replies 4xx.
        Soft "replies_4xx",
        /// Replies 5xx.
        Hard "replies_5xx",
        /// Commands and connections refused by a rate.
        OverRate "over_rate",
        /// Handshakes of TLS that came to a good end.
        Encrypted "encrypted",
        /// Handshakes of TLS that did not.
        NotEncrypted "not_encrypted",
        /// Sessions ended by an operator.
        Killed "killed",
    }
}

table! {
    /// What came of calling a plugin.
    Ruling {
        /// No opinion.
        Decline "decline",
        /// Accepted, or done altogether.
        Accept "accept",
        /// Refused for good.
        Deny "deny",
        /// Refused for now.
        Soft "soft",
        /// The plugin failed.
        Error "error",
        /// The plugin panicked.
        Panic "panic",
    }
}

/// A plugin at a hook, as the watcher numbers them; 0 for none.
pub type Mark = u16;

/// How many sessions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Company {
    /// Of the same address (IPv6: network), this one included.
    pub same: u32,
    /// How many of those are allowed; 0 is no limit.
    pub limit: u32,
    /// In all.
    pub all: u32,
}

/// A client that has too many sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The whole reply.
    pub reply: Vec<u8>,
    /// Words for the log.
    pub why: String,
}

/// Someone who watches a session.
pub trait Watch: Send {
    /// The session is at something else now.
    fn stage(&self, stage: Stage);
    /// A plugin begins to run.
    fn begins(&self, mark: Mark, at: Instant);
    /// It has ended.
    fn ended(&self, mark: Mark, ruling: Ruling, took: Duration);
    /// No plugin runs any more.
    fn rests(&self);
    /// Something happened so many times.
    fn count(&self, what: Tally, by: u64);
    /// The client is another than it seemed; it is counted as that one from now on. For one that is `exempt` no limit
    /// of sessions holds.
    ///
    /// # Errors
    /// It has too many sessions, and is not counted any more.
    fn moved(&self, to: SocketAddr, exempt: bool) -> Result<Company, Refused>;
    /// Whether an operator wants this client to go.
    fn is_dismissed(&self) -> bool;
    /// A message, which `parts` puts into a hasher, begins to be decided. Returns its fingerprint, and whether
    /// workers have crashed over it before.
    fn deciding(&self, parts: &dyn Fn(&mut dyn Hasher)) -> (u64, bool);
    /// The message is decided.
    fn decided(&self);
}

impl Session {
    /// Tells the watcher, if there is one, what the session is at.
    pub fn show(&self, stage: Stage) {
        if let Some(watch) = &self.watch {
            watch.stage(stage);
        }
    }

    /// Counts one event.
    pub fn count(&self, what: Tally) {
        self.count_by(what, 1);
    }

    /// Counts so many events.
    pub fn count_by(&self, what: Tally, by: u64) {
        if let Some(watch) = &self.watch {
            watch.count(what, by);
        }
    }

    /// Tells the watcher that the message begins to be decided. Returns its fingerprint if workers have crashed over
    /// such a message before: one with the same envelope and header.
    pub fn deadly_message(&self) -> Option<u64> {
        let (watch, transaction) = (self.watch.as_ref()?, self.transaction.as_ref()?);
        let (fingerprint, deadly) = watch.deciding(&|hasher| {
            let addresses = transaction.recipients.iter().map(|one| &one.address);
            for address in [&transaction.sender].into_iter().chain(addresses) {
                hasher.write(address.to_string().as_bytes());
                hasher.write_u8(0);
            }
            for field in transaction.message.header.iter() {
                hasher.write(field.raw());
            }
        });
        deadly.then_some(fingerprint)
    }

    /// Tells the watcher that the message is decided.
    pub fn message_decided(&self) {
        if let Some(watch) = &self.watch {
            watch.decided();
        }
    }

    /// What the session is at while it waits for a command.
    pub fn stage(&self) -> Stage {
        match &self.transaction {
            Some(transaction) if !transaction.recipients.is_empty() => Stage::Rcpt,
            Some(_) => Stage::Mail,
            None if self.hello.is_some() => Stage::Hello,
            None => Stage::Greeted,
        }
    }
}
