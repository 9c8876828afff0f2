//! AUTH: the exchanges of PLAIN, LOGIN and CRAM-MD5; plugins decide (RFC 4954, catalogue 4).
//!
//! What a client sends here is never logged, and kept no longer than the exchange.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answers::{answer, say};
use super::dialogue::{Dialogue, Flow};
use crate::log::Level;
use crate::plugin::{Credentials, Decision, Event, Hook, random_number};
use crate::session::channel::LineEvent;
use crate::session::{HelloKind, Verdict};

/// A mechanism, with the hook that is asked before the general one.
struct Mechanism {
    name: &'static str,
    lower: &'static str,
    hook: Hook,
}

/// The mechanisms, in the order in which they are offered.
static MECHANISMS: [Mechanism; 3] = [
    Mechanism {
        name: "PLAIN",
        lower: "plain",
        hook: Hook::auth_plain,
    },
    Mechanism {
        name: "LOGIN",
        lower: "login",
        hook: Hook::auth_login,
    },
    Mechanism {
        name: "CRAM-MD5",
        lower: "cram-md5",
        hook: Hook::auth_cram_md5,
    },
];

/// An exchange that came to nothing; the reply has been made.
struct Broken(Flow);

impl Dialogue<'_> {
    /// The mechanisms that plugins serve and that may be used on this connection, as EHLO announces them.
    pub(super) fn auth_offer(&self) -> Vec<&'static str> {
        let in_clear = self.s.settings.tls_before_auth && self.s.tls.is_none();
        let served = |one: &&Mechanism| self.chain.serves(Hook::auth) || self.chain.serves(one.hook);
        match in_clear {
            true => Vec::new(),
            false => MECHANISMS.iter().filter(served).map(|one| one.name).collect(),
        }
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
        let offered = self.auth_offer();
        let known = MECHANISMS
            .iter()
            .find(|one| one.name.eq_ignore_ascii_case(name) && offered.contains(&one.name));
        let Some(mechanism) = known else {
            return self.say(say(504, (5, 4), "unknown authentication mechanism"));
        };
        let initial = initial.map(str::to_owned);
        let shown = match mechanism.hook {
            Hook::auth_plain => self.plain(initial),
            Hook::auth_login => self.login(initial),
            _ => self.cram_md5(initial),
        };
        match shown {
            Ok(credentials) => self.judge(mechanism, &credentials),
            Err(Broken(flow)) => flow,
        }
    }

    /// A line of the exchange, decoded; `prompt` goes out as 334 first.
    fn ask_client(&mut self, prompt: &str) -> Result<Vec<u8>, Broken> {
        self.s
            .channel
            .output()
            .extend_from_slice(format!("334 {prompt}\r\n").as_bytes());
        let mut line = Vec::new();
        let longest = self.s.settings.limits.max_auth_line;
        match self.s.channel.line(&mut line, longest) {
            LineEvent::Line => self.decoded(&line),
            LineEvent::TooLong => Err(Broken(self.say(say(
                500,
                (5, 6),
                "authentication exchange line is too long",
            )))),
            LineEvent::End => Err(Broken(Flow::Lost)),
            LineEvent::TimedOut => Err(Broken(self.timed_out())),
            LineEvent::Leaving => Err(Broken(self.leaving())),
        }
    }

    fn decoded(&mut self, line: &[u8]) -> Result<Vec<u8>, Broken> {
        if line == b"*" {
            return Err(Broken(self.say(say(501, (7, 0), "authentication cancelled"))));
        }
        let decoded = STANDARD.decode(line);
        decoded.map_err(|_| Broken(self.say(say(501, (5, 2), "that is not base64"))))
    }

    /// The initial response, or what the client answers to a prompt; `=` is an empty one (RFC 4954 4).
    fn initial(&mut self, initial: Option<String>, prompt: &str) -> Result<Vec<u8>, Broken> {
        match initial.as_deref() {
            Some("=") => Ok(Vec::new()),
            Some(response) => self.decoded(response.as_bytes()),
            None => self.ask_client(prompt),
        }
    }

    fn plain(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        let response = self.initial(initial, "")?;
        let parts: Vec<&[u8]> = response.split(|byte| *byte == 0).collect();
        let [acting_for, user, password] = parts[..] else {
            return Err(Broken(self.say(say(501, (5, 2), "malformed PLAIN response"))));
        };
        let (user, password) = (text(user), text(password));
        // nobody acts for anybody else here
        let as_himself = acting_for.is_empty() || acting_for == user.as_bytes();
        self.complete("plain", user, Some(password).filter(|_| as_himself))
    }

    fn login(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        let user = text(&self.initial(initial, "VXNlcm5hbWU6")?);
        let password = text(&self.ask_client("UGFzc3dvcmQ6")?);
        self.complete("login", user, Some(password))
    }

    /// Without user or password there is nothing to ask plugins about.
    fn complete(
        &mut self,
        mechanism: &'static str,
        user: String,
        password: Option<String>,
    ) -> Result<Credentials, Broken> {
        match password {
            Some(password) if !user.is_empty() && !password.is_empty() => {
                Ok(Credentials::password(mechanism, &user, &password))
            }
            _ => Err(Broken(self.failed(mechanism, &user, Decision::bare(Verdict::Deny)))),
        }
    }

    fn cram_md5(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        if initial.is_some() {
            return Err(Broken(self.say(say(501, (5, 4), "CRAM-MD5 takes no initial response"))));
        }
        let now = self.s.services().clock.now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |time| time.as_secs());
        let me = &self.s.settings.me;
        let ticket = format!("<{:x}.{seconds:x}@{me}>", random_number());
        let response = text(&self.ask_client(&STANDARD.encode(&ticket))?);
        let Some((user, digest)) = response.rsplit_once(' ').filter(|(user, _)| !user.is_empty()) else {
            return Err(Broken(self.say(say(501, (5, 2), "malformed CRAM-MD5 response"))));
        };
        Ok(Credentials::digest(user, &ticket, &digest.to_ascii_lowercase()))
    }

    /// Asks the plugins: those of the mechanism, then the general ones.
    fn judge(&mut self, mechanism: &Mechanism, with: &Credentials) -> Flow {
        let mut decision = self.ask(match mechanism.hook {
            Hook::auth_plain => Event::AuthPlain { with },
            Hook::auth_login => Event::AuthLogin { with },
            _ => Event::AuthCramMd5 { with },
        });
        if decision.verdict == Verdict::Declined {
            let mut general = self.ask(Event::Auth { with });
            if general.verdict == Verdict::Declined {
                // one that could not be asked might have known the user
                general.failed |= decision.failed;
            }
            if general.verdict != Verdict::Declined || !general.text.is_empty() {
                decision = general;
            }
        }
        match decision.verdict {
            Verdict::Ok | Verdict::Done => self.logged_in(mechanism, &with.user, decision),
            _ => self.failed(mechanism.lower, &with.user, decision),
        }
    }

    fn logged_in(&mut self, mechanism: &Mechanism, user: &str, decision: Decision) -> Flow {
        let user = harmless(user);
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

    /// The login has failed; a plugin that could not decide asks the client to try again.
    fn failed(&mut self, mechanism: &str, user: &str, decision: Decision) -> Flow {
        let user = harmless(user);
        if decision.failed {
            return self.say(say(454, (7, 0), "temporary authentication failure"));
        }
        let ip = self.s.peer.ip;
        // fail2ban looks for these words
        self.log(
            Level::Notice,
            format_args!("authentication failed for {user} from {ip} ({mechanism})"),
        );
        let mut words = format!("authentication failed for {user} from {ip}");
        if !decision.text.is_empty() {
            words = format!("{words} - {}", decision.text);
        }
        self.s.login.failed = Some((user, mechanism.to_owned()));
        self.auth_failures += 1;
        if let Some(canned) = answer(Hook::auth, Verdict::Deny) {
            self.say_text(canned, words);
        }
        if let Some(flow) = self.auth_failures_over_rate() {
            return flow;
        }
        let most = self.s.settings.limits.max_auth_failures;
        if self.auth_failures >= most {
            self.log(
                Level::Notice,
                format_args!("too many failed logins, limit max_auth_failures {most}"),
            );
            self.say(say(421, (7, 0), "too many failed logins"));
            return Flow::Close;
        }
        Flow::Continue
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A user's name for replies, logs and headers: cut at a line end, without controls.
fn harmless(user: &str) -> String {
    let line = user.split(['\r', '\n']).next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(255).collect()
}
