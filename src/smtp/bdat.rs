//! BDAT: a message in parts, each of a size that is known beforehand (RFC 3030).
//!
//! What becomes of the message is what becomes of one that comes by DATA: the same hooks, limits and replies. Bytes
//! that belong to a part are never taken for commands, whatever is wrong with it: they are read and thrown away. Only
//! where the size cannot be read nobody can know where the commands go on; then the connection ends.

use super::answers::{Canned, say};
use super::chunk::{Lines, Part};
use super::commands::Needs;
use super::data::{Ended, Taken};
use super::dialogue::{Dialogue, Flow, is_done};
use super::intake::Step;
use super::receiving::{Pace, Receiving};
use crate::log::Level;
use crate::mail::{BodyKind, Message};
use crate::plugin::{Event, Hook};
use crate::session::{Stage, Verdict};

/// A message of which some parts are here.
pub(super) struct Parts {
    lines: Lines,
    receiving: Receiving,
    pace: Pace,
    /// What the parts have declared, in bytes on the wire.
    declared: u64,
}

impl Dialogue<'_> {
    /// The command BDAT.
    pub(super) fn bdat(&mut self, rest: &str) -> Flow {
        let Some(part) = Part::parse(rest) else {
            self.say(say(
                501,
                (5, 4),
                "BDAT needs a size, and LAST at the end of the message",
            ));
            return Flow::Close;
        };
        let refused = match self.lacks(Needs::Recipient) {
            _ if self.s.settings.disabled.chunking => Some(say(502, (5, 1), "command not implemented")),
            lacking => lacking.map(|text| say(503, (5, 1), text)),
        };
        if let Some(refused) = refused {
            let flow = self.swallow(part.size);
            return flow.unwrap_or_else(|| self.say(refused));
        }
        self.code = 0;
        self.idle += usize::from(part.size == 0 && !part.last);
        self.s.show(Stage::Data);
        self.s.channel.set_busy(true);
        self.s.channel.set_patience(self.s.settings.timeout);
        if part.last {
            self.answer_each();
        }
        let flow = self.take_part(part);
        self.s.replies = 1;
        self.s.channel.set_patience(self.s.settings.timeoutsmtpd);
        if part.last || self.code >= 300 || flow != Flow::Continue {
            self.tally(flow);
        }
        flow
    }

    fn take_part(&mut self, part: Part) -> Flow {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => match self.first_part(part) {
                Ok(parts) => parts,
                Err(flow) => return flow,
            },
        };
        parts.declared = parts.declared.saturating_add(part.size);
        if parts.declared > parts.receiving.most {
            return self.too_big(part, parts.receiving.most);
        }
        match self.receive_part(part, &mut parts) {
            Some(flow) => self.after(Ended::Broken(flow)),
            // what went wrong is told at once, and not only at the last part
            None if part.last || parts.receiving.trouble.is_some() => {
                let ended = self.received(parts.receiving);
                self.after(ended)
            }
            None => {
                self.parts = Some(parts);
                self.say_text(say(250, (0, 0), ""), format!("{} bytes received", part.size))
            }
        }
    }

    /// Asks whether there may be a message at all, as DATA does.
    fn first_part(&mut self, part: Part) -> Result<Box<Parts>, Flow> {
        if let Some(transaction) = &mut self.s.transaction {
            transaction.chunked = true;
        }
        let decision = self.ask(Event::Data);
        let closes = matches!(decision.verdict, Verdict::DenyDisconnect | Verdict::DenySoftDisconnect);
        if closes {
            return Err(self.refuse_message(Hook::data, decision));
        }
        if (decision.verdict.denies() || is_done(&decision))
            && let Some(flow) = self.swallow(part.size)
        {
            return Err(flow);
        }
        if decision.verdict.denies() {
            return Err(self.refuse_message(Hook::data, decision));
        }
        if is_done(&decision) {
            return Err(Flow::Continue);
        }
        let settings = &self.s.settings;
        let mut receiving = Receiving::new(settings, self.s.size_limit());
        if let Some(transaction) = &mut self.s.transaction {
            receiving.binary = transaction.options.body == BodyKind::Binary;
            transaction.message = Message::new(transaction.message.body.spool());
        }
        Ok(Box::new(Parts {
            lines: Lines::new(settings.bare_newlines.contains(self.s.peer.ip)),
            receiving,
            pace: self.pace(),
            declared: 0,
        }))
    }

    /// A message that will be larger than is allowed: the client hears it before it has sent the part.
    fn too_big(&mut self, part: Part, most: u64) -> Flow {
        self.log(Level::Alert, format_args!("message too big, limit databytes {most}"));
        self.say(say(552, (3, 4), "message too big"));
        self.reset_transaction();
        self.swallow(part.size).unwrap_or(Flow::Continue)
    }

    /// Takes a part to its end; a flow if it did not come to that, and the reply has been made.
    fn receive_part(&mut self, part: Part, parts: &mut Parts) -> Option<Flow> {
        let mut left = part.size;
        let here = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.s.channel.buffered().len());
        if parts.pace.is_too_slow(here, self.s.services().clock.instant()) {
            return Some(self.too_slow());
        }
        loop {
            match self.take_of_part(parts, &mut left) {
                Taken::Header => {
                    if let Some(flow) = self.headers_end(&mut parts.receiving) {
                        return Some(flow);
                    }
                }
                _ if self.s.transaction.is_none() => return Some(Flow::Lost),
                Taken::Bare => return Some(self.bare_newline()),
                _ if left == 0 => break,
                _ => {
                    if let Some(flow) = self.read_on(&mut parts.pace) {
                        return Some(flow);
                    }
                }
            }
        }
        if !part.last || parts.receiving.is_raw() {
            return None;
        }
        let cr = parts.lines.take_cr();
        if cr && !self.s.settings.bare_newlines.contains(self.s.peer.ip) {
            return Some(self.bare_newline());
        }
        // the last line of a message is a whole one, as it is after DATA
        if let Some(transaction) = &mut self.s.transaction
            && (cr || parts.receiving.line_length > 0)
            && parts.receiving.take(b"", true, transaction)
        {
            return self.headers_end(&mut parts.receiving);
        }
        None
    }

    /// Takes what has been read of a part, up to something that asks for more than storing it.
    fn take_of_part(&mut self, parts: &mut Parts, left: &mut u64) -> Taken {
        let Some(transaction) = &mut self.s.transaction else {
            return Taken::All;
        };
        let input = self.s.channel.buffered();
        let input = &input[..input.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
        let mut done = 0;
        let taken = loop {
            if parts.receiving.is_raw() {
                if parts.lines.take_cr() {
                    parts.receiving.take_raw(b"\r", transaction);
                }
                parts.receiving.take_raw(&input[done..], transaction);
                done = input.len();
                break Taken::All;
            }
            match parts.lines.step(&input[done..]) {
                Step::Text { text, ends, used } => {
                    done += used;
                    if parts.receiving.take(text, ends, transaction) {
                        break Taken::Header;
                    }
                }
                Step::Bare => break Taken::Bare,
                Step::More | Step::End { .. } => break Taken::All,
            }
        };
        self.s.channel.consume(done);
        *left -= done as u64;
        taken
    }

    /// Reads a part and throws it away; a flow if the client did not send it all.
    fn swallow(&mut self, size: u64) -> Option<Flow> {
        let mut pace = self.pace();
        let mut left = size;
        loop {
            let here = self
                .s
                .channel
                .buffered()
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            self.s.channel.consume(here);
            left -= here as u64;
            if left == 0 {
                return None;
            }
            if let Some(flow) = self.read_on(&mut pace) {
                return Some(flow);
            }
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            began: self.s.services().clock.instant(),
            came: 0,
            least: self.s.settings.limits.min_data_rate,
        }
    }
}

/// DATA cannot bring a body that is not made of lines (RFC 3030 3).
pub(super) const NOT_BY_DATA: Canned = say(503, (5, 1), "a message with BODY=BINARYMIME comes by BDAT");
