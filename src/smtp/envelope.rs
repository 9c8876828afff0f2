//! MAIL and RCPT: from the command line to the envelope (catalogue 1.4, 3).

use std::net::IpAddr;

use super::answers::{Canned, say};
use super::command::{mail_line, rcpt_line};
use super::dialogue::{Dialogue, Flow, is_done};
use crate::log::Level;
use crate::mail::options::BadOption;
use crate::mail::{Address, BadAddress, MailOptions, Params, PathLine, RcptOptions, Syntax};
use crate::plugin::{Decision, Event, Hook};
use crate::session::{Recipient, Tally, Transaction, Verdict};

impl Dialogue<'_> {
    /// `utf8` if MAIL had the parameter SMTPUTF8.
    fn syntax(&self, utf8: bool) -> Syntax {
        Syntax {
            lenient_local: self.s.settings.lenient_local_parts,
            underscore: self.s.settings.allow_underscore_domains,
            utf8,
        }
    }

    pub(super) fn mail(&mut self, rest: &str) -> Flow {
        self.reset_transaction();
        let most = self.s.settings.limits.max_transactions;
        self.transactions += 1;
        if self.transactions > most {
            self.log(
                Level::Notice,
                format_args!("too many transactions, limit max_transactions {most}"),
            );
            self.say(say(421, (5, 3), "too many transactions in this session"));
            return Flow::Close;
        }
        if let Some(flow) = self.message_over_rate() {
            return flow;
        }
        rest.clone_into(&mut self.s.envelope_from);
        let parsed = self.ask(Event::MailParse { line: rest });
        let PathLine { address, params } = match self.path_line(parsed, || mail_line(rest)) {
            Ok(line) => line,
            Err(flow) => return flow,
        };
        let options = match self.mail_options(&params) {
            Ok(options) => options,
            Err((canned, why)) => return self.say_text(canned, why),
        };
        let before = self.ask(Event::MailPre {
            address: &address,
            params: &params,
        });
        if before.failed {
            return self.answer(Hook::mail, before, "");
        }
        let path = replaced(address, before);
        if !path.is_ascii() && !options.utf8 {
            return self.not_ascii();
        }
        let sender = match Address::parse_sender(&path, self.syntax(options.utf8)) {
            Ok(sender) => sender,
            Err(why) => {
                let words = format!("could not parse your mail from command: {why}");
                return self.say_text(say(501, (1, 7), ""), words);
            }
        };
        self.sender(sender, params, options)
    }

    /// An address that is not ASCII, in a transaction that is not for such (RFC 6531 3.5).
    fn not_ascii(&mut self) -> Flow {
        self.say(match self.offered().utf8 {
            true => say(
                553,
                (6, 7),
                "an address that is not ASCII needs the parameter SMTPUTF8 of MAIL",
            ),
            false => say(553, (6, 7), "addresses that are not ASCII are not accepted here"),
        })
    }

    /// Whether MAIL had the parameter SMTPUTF8.
    pub(super) fn is_utf8(&self) -> bool {
        self.s.transaction.as_ref().is_some_and(|one| one.options.utf8)
    }

    /// Asks about a sender and opens the transaction.
    fn sender(&mut self, sender: Address, params: Params, options: MailOptions) -> Flow {
        let (spool, now) = (self.s.services().spool.clone(), self.s.services().clock.now());
        let mut transaction = Transaction::new(sender.clone(), params.clone(), &spool, now);
        transaction.options = options;
        self.s.transaction = Some(Box::new(transaction));
        let decision = self.ask(Event::Mail {
            sender: &sender,
            params: &params,
        });
        if decision.verdict.denies() {
            // `deny mail from` and `denysoft mail from` are words that the log tools look for (catalogue 5)
            let word = if decision.verdict.is_soft() { "denysoft" } else { "deny" };
            self.log(
                Level::Info,
                format_args!("{word} mail from {} ({})", sender.path(), decision.text),
            );
            return self.refuse_message(Hook::mail, decision);
        }
        if is_done(&decision) {
            // the plugin may as well have refused it
            self.reset_transaction();
        }
        let words = format!("{}, sender ok", sender.path());
        self.answer(Hook::mail, decision, &words)
    }

    /// Reads and checks the parameters that this server knows: else the refusal and its words.
    fn mail_options(&self, params: &Params) -> Result<MailOptions, (Canned, String)> {
        let offered = self.offered();
        let mut options = MailOptions::read(params, offered).map_err(bad_option)?;
        let trusted = self.s.login.user.is_some() || self.s.relay_client;
        if let Some(named) = options.auth.as_mut().filter(|named| *named != "<>") {
            let kept = if trusted {
                "kept"
            } else {
                "taken as <>, the client is not trusted"
            };
            self.s.log(Level::Info, format_args!("AUTH={named}: {kept}"));
            if !trusted {
                "<>".clone_into(named);
            }
        }
        let most = self.s.size_limit();
        if options.size.is_some_and(|size| size > most) {
            let words = format!("message too big, at most {most} bytes are accepted");
            return Err((say(552, (3, 4), ""), words));
        }
        for (key, value) in params.iter() {
            match (key, value.unwrap_or_default()) {
                // RFC 8689 4.1; it is kept with the other parameters for those who hand the message on
                ("requiretls", "") if offered.requiretls => {}
                ("requiretls", "") => {
                    let words = match self.s.tls {
                        Some(_) => "REQUIRETLS cannot be kept here",
                        None => "REQUIRETLS is only taken over TLS",
                    };
                    return Err((say(555, (5, 4), ""), words.to_owned()));
                }
                ("requiretls", _) => return Err((say(501, (5, 4), ""), "REQUIRETLS takes no value".to_owned())),
                (other, _) if self.s.settings.strict_parameters && !MailOptions::reads(other, offered) => {
                    return Err(unknown_parameter(other));
                }
                _ => {}
            }
        }
        Ok(options)
    }

    fn rcpt_options(&self, params: &Params) -> Result<RcptOptions, (Canned, String)> {
        let offered = self.offered();
        if self.s.settings.strict_parameters
            && let Some((key, _)) = params.iter().find(|(key, _)| !RcptOptions::reads(key, offered))
        {
            return Err(unknown_parameter(key));
        }
        RcptOptions::read(params, offered, self.is_utf8()).map_err(bad_option)
    }

    pub(super) fn rcpt(&mut self, rest: &str) -> Flow {
        if let Some(flow) = self.recipient_over_rate() {
            return flow;
        }
        rest.clone_into(&mut self.s.envelope_rcpt);
        let parsed = self.ask(Event::RcptParse { line: rest });
        let PathLine { address, params } = match self.path_line(parsed, || rcpt_line(rest)) {
            Ok(line) => line,
            Err(flow) => return flow,
        };
        let options = match self.rcpt_options(&params) {
            Ok(options) => options,
            Err((canned, why)) => return self.say_text(canned, why),
        };
        let before = self.ask(Event::RcptPre {
            address: &address,
            params: &params,
        });
        if before.failed {
            return self.answer(Hook::rcpt, before, "");
        }
        let path = replaced(address, before);
        if !path.is_ascii() && !self.is_utf8() {
            return self.not_ascii();
        }
        match self.recipient_of(&path) {
            Ok(recipient) => self.recipient(recipient, params, options),
            Err(why) => self.say_text(say(501, (1, 3), ""), format!("could not parse recipient: {why}")),
        }
    }

    /// Asks about a recipient and adds it to the envelope.
    fn recipient(&mut self, recipient: Address, params: Params, options: RcptOptions) -> Flow {
        if self.s.recipients().count() >= self.s.settings.limits.maxrcpts {
            return self.say(say(452, (5, 3), "too many recipients"));
        }
        let decision = self.ask(Event::Rcpt {
            recipient: &recipient,
            params: &params,
        });
        match decision.verdict {
            Verdict::Ok => self.s.count(Tally::Recipients),
            verdict if verdict.denies() => self.s.count(Tally::RefusedRecipients),
            _ => {}
        }
        let words = match decision.verdict {
            Verdict::Ok => format!("{}, recipient ok", recipient.path()),
            _ => String::new(),
        };
        if decision.verdict == Verdict::Ok
            && let Some(transaction) = &mut self.s.transaction
        {
            transaction.recipients.push(Recipient {
                address: recipient,
                params,
                options,
            });
        }
        self.answer(Hook::rcpt, decision, &words)
    }

    /// The recipient that a path names for us.
    fn recipient_of(&self, path: &str) -> Result<Address, BadAddress> {
        let mut recipient = Address::parse(path, self.syntax(self.is_utf8()))?;
        if recipient.is_null() {
            return Err(BadAddress {
                why: "the null address receives no mail",
                at: 0,
            });
        }
        self.localise(&mut recipient);
        match self.s.recipient_suffix.as_str() {
            "" => Ok(recipient),
            suffix => self.suffixed(&recipient, suffix),
        }
    }

    /// `box@[local.ip]` is `box@localiphost`, as in qmail-smtpd (catalogue 7).
    fn localise(&self, recipient: &mut Address) {
        let literal = recipient
            .host()
            .and_then(|host| host.strip_prefix('[')?.strip_suffix(']'));
        let Some(literal) = literal else { return };
        let text = match literal.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => &literal[5..],
            _ => literal,
        };
        if let Ok(ip) = text.parse::<IpAddr>()
            && Some(ip) == self.s.peer.local_ip
        {
            recipient.set_host(Some(&self.s.settings.localiphost));
        }
    }

    /// The recipient with the value of RELAYCLIENT behind it, as in qmail-smtpd (catalogue 7).
    fn suffixed(&self, recipient: &Address, suffix: &str) -> Result<Address, BadAddress> {
        let path = recipient.path();
        let open = path.strip_suffix('>').unwrap_or(&path);
        Address::parse(&format!("{open}{suffix}>"), self.syntax(self.is_utf8()))
    }

    /// What a parse hook gave, else what the built-in parser makes of the line; else the reply has been made.
    fn path_line(
        &mut self,
        hook: Decision,
        parse: impl FnOnce() -> Result<PathLine, &'static str>,
    ) -> Result<PathLine, Flow> {
        match hook {
            Decision { path: Some(path), .. } => Ok(path),
            denied if denied.verdict.denies() => Err(self.bad_line(denied, "syntax error in parameters")),
            _ => parse().map_err(|why| self.say(say(501, (5, 4), why))),
        }
    }

    /// Answers a line that a parse hook does not understand, or that it failed over.
    pub(super) fn bad_line(&mut self, hook: Decision, words: &str) -> Flow {
        let canned = match hook.failed {
            true => say(451, (3, 0), ""),
            false => say(501, (5, 4), ""),
        };
        let text = if hook.text.is_empty() { words } else { &hook.text };
        self.say_text(canned, text.to_owned())
    }
}

fn unknown_parameter(key: &str) -> (Canned, String) {
    (say(555, (5, 4), ""), format!("parameter {key} is not recognized"))
}

fn bad_option(why: BadOption) -> (Canned, String) {
    match why {
        BadOption::Value(words) => (say(501, (5, 4), ""), words),
        BadOption::NotOffered(key) => (say(555, (5, 4), ""), format!("{key} is not offered")),
    }
}

/// The address text, or what mail_pre or rcpt_pre puts in its place.
fn replaced(address: String, hook: Decision) -> String {
    match hook.verdict {
        Verdict::Ok if !hook.text.is_empty() => hook.text.into_owned(),
        _ => address,
    }
}
