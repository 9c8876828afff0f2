//! One session from greeting to good-bye: reads commands, checks their order, answers, and ends properly.

use std::borrow::Cow;
use std::time::Instant;

use super::answers::{Canned, answer, own_status, say};
use super::bdat::Parts;
use super::dispatch::is_auth;
use super::upstream::Upstream;
use super::xclient::Claims;
use crate::config::Rate;
use crate::log::Level;
use crate::mail::{Reply, Status};
use crate::plugin::{Chain, Decision, Event, Hook};
use crate::session::channel::LineEvent;
use crate::session::{HelloKind, Session, Stage, Tally, Verdict};

/// As many replies of 4xx as a patient client may get between two messages, which is those to as many recipients as RFC
/// 5321 4.5.3.1.8 wants servers to take; more of them count as commands that bring no mail.
const MOST_DEFERRED: usize = 1000;

/// How a session came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether the pre-connection hooks run; a super-server has its own ways (catalogue 8.1).
    pub pre_connection: bool,
    /// Whether to ask DNS for the client's name.
    pub reverse_name: bool,
    /// Whether TLS comes before the greeting (RFC 8314 3.3).
    pub tls: bool,
    /// Whether LMTP is spoken, and not SMTP.
    pub lmtp: bool,
}

/// What becomes of the connection after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// The reply says good-bye.
    Close,
    /// The client is gone.
    Lost,
}

/// Serves a session to its end.
pub fn serve(session: Box<Session>, chain: &Chain, entry: Entry) {
    Dialogue {
        chain,
        s: session,
        line: Vec::new(),
        errors: 0,
        idle: 0,
        parts: None,
        utf8: false,
        talked: false,
        deferred: 0,
        over_rate: None,
        code: 0,
        unknown: 0,
        auth_offered: false,
        hides: false,
        auth_failures: 0,
        heard: None,
        transactions: 0,
        entry,
        upstream: Upstream::default(),
        claims: Claims::default(),
        told_hello: None,
        hello_was_told: false,
    }
    .run();
}

/// A session and what the protocol counts about it.
pub struct Dialogue<'a> {
    pub(super) chain: &'a Chain,
    pub(super) s: Box<Session>,
    pub(super) line: Vec<u8>,
    /// The message that comes by BDAT.
    pub(super) parts: Option<Box<Parts>>,
    /// The command that is answered had the parameter SMTPUTF8 of its own.
    pub(super) utf8: bool,
    /// The client has talked out of its turn, and the log has it.
    pub(super) talked: bool,
    /// Commands answered by 5xx since a message was last accepted.
    pub(super) errors: usize,
    /// Commands that bring no mail, since a message was last accepted.
    pub(super) idle: usize,
    /// Replies of 4xx since a message was last accepted.
    pub(super) deferred: usize,
    /// The network of the client has had too many replies of 5xx, which it has not been told yet.
    over_rate: Option<Rate>,
    /// The code of the last reply.
    pub(super) code: u16,
    pub(super) unknown: usize,
    /// A reply to EHLO has offered AUTH on this connection as it is now.
    pub(super) auth_offered: bool,
    /// AUTH came to nothing: what is no command may be the rest of it, sent by a client that did not look.
    pub(super) hides: bool,
    /// Logins that have failed.
    pub(super) auth_failures: usize,
    /// When the client last said something in an exchange of AUTH.
    pub(super) heard: Option<Instant>,
    pub(super) transactions: usize,
    pub(super) entry: Entry,
    pub(super) upstream: Upstream,
    /// What XCLIENT has told so far.
    pub(super) claims: Claims,
    /// The greeting that XCLIENT has told of, until the plugins have been asked about it.
    pub(super) told_hello: Option<(HelloKind, String)>,
    /// The greeting that stands is what XCLIENT has told.
    pub(super) hello_was_told: bool,
}

