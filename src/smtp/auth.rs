//! AUTH: which mechanisms are offered, and what becomes of a login (RFC 4954, catalogue 4).
//!
//! The mechanisms themselves are in `exchange`; plugins decide. What a client sends here is never logged, and kept no
//! longer than the exchange.

mod bearer;
mod exchange;
mod failing;
mod scram;

use exchange::Broken;

use super::answers::say;
use super::dialogue::{Dialogue, Flow};
use crate::log::Level;
use crate::plugin::{Credentials, Decision, Event, Handed, Hook};
use crate::session::{HelloKind, Verdict};

/// How a mechanism goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Login,
    CramMd5,
    Scram,
    /// SCRAM with channel binding.
    ScramPlus,
    External,
    OauthBearer,
    Xoauth2,
}

/// A mechanism, with the hook that is asked before the general one.
struct Mechanism {
    name: &'static str,
    lower: &'static str,
    hook: Hook,
    kind: Kind,
}

const fn mechanism(name: &'static str, lower: &'static str, hook: Hook, kind: Kind) -> Mechanism {
    Mechanism {
        name,
        lower,
        hook,
        kind,
    }
}

/// The mechanisms, in the order in which they are offered.
static MECHANISMS: [Mechanism; 10] = [
    mechanism("PLAIN", "plain", Hook::auth_plain, Kind::Plain),
    mechanism("LOGIN", "login", Hook::auth_login, Kind::Login),
    mechanism("CRAM-MD5", "cram-md5", Hook::auth_cram_md5, Kind::CramMd5),
    mechanism(
        "SCRAM-SHA-256-PLUS",
        "scram-sha-256-plus",
        Hook::auth_scram,
        Kind::ScramPlus,
    ),
    mechanism("SCRAM-SHA-256", "scram-sha-256", Hook::auth_scram, Kind::Scram),
    mechanism(
        "SCRAM-SHA-1-PLUS",
        "scram-sha-1-plus",
        Hook::auth_scram,
        Kind::ScramPlus,
    ),
    mechanism("SCRAM-SHA-1", "scram-sha-1", Hook::auth_scram, Kind::Scram),
    mechanism("EXTERNAL", "external", Hook::auth_external, Kind::External),
    mechanism("OAUTHBEARER", "oauthbearer", Hook::auth_token, Kind::OauthBearer),
    mechanism("XOAUTH2", "xoauth2", Hook::auth_token, Kind::Xoauth2),
];

impl Mechanism {
    /// Whether the general hook may decide as well: it knows passwords and digests of them.
    fn is_general(&self) -> bool {
        matches!(self.kind, Kind::Plain | Kind::Login | Kind::CramMd5)
    }
}

