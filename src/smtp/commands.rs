//! The commands: one table of verbs, what each needs to come before it, and what it does (catalogue 1.4).

use super::answers::say;
use super::command::{Command, Verb};
use super::dialogue::{Dialogue, Flow, is_done};
use super::trace::PRODUCT;
use crate::log::Level;
use crate::mail::{Reply, Status};
use crate::plugin::{Decision, Event, Hook};
use crate::session::{Hello, HelloKind, Verdict};

/// The longest host name in a greeting, in octets (RFC 5321 4.5.3.1.2).
const MAX_HOST: usize = 255;

/// What must have come before a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
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
    run: fn(&mut Dialogue<'_>, &str) -> Flow,
}

const fn rule(verb: Verb, needs: Needs, run: fn(&mut Dialogue<'_>, &str) -> Flow) -> Rule {
    Rule { verb, needs, run }
}

static RULES: [Rule; 12] = [
    rule(Verb::Ehlo, Needs::Nothing, |d, rest| d.hello(HelloKind::Ehlo, rest)),
    rule(Verb::Helo, Needs::Nothing, |d, rest| d.hello(HelloKind::Helo, rest)),
    rule(Verb::Mail, Needs::Hello, |d, rest| d.mail(rest)),
    rule(Verb::Rcpt, Needs::Sender, |d, rest| d.rcpt(rest)),
    rule(Verb::Data, Needs::Recipient, |d, _| d.data()),
    rule(Verb::Rset, Needs::Nothing, |d, _| d.rset()),
    rule(Verb::Noop, Needs::Nothing, |d, rest| d.noop(rest)),
    rule(Verb::Vrfy, Needs::Nothing, |d, rest| d.vrfy(rest)),
    rule(Verb::Help, Needs::Nothing, |d, rest| d.help(rest)),
    rule(Verb::StartTls, Needs::Nothing, |d, rest| d.starttls(rest)),
    rule(Verb::Auth, Needs::Nothing, |d, rest| d.auth(rest)),
    rule(Verb::Quit, Needs::Nothing, |d, _| d.quit()),
];

/// Whether the command is one of the table.
pub fn is_known(command: &Command<'_>) -> bool {
    RULES.iter().any(|rule| rule.verb == command.verb)
}

/// Checks a command against the table and runs it.
pub fn run(d: &mut Dialogue<'_>, command: &Command<'_>) -> Flow {
    // AUTH is no command before a reply to EHLO has offered it (catalogue 1.4)
    let served = |rule: &&Rule| rule.verb == command.verb && (rule.verb != Verb::Auth || d.knows_auth());
    let Some(rule) = RULES.iter().find(served) else {
        return d.unrecognized(command);
    };
    match d.lacks(rule.needs) {
        Some(text) => d.say(say(503, (5, 1), text)),
        None => (rule.run)(d, command.rest),
    }
}

impl Dialogue<'_> {
    /// What should have come first.
    fn lacks(&self, needs: Needs) -> Option<&'static str> {
        let transaction = self.s.transaction.as_ref();
        match needs {
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
        if self.s.hello.is_some() && self.s.settings.strict_hello {
            return self.say(say(503, (5, 1), "you have said hello already"));
        }
        let before = self.s.hello.take();
        self.s.capabilities.clear();
        let decision = match kind {
            HelloKind::Ehlo => self.ask(Event::Ehlo { host: &host }),
            HelloKind::Helo => self.ask(Event::Helo { host: &host }),
        };
        if decision.verdict.denies() || is_done(&decision) {
            // a greeting that is refused changes nothing (RFC 5321 4.1.4)
            self.s.hello = before;
            return self.answer(hook, decision, "");
        }
        self.reset_transaction();
        self.s.hello = Some(Hello { kind, host });
        let peer = &self.s.peer;
        let mut text = format!("{} Hi {} [{}]", self.s.settings.me, peer.info, peer.ip);
        if kind == HelloKind::Ehlo {
            self.extensions(&mut text);
        }
        self.answer(hook, Decision::bare(Verdict::Ok), &text)
    }

    /// The extensions that hold for the connection as it is now, a line each.
    fn extensions(&mut self, text: &mut String) {
        text.push_str("\nPIPELINING\n8BITMIME");
        if self.s.settings.databytes > 0 {
            text.push_str(&format!("\nSIZE {}", self.s.settings.databytes));
        }
        text.push_str("\nENHANCEDSTATUSCODES\nHELP");
        if self.offered().dsn {
            text.push_str("\nDSN");
        }
        match self.s.tls {
            Some(_) => text.push_str("\nREQUIRETLS"),
            None if self.s.services().tls.is_some() => text.push_str("\nSTARTTLS"),
            None => {}
        }
        for capability in &self.s.capabilities {
            text.push('\n');
            text.push_str(capability);
        }
        let mechanisms = self.auth_offer();
        self.auth_offered |= !mechanisms.is_empty();
        if !mechanisms.is_empty() {
            text.push_str(&format!("\nAUTH {}", mechanisms.join(" ")));
        }
    }

    fn rset(&mut self) -> Flow {
        self.reset_transaction();
        self.say(say(250, (0, 0), "OK"))
    }

    fn noop(&mut self, rest: &str) -> Flow {
        let decision = self.ask(Event::Noop { rest });
        self.answer(Hook::noop, decision, "")
    }

    fn vrfy(&mut self, what: &str) -> Flow {
        let decision = self.ask(Event::Vrfy { what });
        let denied = decision.verdict == Verdict::Deny;
        let flow = self.answer(Hook::vrfy, decision, "");
        if denied {
            self.reset_transaction();
        }
        flow
    }

    fn help(&mut self, topic: &str) -> Flow {
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

    fn quit(&mut self) -> Flow {
        let decision = self.ask(Event::Quit);
        let words = format!("{} closing connection, have a good day", self.s.settings.me);
        self.answer(Hook::quit, decision, &words);
        Flow::Close
    }

    /// A command that nobody knows.
    pub(super) fn unrecognized(&mut self, command: &Command<'_>) -> Flow {
        self.unknown += 1;
        let verb = command.word.to_ascii_lowercase();
        let rest = command.rest;
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