impl Dialogue<'_> {
    fn run(mut self) {
        let entry = self.entry;
        self.s.lmtp = entry.lmtp;
        self.s.count(Tally::Connections);
        self.s.show(Stage::Connect);
        if !self.introduce(!entry.tls) {
            return;
        }
        if entry.pre_connection {
            let decision = self.chain.ask(&mut self.s, Event::PreConnection);
            if decision.verdict.denies() {
                self.answer(Hook::pre_connection, decision, "");
                if !entry.tls {
                    self.send();
                }
                return;
            }
        }
        if entry.reverse_name && self.s.peer.local.is_none() {
            self.find_name();
        }
        self.log_connection();
        let flow = match self.open(entry) {
            Flow::Continue => self.converse(),
            end => end,
        };
        self.send();
        self.end(flow);
    }

    /// Logs in the name of the core.
    pub(super) fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        self.s.log(level, text);
    }

    /// Commands until the end.
    fn converse(&mut self) -> Flow {
        let limits = self.s.settings.limits;
        // AUTH may bring a whole response with it (RFC 4954 4)
        let longest = limits.max_command_line.max(limits.max_auth_line);
        loop {
            self.s.channel.set_busy(self.s.transaction.is_some());
            self.s.show(self.s.stage());
            let event = match self.s.channel.line(&mut self.line, longest) {
                LineEvent::Line if self.line.len() + 2 > limits.max_command_line && !is_auth(&self.line) => {
                    LineEvent::TooLong
                }
                event => event,
            };
            let flow = match event {
                LineEvent::Line => self.dispatch(),
                LineEvent::TooLong => self.say(say(500, (5, 2), "line too long")),
                LineEvent::End => return Flow::Lost,
                LineEvent::TimedOut => return self.timed_out(),
                LineEvent::Leaving => return self.leaving(),
            };
            if flow != Flow::Continue {
                return flow;
            }
            if let Some(flow) = self.past_limits() {
                return flow;
            }
            self.s.channel.relieve();
        }
    }

    /// The good-bye to a client that has gone too far with what it may do without a message.
    fn past_limits(&mut self) -> Option<Flow> {
        if let Some(rate) = self.over_rate.take() {
            return Some(self.too_many_errors(rate));
        }
        let limits = self.s.settings.limits;
        let (what, limit, most) = if self.errors > limits.max_errors {
            ("errors", "max_errors", limits.max_errors)
        } else if self.idle > limits.max_idle_commands {
            (
                "commands without a message",
                "max_idle_commands",
                limits.max_idle_commands,
            )
        } else {
            return None;
        };
        self.log(Level::Notice, format_args!("too many {what}, limit {limit} {most}"));
        self.say_text(say(421, (7, 0), ""), format!("too many {what}, closing connection"));
        Some(Flow::Close)
    }

    /// The client was silent for too long (catalogue 1.6).
    pub(super) fn timed_out(&mut self) -> Flow {
        self.log(Level::Notice, format_args!("Connection Timed Out"));
        self.say(say(421, (4, 2), "Connection Timed Out"));
        Flow::Lost
    }

    /// The daemon ends, or an operator wants this client to go (catalogue 8.4).
    pub(super) fn leaving(&mut self) -> Flow {
        if self.s.watch.as_ref().is_some_and(|watch| watch.is_dismissed()) {
            self.s.count(Tally::Killed);
            self.log(Level::Notice, format_args!("killed by the operator"));
            self.say(say(550, (7, 0), "connection closed by the operator"));
            return Flow::Lost;
        }
        self.say(say(421, (3, 2), "service is shutting down, please try again later"));
        Flow::Lost
    }

    /// Asks the plugins.
    pub(super) fn ask(&mut self, event: Event<'_>) -> Decision {
        self.chain.ask(&mut self.s, event)
    }

    /// Answers a hook: the plugin's words, else `own`, else those of the table. Verdict DONE answers nothing.
    pub(super) fn answer(&mut self, hook: Hook, mut decision: Decision, own: &str) -> Flow {
        let Some(canned) = answer(hook, decision.verdict) else {
            return Flow::Continue;
        };
        if decision.status.is_none()
            && let Some((status, words)) = own_status(&decision.text, canned.code)
        {
            decision.status = Some(status);
            decision.text = Cow::Owned(words.to_owned());
        }
        let text = match (&*decision.text, own) {
            ("", "") => Cow::Borrowed(canned.text),
            ("", own) => Cow::Owned(own.to_owned()),
            _ => decision.text,
        };
        let own_code = decision.code.filter(|code| code / 100 == canned.code / 100);
        let canned = Canned {
            code: own_code.unwrap_or(canned.code),
            ..canned
        };
        let status = match (canned.status, decision.status) {
            (Some(_), Some(given)) => Some(given.with_class(canned.code)),
            (status, _) => status,
        };
        self.reply(canned, status, text)
    }

    /// A reply of the core itself.
    pub(super) fn say(&mut self, canned: Canned) -> Flow {
        self.reply(canned, canned.status, Cow::Borrowed(canned.text))
    }

    /// A reply of the core with words that depend on the case.
    pub(super) fn say_text(&mut self, canned: Canned, text: String) -> Flow {
        self.reply(canned, canned.status, Cow::Owned(text))
    }

    fn reply(&mut self, canned: Canned, status: Option<Status>, text: Cow<'static, str>) -> Flow {
        self.code = canned.code;
        self.s.count(match canned.code {
            ..400 => Tally::Positive,
            // what is put off is no fault of the client's, but it must end somewhere
            400..500 => {
                self.deferred += 1;
                self.idle += usize::from(self.deferred > MOST_DEFERRED);
                Tally::Soft
            }
            500.. => {
                self.errors += 1;
                self.over_rate = self.count_error().or(self.over_rate);
                Tally::Hard
            }
        });
        let utf8 = self.utf8 || self.is_utf8();
        let reply = Reply::new(canned.code, status, text).utf8(utf8);
        if self.s.wants(Level::Info) {
            let log = |line| self.log(Level::Info, format_args!("{line}"));
            reply.logged().for_each(log);
        }
        for _ in 0..self.s.replies {
            reply.write_to(self.s.channel.output());
            self.s.channel.relieve();
        }
        match canned.close {
            true => Flow::Close,
            false => Flow::Continue,
        }
    }

    /// Refuses what the transaction is about; unless the connection ends, which does it too, the transaction ends.
    pub(super) fn refuse_message(&mut self, hook: Hook, decision: Decision) -> Flow {
        let flow = self.answer(hook, decision, "");
        if flow == Flow::Continue {
            self.reset_transaction();
        }
        flow
    }

    /// Sends what has gathered; a client that is gone does not hear it.
    pub(super) fn send(&mut self) {
        let _ = self.s.channel.flush();
    }

    /// Ends the transaction, if there is one; its files go with it (catalogue 1.6).
    pub(super) fn reset_transaction(&mut self) {
        self.parts = None;
        if self.s.transaction.is_some() {
            self.chain.tell(&mut self.s, Event::ResetTransaction);
            self.s.transaction = None;
            self.s.forwarded = None;
            self.s.channel.shrink();
        }
    }

    /// The end of the connection; the order of the hooks depends on who ended it (catalogue 1.6).
    fn end(&mut self, flow: Flow) {
        self.s.show(Stage::End);
        if flow == Flow::Lost {
            self.reset_transaction();
            self.log(Level::Info, format_args!("Lost connection to client, cleaning up"));
        } else {
            self.log(Level::Info, format_args!("click, disconnecting"));
        }
        self.chain.tell(&mut self.s, Event::Disconnect);
        self.reset_transaction();
        self.chain.tell(&mut self.s, Event::PostConnection);
        self.s.notes.clear();
    }
}

/// Whether a plugin has taken the answer upon itself.
pub(super) fn is_done(decision: &Decision) -> bool {
    decision.verdict == Verdict::Done
}
