//! DATA: from 354 to the answer about the message (catalogue 1.5).

use super::answers::{answer, say};
use super::bdat::NOT_BY_DATA;
use super::dialogue::{Dialogue, Flow, is_done};
use super::intake::{Intake, Step};
use super::receiving::{Pace, Receiving, Trouble};
use super::trace;
use crate::log::Level;
use crate::mail::body::is_full;
use crate::mail::{BodyKind, Message};
use crate::plugin::{Event, Hook};
use crate::session::wire::Heard;
use crate::session::{Stage, Tally, Verdict};

/// What has been reached in the bytes that have been read.
pub(super) enum Taken {
    /// The end of the header.
    Header,
    /// The end of the message.
    End,
    /// A bare newline, which is not allowed.
    Bare,
    /// Their end; more must be read.
    All,
}

/// How the data phase ended.
pub(super) enum Ended {
    /// With CRLF.CRLF.
    Complete,
    /// Otherwise; the reply has been made.
    Broken(Flow),
}

impl Dialogue<'_> {
    /// The command DATA.
    pub(super) fn data(&mut self) -> Flow {
        if self
            .s
            .transaction
            .as_ref()
            .is_some_and(|one| one.options.body == BodyKind::Binary)
        {
            return self.say(NOT_BY_DATA);
        }
        if let Some(transaction) = &mut self.s.transaction {
            transaction.chunked = false;
        }
        self.code = 0;
        let flow = self.take_message();
        self.s.replies = 1;
        self.tally(flow);
        flow
    }

    /// Counts what became of a message.
    pub(super) fn tally(&self, flow: Flow) {
        match self.code {
            // whatever was said to it
            _ if flow == Flow::Lost => self.s.count(Tally::Broken),
            200..300 => self.s.count(Tally::Accepted),
            // 354 was the last that was said
            300..400 => self.s.count(Tally::Broken),
            400..500 => self.s.count(Tally::Deferred),
            500.. => self.s.count(Tally::Rejected),
            // a plugin has answered
            _ => {}
        }
    }

    fn take_message(&mut self) -> Flow {
        let decision = self.ask(Event::Data);
        if decision.verdict.denies() {
            return self.refuse_message(Hook::data, decision);
        }
        if is_done(&decision) {
            return Flow::Continue;
        }
        self.answer(Hook::data, decision, "");
        self.s.show(Stage::Data);
        self.s.channel.set_busy(true);
        self.s.channel.set_patience(self.s.settings.timeout);
        let ended = self.receive();
        self.s.channel.set_patience(self.s.settings.timeoutsmtpd);
        self.after(ended)
    }

    /// What becomes of a message whose bytes have come, or not.
    pub(super) fn after(&mut self, ended: Ended) -> Flow {
        match ended {
            Ended::Complete => self.decide(),
            Ended::Broken(Flow::Continue) => {
                self.reset_transaction();
                Flow::Continue
            }
            Ended::Broken(end) => end,
        }
    }

    /// Reads the message to its end.
    fn receive(&mut self) -> Ended {
        let settings = self.s.settings.clone();
        let mut intake = Intake::new(settings.bare_newlines.contains(self.s.peer.ip));
        let mut receiving = Receiving::new(&settings, self.s.size_limit());
        let mut pace = Pace {
            began: self.s.services().clock.instant(),
            came: self.s.channel.buffered().len() as u64,
            least: settings.limits.min_data_rate,
        };
        if let Some(transaction) = &mut self.s.transaction {
            // a plugin may have put an end to an earlier DATA of the same transaction
            transaction.message = Message::new(transaction.message.body.spool());
        }
        loop {
            if self.s.transaction.is_none() {
                return Ended::Broken(Flow::Lost);
            }
            match self.take_buffered(&mut intake, &mut receiving) {
                Taken::Header => {
                    if let Some(flow) = self.headers_end(&mut receiving) {
                        return Ended::Broken(flow);
                    }
                }
                Taken::End => {
                    self.answer_each();
                    return self.received(receiving);
                }
                Taken::Bare => return Ended::Broken(self.bare_newline()),
                Taken::All => {
                    if let Some(flow) = self.read_on(&mut pace) {
                        return Ended::Broken(flow);
                    }
                }
            }
        }
    }

    /// Reads more of a message; a flow if there is no more, and the reply has been made.
    pub(super) fn read_on(&mut self, pace: &mut Pace) -> Option<Flow> {
        match self.s.channel.fill(true) {
            Heard::Bytes(count) => {
                let slow = pace.is_too_slow(count, self.s.services().clock.instant());
                slow.then(|| self.too_slow())
            }
            Heard::End => Some(self.incomplete()),
            Heard::TimedOut => Some(self.timed_out()),
            Heard::Leaving => Some(self.leaving()),
        }
    }

    /// Takes what has been read, up to something that asks for more than storing it.
    fn take_buffered(&mut self, intake: &mut Intake, receiving: &mut Receiving) -> Taken {
        let Some(transaction) = &mut self.s.transaction else {
            return Taken::All;
        };
        let input = self.s.channel.buffered();
        let mut done = 0;
        let taken = loop {
            match intake.step(&input[done..]) {
                Step::Text { text, ends, used } => {
                    done += used;
                    if receiving.take(text, ends, transaction) {
                        break Taken::Header;
                    }
                }
                Step::End { used } => {
                    done += used;
                    break Taken::End;
                }
                Step::Bare => break Taken::Bare,
                Step::More => break Taken::All,
            }
        };
        self.s.channel.consume(done);
        taken
    }

    pub(super) fn too_slow(&mut self) -> Flow {
        let least = self.s.settings.limits.min_data_rate;
        self.log(
            Level::Notice,
            format_args!("message comes too slowly, limit min_data_rate {least}"),
        );
        self.say(say(421, (4, 2), "message comes too slowly"));
        Flow::Close
    }

    fn incomplete(&mut self) -> Flow {
        self.log(
            Level::Notice,
            format_args!("Lost connection to client, incomplete DATA"),
        );
        self.say(say(451, (4, 2), "incomplete DATA"));
        Flow::Lost
    }

    pub(super) fn bare_newline(&mut self) -> Flow {
        self.log(Level::Notice, format_args!("bare newline in DATA, closing connection"));
        self.say(say(
            421,
            (5, 2),
            "bare newlines are not accepted, see https://cr.yp.to/docs/smtplf.html",
        ));
        Flow::Close
    }

    /// Hook data_headers_end: only a verdict that closes the connection counts here.
    pub(super) fn headers_end(&mut self, receiving: &mut Receiving) -> Option<Flow> {
        if receiving.trouble.is_some() {
            return None;
        }
        let decision = self.ask(Event::DataHeadersEnd);
        if decision.failed {
            receiving.trouble = Some(Trouble::Plugin);
            return None;
        }
        answer(Hook::data_headers_end, decision.verdict)?;
        Some(self.answer(Hook::data_headers_end, decision, ""))
    }

    /// The end has come: completes the header, and refuses what must be refused.
    pub(super) fn received(&mut self, mut receiving: Receiving) -> Ended {
        if let Some(transaction) = &mut self.s.transaction
            && receiving.line_start.is_some()
            && receiving.trouble.is_none()
        {
            receiving.complete_header(receiving.head.len(), false, transaction);
            if let Some(flow) = self.headers_end(&mut receiving) {
                return Ended::Broken(flow);
            }
        }
        if let Some(transaction) = &mut self.s.transaction {
            transaction.data_size = receiving.stored;
        }
        self.s.count_by(Tally::Bytes, receiving.stored);
        if self.s.wants(Level::Debug) {
            self.log(Level::Debug, format_args!("message of {} bytes", receiving.stored));
        }
        let Some(trouble) = receiving.trouble else {
            return Ended::Complete;
        };
        Ended::Broken(match trouble {
            Trouble::TooBig => {
                self.log(
                    Level::Alert,
                    format_args!("message too big, limit databytes {}", receiving.most),
                );
                self.say(say(552, (3, 4), "message too big"))
            }
            Trouble::HeaderTooBig => self.say(say(552, (3, 4), "header too big")),
            Trouble::LineTooLong => self.say(say(554, (6, 0), "line too long")),
            Trouble::Spool(why) if is_full(&why) => {
                self.log(Level::Error, format_args!("cannot spool message: {why}"));
                self.say(say(452, (3, 1), "mail system full, try again later"))
            }
            Trouble::Spool(why) => {
                self.log(Level::Error, format_args!("cannot spool message: {why}"));
                self.say(say(451, (3, 0), "cannot store the message, try again later"))
            }
            Trouble::Plugin => self.say(say(451, (3, 0), "temporary failure, please try again later")),
        })
    }

    /// The message is here. One over which workers have crashed is put off before it can do that again.
    fn decide(&mut self) -> Flow {
        self.s.show(Stage::Decide);
        let flow = match self.s.deadly_message() {
            Some(fingerprint) => self.set_aside(fingerprint),
            None => self.ask_and_queue(),
        };
        self.s.message_decided();
        flow
    }

    fn set_aside(&mut self, fingerprint: u64) -> Flow {
        let name = format!("deadly-{fingerprint:016x}");
        let kept = self.s.message().map_or(Ok(()), |message| message.set_aside(&name));
        match kept {
            Ok(()) => self.log(
                Level::Alert,
                format_args!("workers crashed over this message; put off, a copy is {name} in the spool"),
            ),
            Err(why) => self.log(
                Level::Alert,
                format_args!("workers crashed over this message; put off; no copy in the spool: {why}"),
            ),
        }
        let flow = self.say(say(
            451,
            (3, 0),
            "this message cannot be processed now, try again later",
        ));
        self.reset_transaction();
        flow
    }

    /// The plugins decide about the message and take it.
    fn ask_and_queue(&mut self) -> Flow {
        self.ask(Event::DataPostHeaders);
        self.add_trace();
        for (hook, event) in [(Hook::data_post, Event::DataPost), (Hook::queue_pre, Event::QueuePre)] {
            let decision = self.ask(event);
            if is_done(&decision) {
                return Flow::Continue;
            }
            if decision.verdict.denies() {
                return self.refuse_message(hook, decision);
            }
        }
        let decision = self.ask(Event::Queue);
        let settled = self.settled();
        self.reset_transaction();
        let (flow, queued) = self.answer_queue(decision, settled);
        if queued {
            (self.errors, self.idle, self.deferred) = (0, 0, 0);
            if self.chain.serves(Hook::queue_post) {
                // the client need not wait for what comes after
                self.send();
                self.chain.tell(&mut self.s, Event::QueuePost);
            }
        }
        flow
    }

    /// Received and Authentication-Results; the latter is topmost.
    fn add_trace(&mut self) {
        let ids = self.s.settings.clone();
        let ids = ids.me_auth_results.as_deref().unwrap_or_default();
        if let (false, Some(message)) = (ids.is_empty(), self.s.message()) {
            trace::clean_results(&mut message.header, ids);
        }
        let facts = trace::trace(&self.s);
        let decision = self.ask(Event::ReceivedLine { trace: &facts });
        let received = match (decision.verdict, decision.text) {
            (Verdict::Ok, text) if !text.is_empty() => text.into_owned(),
            _ => trace::received(&self.s, &facts),
        };
        let results = ids.first().map(|id| trace::results(&self.s, id));
        if let Some(message) = self.s.message() {
            message.header.add_top("Received", received);
            if let Some(results) = results {
                message.header.add_top("Authentication-Results", results);
            }
        }
    }
}