impl Dialogue<'_> {
    /// The mechanisms that plugins serve and that may be used on this connection, as EHLO announces them.
    pub(super) fn auth_offer(&self) -> Vec<&'static str> {
        let offered = MECHANISMS.iter().filter(|one| self.is_offered(one));
        offered.map(|one| one.name).collect()
    }

    fn is_offered(&self, mechanism: &Mechanism) -> bool {
        let tls = self.s.tls.as_ref();
        let fits = match mechanism.kind {
            Kind::ScramPlus => tls.is_some_and(|tls| tls.binding.is_some()),
            Kind::External => tls.is_some_and(|tls| tls.client.is_some()),
            // whoever reads a token has it (RFC 7628 3)
            Kind::OauthBearer | Kind::Xoauth2 => tls.is_some(),
            _ => tls.is_some() || !self.s.settings.tls_before_auth,
        };
        let wanted = self.s.settings.auth_mechanisms.as_ref();
        let general = mechanism.is_general() && self.chain.serves(Hook::auth);
        fits && wanted.is_none_or(|wanted| wanted.iter().any(|name| name == mechanism.name))
            && (general || self.chain.offers(&self.s, mechanism.hook, mechanism.lower))
    }

    /// Whether AUTH is a command of this session: once a reply to EHLO has offered it.
    pub(super) fn knows_auth(&self) -> bool {
        self.auth_offered
    }

    pub(super) fn auth(&mut self, rest: &str) -> Flow {
        let parsed = self.ask(Event::AuthParse { line: rest });
        if parsed.verdict.denies() {
            return self.say_text(say(501, (5, 4), ""), parsed.text.into_owned());
        }
        let mut words = rest.split_ascii_whitespace();
        let (name, initial) = (words.next().unwrap_or_default(), words.next());
        if name.is_empty() || words.next().is_some() {
            return self.say(say(
                501,
                (5, 4),
                "AUTH takes a mechanism and at most one initial response",
            ));
        }
        if self.s.login.user.is_some() {
            return self.say(say(503, (5, 1), "you are authenticated already"));
        }
        if self.s.hello.as_ref().is_none_or(|hello| hello.kind != HelloKind::Ehlo) {
            return self.say(say(503, (5, 1), "AUTH needs EHLO first"));
        }
        if self.s.transaction.is_some() {
            return self.say(say(503, (5, 1), "AUTH is not possible within a mail transaction"));
        }
        if self.s.settings.tls_before_auth && self.s.tls.is_none() {
            return self.say(say(538, (7, 11), "AUTH needs TLS first"));
        }
        let known = MECHANISMS.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        let Some(mechanism) = known.filter(|one| self.is_offered(one)) else {
            return self.say(say(504, (5, 4), "unknown authentication mechanism"));
        };
        let initial = initial.map(str::to_owned);
        let shown = match mechanism.kind {
            Kind::Plain => self.plain(initial).and_then(|with| self.judge(mechanism, &with)),
            Kind::Login => self.login(initial).and_then(|with| self.judge(mechanism, &with)),
            Kind::CramMd5 => self.cram_md5(initial).and_then(|with| self.judge(mechanism, &with)),
            Kind::Scram | Kind::ScramPlus => self.scram(mechanism, initial),
            Kind::External => self.external(initial).and_then(|with| self.judge(mechanism, &with)),
            Kind::OauthBearer | Kind::Xoauth2 => self.bearer(mechanism, initial),
        };
        match shown {
            Ok(flow) | Err(Broken(flow)) => flow,
        }
    }

    /// Asks the plugins and tells the client what they say.
    fn judge(&mut self, mechanism: &Mechanism, with: &Credentials) -> Result<Flow, Broken> {
        let decision = self.ask_providers(mechanism, with);
        Ok(match decision.verdict {
            Verdict::Ok | Verdict::Done => self.logged_in(mechanism, &with.user, decision),
            _ => self.failed(mechanism.lower, &with.user, decision),
        })
    }

    /// Asks the plugins: those of the mechanism, then the general ones.
    fn ask_providers(&mut self, mechanism: &Mechanism, with: &Credentials) -> Decision {
        let mut decision = self.ask(match mechanism.kind {
            Kind::Plain => Event::AuthPlain { with },
            Kind::Login => Event::AuthLogin { with },
            Kind::CramMd5 => Event::AuthCramMd5 { with },
            Kind::Scram | Kind::ScramPlus => Event::AuthScram { with },
            Kind::External => Event::AuthExternal { with },
            Kind::OauthBearer | Kind::Xoauth2 => Event::AuthToken { with },
        });
        if decision.verdict == Verdict::Declined && mechanism.is_general() {
            let mut general = self.ask(Event::Auth { with });
            if general.verdict == Verdict::Declined {
                // one that could not be asked might have known the user
                general.failed |= decision.failed;
            }
            if general.verdict != Verdict::Declined || !general.text.is_empty() {
                decision = general;
            }
        }
        decision
    }

    fn logged_in(&mut self, mechanism: &Mechanism, user: &str, decision: Decision) -> Flow {
        let user = match decision.login.as_deref() {
            Some(Handed::User(found)) => harmless(found),
            _ => harmless(user),
        };
        if user.is_empty() {
            let words = "a plugin has let in somebody without a name";
            self.log(Level::Error, format_args!("{words}, mechanism {}", mechanism.lower));
            return self.say(say(454, (7, 0), "temporary authentication failure"));
        }
        self.s.relay_client = true;
        if self.s.naughty.clear() {
            self.log(Level::Info, format_args!("auth success cleared naughty"));
        }
        self.log(
            Level::Notice,
            format_args!(
                "authentication successful for {user} from {} ({})",
                self.s.peer.ip, mechanism.lower
            ),
        );
        let mut words = format!("{} authentication successful for {user}", mechanism.name);
        if !decision.text.is_empty() {
            words = format!("{words} - {}", decision.text);
        }
        self.s.login.user = Some((user, mechanism.lower.to_owned()));
        self.s.login.failed = None;
        self.answer(Hook::auth, Decision::bare(Verdict::Ok), &words)
    }
}

/// A user's name for replies, logs and headers: cut at a line end, without controls.
fn harmless(user: &str) -> String {
    let line = user.split(['\r', '\n']).next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(255).collect()
}
