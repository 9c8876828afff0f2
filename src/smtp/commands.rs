//! The commands: one table of verbs, what each needs to come before it, and what it does (catalogue 1.4).

use super::answers::say;
use super::command::{Command, Verb};
use super::dialogue::{Dialogue, Flow, is_done};
use super::dispatch::is_auth;
use super::trace::PRODUCT;
use crate::config::OutOfTurn;
use crate::log::Level;
use crate::mail::{Reply, Status};
use crate::plugin::{Decision, Event, Hook};
use crate::session::{Hello, HelloKind, Verdict};

/// The longest host name in a greeting, in octets (RFC 5321 4.5.3.1.2).
const MAX_HOST: usize = 255;

/// What must have come before a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// A greeting.
    Hello,
    /// A sender.
    Sender,
    /// A recipient.
    Recipient,
}

/// One line of the table.
struct Rule {
    verb: Verb,
    needs: Needs,
    /// The client must wait for the reply (RFC 2920 3.1, RFC 3207 4, RFC 4954 4). So it must for NOOP and VRFY, but nothing comes of it
    /// if it does not.
    waits: bool,
    /// It has no argument (RFC 5321 4.1.1).
    bare: bool,
    /// It brings no mail, and who says it over and over keeps the server busy for nothing.
    idle: bool,
    run: fn(&mut Dialogue<'_>, &str) -> Flow,
}

const fn rule(verb: Verb, needs: Needs, run: fn(&mut Dialogue<'_>, &str) -> Flow) -> Rule {
    Rule {
        verb,
        needs,
        waits: false,
        bare: false,
        idle: false,
        run,
    }
}

impl Rule {
    const fn waits(self) -> Rule {
        Rule { waits: true, ..self }
    }

    const fn bare(self) -> Rule {
        Rule { bare: true, ..self }
    }

    const fn idle(self) -> Rule {
        Rule { idle: true, ..self }
    }
}

static RULES: [Rule; 23] = [
    rule(Verb::Ehlo, Needs::Nothing, |d, rest| d.hello(HelloKind::Ehlo, rest))
        .waits()
        .idle(),
    rule(Verb::Helo, Needs::Nothing, |d, rest| d.hello(HelloKind::Helo, rest))
        .waits()
        .idle(),
    rule(Verb::Lhlo, Needs::Nothing, |d, rest| d.hello(HelloKind::Ehlo, rest))
        .waits()
        .idle(),
    rule(Verb::Mail, Needs::Hello, |d, rest| d.mail(rest)),
    rule(Verb::Rcpt, Needs::Sender, |d, rest| d.rcpt(rest)),
    rule(Verb::Data, Needs::Recipient, |d, _| d.data()).waits().bare(),
    // what it lacks is told when its bytes have been read
    rule(Verb::Bdat, Needs::Nothing, |d, rest| d.bdat(rest)),
    rule(Verb::Rset, Needs::Nothing, |d, _| d.rset()).bare().idle(),
    rule(Verb::Noop, Needs::Nothing, |d, rest| d.noop(rest)).idle(),
    rule(Verb::Vrfy, Needs::Nothing, |d, rest| d.vrfy(rest)).idle(),
    rule(Verb::Help, Needs::Nothing, |d, rest| d.help(rest)).idle(),
    rule(Verb::StartTls, Needs::Nothing, |d, rest| d.starttls(rest)).waits(),
    rule(Verb::Auth, Needs::Nothing, |d, rest| d.auth(rest)).waits(),
    rule(Verb::Xclient, Needs::Nothing, |d, rest| d.xclient(rest)).waits(),
    rule(Verb::Xforward, Needs::Nothing, |d, rest| d.xforward(rest)),
    rule(Verb::Quit, Needs::Nothing, |d, _| d.quit()).bare(),
    // these are commands, and not rubbish, but nobody has to have them (RFC 5321 4.2.4, RFC 1985 4)
    rule(Verb::Expn, Needs::Nothing, |d, _| d.not_implemented()),
    rule(Verb::Etrn, Needs::Nothing, |d, _| d.not_implemented()),
    rule(Verb::Atrn, Needs::Nothing, |d, _| d.not_implemented()),
    rule(Verb::Turn, Needs::Nothing, |d, _| d.not_implemented()),
    rule(Verb::Send, Needs::Nothing, |d, _| d.not_implemented()),
    rule(Verb::Soml, Needs::Nothing, |d, _| d.not_implemented()),
    rule(Verb::Saml, Needs::Nothing, |d, _| d.not_implemented()),
];

/// What cannot come between the parts of a message.
const NOT_BETWEEN: [Verb; 5] = [Verb::Mail, Verb::Rcpt, Verb::Data, Verb::Auth, Verb::StartTls];

/// Whether the command is one of the table.
pub fn is_known(command: &Command<'_>) -> bool {
    RULES.iter().any(|rule| rule.verb == command.verb)
}

/// Checks a command against the table and runs it.
pub fn run(d: &mut Dialogue<'_>, command: &Command<'_>) -> Flow {
    let served = |rule: &&Rule| rule.verb == command.verb && d.serves(rule.verb);
    let Some(rule) = RULES.iter().find(served) else {
        return match command.verb {
            // so that both sides learn of the mistake (RFC 2033 4.1)
            Verb::Ehlo | Verb::Helo => d.say(say(500, (5, 1), "this is LMTP, please say LHLO")),
            _ => d.unrecognized(command),
        };
    };
    d.idle += usize::from(rule.idle);
    if let Some(flow) = d.out_of_turn(rule.waits) {
        return flow;
    }
    if rule.bare && !command.rest.trim_ascii().is_empty() {
        return d.say(say(501, (5, 4), "this command takes no parameters"));
    }
    let between = d.parts.is_some() && NOT_BETWEEN.contains(&rule.verb);
    let between = between.then_some("the message is not complete, please use BDAT");
    match d.lacks(rule.needs).or(between) {
        Some(text) => d.say(say(503, (5, 1), text)),
        None => (rule.run)(d, command.rest),
    }
}

impl Dialogue<'_> {
    /// Whether a command of the table is one in this session.
    fn serves(&self, verb: Verb) -> bool {
        match verb {
            // not before a reply to EHLO has offered it (catalogue 1.4)
            Verb::Auth => self.knows_auth(),
            Verb::Lhlo => self.s.lmtp,
            Verb::Ehlo | Verb::Helo => !self.s.lmtp,
            _ => true,
        }
    }

    /// What should have come first.
    pub(super) fn lacks(&self, needs: Needs) -> Option<&'static str> {
        let transaction = self.s.transaction.as_ref();
        match needs {
            Needs::Hello if self.s.hello.is_none() && self.s.lmtp => Some("please say LHLO first"),
            Needs::Hello if self.s.hello.is_none() => Some("please say HELO or EHLO first"),
            Needs::Sender | Needs::Recipient if transaction.is_none() => Some("please use MAIL first"),
            Needs::Recipient if transaction.is_some_and(|one| one.recipients.is_empty()) => {
                Some("please use RCPT first")
            }
            _ => None,
        }
    }

