//! The beginning of a session: who the client is, and the greeting.

use std::time::Duration;

use super::dialogue::{Dialogue, Entry, Flow};
use super::trace::PRODUCT;
use crate::config::OutOfTurn;
use crate::log::Level;
use crate::plugin::{Event, Hook};
use crate::session::channel::Pending;
use crate::session::services::Dns;

/// How long a reverse name may take.
const REVERSE_WAIT: Duration = Duration::from_secs(5);

impl Dialogue<'_> {
    pub(super) fn find_name(&mut self) {
        let dns = self.s.services().dns.clone();
        if let Dns::Found(names) = dns.reverse(self.s.peer.ip, REVERSE_WAIT)
            && let Some(name) = names.first()
        {
            self.s.peer.set_host(name);
        }
    }

    pub(super) fn log_connection(&self) {
        let peer = &self.s.peer;
        self.log(
            Level::Info,
            format_args!(
                "Accepted connection {}/{} from {} / {}",
                peer.all_sessions, peer.max_all_sessions, peer.ip, peer.host
            ),
        );
        self.log(
            Level::Notice,
            format_args!("Connection from {} [{}]", peer.info, peer.ip),
        );
    }

    /// What comes before the first command.
    pub(super) fn open(&mut self, entry: Entry) -> Flow {
        if entry.tls && !self.encrypt(Hook::connect.name()) {
            return Flow::Lost;
        }
        if self.s.settings.unauthorized_pipelining == OutOfTurn::Refuse
            && self.s.pending(Duration::ZERO) == Pending::Talking
        {
            self.log(Level::Notice, format_args!("client talks before the greeting"));
            return self.end_out_of_turn();
        }
        self.connection_over_rate().unwrap_or_else(|| self.greet())
    }

    /// The greeting; also the answer to XCLIENT.
    pub(super) fn greet(&mut self) -> Flow {
        let decision = self.chain.ask(&mut self.s, Event::Connect);
        if let Some((kind, host)) = self.told_hello.take()
            && !decision.verdict.denies()
        {
            if let Some(flow) = self.refuse_hello(kind, host) {
                return flow;
            }
            self.hello_was_told = true;
        }
        let settings = self.s.settings.clone();
        let words = match &settings.smtpgreeting {
            Some(own) if self.s.lmtp => format!("{own} LMTP"),
            None if self.s.lmtp => format!("{} LMTP {PRODUCT} {} ready", settings.me, env!("CARGO_PKG_VERSION")),
            Some(own) if own.split_whitespace().any(|word| word == "ESMTP") => own.clone(),
            Some(own) => format!("{own} ESMTP"),
            None => format!("{} ESMTP {PRODUCT} {} ready", settings.me, env!("CARGO_PKG_VERSION")),
        };
        let own = if decision.verdict.denies() { "" } else { &words };
        self.answer(Hook::connect, decision, own)
    }
}