    fn hello(&mut self, kind: HelloKind, rest: &str) -> Flow {
        let (hook, parse) = match kind {
            HelloKind::Ehlo => (Hook::ehlo, Event::EhloParse { line: rest }),
            HelloKind::Helo => (Hook::helo, Event::HeloParse { line: rest }),
        };
        let parsed = self.ask(parse);
        if parsed.verdict.denies() {
            return self.bad_line(parsed, "syntax error in greeting");
        }
        let host = match parsed.path {
            Some(path) => path.address,
            None => rest.split_ascii_whitespace().next().unwrap_or_default().to_owned(),
        };
        if host.is_empty() {
            return self.say(say(501, (5, 4), "the greeting needs a host name"));
        }
        if host.len() > MAX_HOST {
            return self.say(say(501, (5, 4), "the host name is too long"));
        }
        if host.contains(|c: char| c.is_control()) {
            return self.say(say(501, (5, 4), "the host name has a control character in it"));
        }
        // what XCLIENT has said is no greeting of this client's own
        if self.s.hello.is_some() && !self.hello_was_told && self.s.settings.strict_hello {
            return self.say(say(503, (5, 1), "you have said hello already"));
        }
        if let Some(flow) = self.refuse_hello(kind, host) {
            return flow;
        }
        self.hello_was_told = false;
        let peer = &self.s.peer;
        let mut text = format!("{} Hi {} [{}]", self.s.settings.me, peer.info, peer.ip);
        if kind == HelloKind::Ehlo {
            self.extensions(&mut text);
        }
        self.answer(hook, Decision::bare(Verdict::Ok), &text)
    }

    /// Asks about a greeting and takes it, or refuses it.
    pub(super) fn refuse_hello(&mut self, kind: HelloKind, host: String) -> Option<Flow> {
        let before = self.s.hello.take();
        self.s.capabilities.clear();
        let (hook, event) = match kind {
            HelloKind::Ehlo => (Hook::ehlo, Event::Ehlo { host: &host }),
            HelloKind::Helo => (Hook::helo, Event::Helo { host: &host }),
        };
        let decision = self.ask(event);
        if decision.verdict.denies() || is_done(&decision) {
            // a greeting that is refused changes nothing (RFC 5321 4.1.4)
            self.s.hello = before;
            return Some(self.answer(hook, decision, ""));
        }
        self.reset_transaction();
        self.s.hello = Some(Hello { kind, host });
        None
    }

    fn rset(&mut self) -> Flow {
        match self.s.transaction {
            Some(_) => self.reset_transaction(),
            // RSET tells plugins that something begins anew, be there a transaction or not (catalogue 1.6)
            None => self.chain.tell(&mut self.s, Event::ResetTransaction),
        }
        self.s.forwarded = None;
        self.say(say(250, (0, 0), "OK"))
    }

    fn noop(&mut self, rest: &str) -> Flow {
        let decision = self.ask(Event::Noop { rest });
        self.answer(Hook::noop, decision, "")
    }

    fn vrfy(&mut self, what: &str) -> Flow {
        if self.s.settings.disabled.vrfy {
            return self.not_implemented();
        }
        // RFC 6531 3.7.4.2
        let plain = what.trim_ascii_end().rsplit_once(' ');
        let plain = plain.filter(|(_, last)| last.eq_ignore_ascii_case("SMTPUTF8") && self.offered().utf8);
        let what = plain.map_or(what, |(what, _)| what);
        let decision = self.ask(Event::Vrfy { what });
        let denied = decision.verdict == Verdict::Deny;
        self.utf8 = plain.is_some();
        let flow = self.answer(Hook::vrfy, decision, "");
        self.utf8 = false;
        if denied {
            self.reset_transaction();
        }
        flow
    }

    fn help(&mut self, topic: &str) -> Flow {
        if self.s.settings.disabled.help {
            return self.not_implemented();
        }
        let decision = self.ask(Event::Help { topic });
        let version = match self.s.settings.smtpgreeting {
            None => format!("This is {PRODUCT} {}", env!("CARGO_PKG_VERSION")),
            Some(_) => format!("This is {PRODUCT}"),
        };
        let text = format!(
            "{version}\nSee https://smtpd.github.io/qpsmtpd/\nReport trouble to postmaster@{}",
            self.s.settings.me
        );
        let own = if decision.verdict == Verdict::Deny { "" } else { &text };
        self.answer(Hook::help, decision, own)
    }

    fn not_implemented(&mut self) -> Flow {
        self.say(say(502, (5, 1), "command not implemented"))
    }

    /// Looks whether the client has sent more than a command to whose reply it must listen: `waits` if this is one;
    /// before EHLO, and after HELO, each is. A flow if that ends the session.
    fn out_of_turn(&mut self, waits: bool) -> Option<Flow> {
        let policy = self.s.settings.unauthorized_pipelining;
        if policy == OutOfTurn::Allow || self.s.channel.buffered().is_empty() {
            return None;
        }
        let extended = self.s.hello.as_ref().is_some_and(|hello| hello.kind == HelloKind::Ehlo);
        if extended && !waits {
            return None;
        }
        let count = self.s.channel.buffered().len();
        if !std::mem::replace(&mut self.talked, true) {
            self.log(
                Level::Notice,
                format_args!("client sent {count} bytes out of turn (unauthorized pipelining)"),
            );
        }
        (policy == OutOfTurn::Refuse).then(|| self.end_out_of_turn())
    }

    /// A client that does not listen.
    pub(super) fn end_out_of_turn(&mut self) -> Flow {
        self.say(say(554, (5, 0), "you have sent more before it was your turn"));
        Flow::Close
    }

    fn quit(&mut self) -> Flow {
        let decision = self.ask(Event::Quit);
        let words = format!("{} closing connection, have a good day", self.s.settings.me);
        self.answer(Hook::quit, decision, &words);
        Flow::Close
    }

    /// A command that nobody knows.
    pub(super) fn unrecognized(&mut self, command: &Command<'_>) -> Flow {
        self.unknown += 1;
        let (verb, rest) = match () {
            () if self.hides => ("<hidden>".to_owned(), ""),
            // what stands behind it may be credentials, also without a blank between
            () if is_auth(self.s.original_string.as_bytes()) => ("auth".to_owned(), ""),
            () => (command.word.to_ascii_lowercase(), command.rest),
        };
        let decision = self.ask(Event::UnrecognizedCommand { verb: &verb, rest });
        let flow = self.answer(Hook::unrecognized_command, decision, "");
        let most = self.s.settings.limits.max_unknown_commands;
        if flow == Flow::Continue && self.unknown > most {
            self.log(
                Level::Notice,
                format_args!("too many unknown commands, limit max_unknown_commands {most}"),
            );
            self.say(say(421, (7, 0), "too many unrecognized commands"));
            return Flow::Close;
        }
        flow
    }
}

/// A complete reply as bytes, for clients that are turned away before they have a session.
pub fn bare_reply(code: u16, status: Status, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Reply::new(code, Some(status), text.to_owned()).write_to(&mut out);
    out
}
