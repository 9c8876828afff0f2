//! What client and server say to each other in the mechanisms of AUTH (RFC 4954, catalogue 4.3).

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bearer::{Bearer, oauthbearer, xoauth2};
use super::scram::{Exchange, First, Malformed};
use super::{Kind, MECHANISMS, Mechanism};
use crate::log::Level;
use crate::plugin::{Credentials, Decision, Handed, ScramHash, ScramKeys, random_bytes};
use crate::session::Verdict;
use crate::session::channel::LineEvent;
use crate::smtp::answers::say;
use crate::smtp::dialogue::{Dialogue, Flow};

/// What a client hears whose token is not good, where no plugin says more.
const INVALID_TOKEN: &str = r#"{"status":"invalid_token"}"#;

/// An exchange that came to nothing; the reply has been made.
pub(super) struct Broken(pub(super) Flow);

impl Dialogue<'_> {
    /// A line of the exchange, as it is; `prompt` goes out as 334 first.
    fn hear(&mut self, prompt: &str) -> Result<Vec<u8>, Broken> {
        self.s
            .channel
            .output()
            .extend_from_slice(format!("334 {prompt}\r\n").as_bytes());
        let mut line = Vec::new();
        let longest = self.s.settings.limits.max_auth_line;
        match self.s.channel.line(&mut line, longest) {
            LineEvent::Line => Ok(line),
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

    /// A line of the exchange, decoded.
    fn ask_client(&mut self, prompt: &str) -> Result<Vec<u8>, Broken> {
        let line = self.hear(prompt)?;
        self.decoded(&line)
    }

    fn decoded(&mut self, line: &[u8]) -> Result<Vec<u8>, Broken> {
        self.heard = Some(Instant::now());
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

    fn malformed(&mut self, mechanism: &str) -> Broken {
        Broken(self.say_text(say(501, (5, 2), ""), format!("malformed {mechanism} response")))
    }

    /// A refusal for which no plugin need be asked.
    fn refused(&mut self, mechanism: &str, user: &str) -> Broken {
        Broken(self.failed(mechanism, user, Decision::bare(Verdict::Deny)))
    }

    /// What the client has sent as text, which must be UTF-8 (RFC 4616 2): what is put in the place of other bytes would
    /// make different passwords the same.
    fn text(&mut self, mechanism: &str, bytes: &[u8]) -> Result<String, Broken> {
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            self.log(Level::Info, format_args!("fail: user or password is not UTF-8"));
            self.refused(mechanism, "")
        })
    }

    pub(super) fn plain(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        let response = self.initial(initial, "")?;
        let parts: Vec<&[u8]> = response.split(|byte| *byte == 0).collect();
        let [acting_for, user, password] = parts[..] else {
            // it names no user, or too many things (catalogue 4.3)
            return Err(self.refused("plain", ""));
        };
        let (user, password) = (self.text("plain", user)?, self.text("plain", password)?);
        // nobody acts for anybody else here
        let as_himself = acting_for.is_empty() || acting_for == user.as_bytes();
        self.complete("plain", user, Some(password).filter(|_| as_himself))
    }

    pub(super) fn login(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        let user = self.initial(initial, "VXNlcm5hbWU6")?;
        let password = self.ask_client("UGFzc3dvcmQ6")?;
        let (user, password) = (self.text("login", &user)?, self.text("login", &password)?);
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
            _ => Err(self.refused(mechanism, &user)),
        }
    }

    pub(super) fn cram_md5(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        if initial.is_some() {
            return Err(Broken(self.say(say(501, (7, 0), "CRAM-MD5 takes no initial response"))));
        }
        let now = self.s.services().clock.now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |time| time.as_secs());
        let me = &self.s.settings.me;
        let ticket = format!("<{:x}.{seconds:x}@{me}>", u128::from_ne_bytes(random_bytes()));
        let response = self.ask_client(&STANDARD.encode(&ticket))?;
        let response = self.text("cram-md5", &response)?;
        let Some((user, digest)) = response.rsplit_once(' ').filter(|(user, _)| !user.is_empty()) else {
            return Err(self.malformed("CRAM-MD5"));
        };
        Ok(Credentials::digest(user, &ticket, &digest.to_ascii_lowercase()))
    }

    /// The client is who its certificate says; it may name itself.
    pub(super) fn external(&mut self, initial: Option<String>) -> Result<Credentials, Broken> {
        let user = self.initial(initial, "")?;
        match String::from_utf8(user) {
            Ok(user) if !user.contains('\0') => Ok(Credentials::name("external", &user)),
            _ => Err(self.malformed("EXTERNAL")),
        }
    }

    pub(super) fn scram(&mut self, mechanism: &Mechanism, initial: Option<String>) -> Result<Flow, Broken> {
        let response = self.initial(initial, "")?;
        let Some(first) = std::str::from_utf8(&response).ok().and_then(First::parse) else {
            return Err(self.malformed(mechanism.name));
        };
        let user = first.user.clone();
        let plus = |one: &Mechanism| one.kind == Kind::ScramPlus;
        let bytes = self
            .s
            .tls
            .as_ref()
            .and_then(|tls| tls.binding)
            .filter(|_| plus(mechanism));
        let offered = MECHANISMS.iter().any(|one| plus(one) && self.is_offered(one));
        let bound = match first.bound(bytes.as_ref().map(|bytes| &bytes[..]), offered) {
            Ok(bound) if first.acting_for.is_empty() || first.acting_for == user => bound,
            bound => {
                let why = bound.err().unwrap_or("nobody acts for anybody else");
                self.log(Level::Info, format_args!("fail: {why}"));
                return Err(self.refused(mechanism.lower, &user));
            }
        };
        let keys = self.keys(mechanism, &user)?;
        let own = STANDARD.encode(random_bytes::<18>());
        let exchange = Exchange::new(&first, bound, &keys, &own);
        let last = self.ask_client(&STANDARD.encode(&exchange.prompt))?;
        let last = self.text(mechanism.lower, &last)?;
        match exchange.finish(&last, &keys) {
            Ok(Some(proof)) => {
                // nothing is said with success, so the client answers our proof with an empty line
                match self.ask_client(&STANDARD.encode(proof))?.is_empty() {
                    true => Ok(self.logged_in(mechanism, &user, Decision::bare(Verdict::Ok))),
                    false => Err(self.malformed(mechanism.name)),
                }
            }
            Ok(None) => Err(self.refused(mechanism.lower, &user)),
            Err(Malformed) => Err(self.malformed(mechanism.name)),
        }
    }

    /// The keys of a user; of one whom nobody knows, such as no proof fits.
    fn keys(&mut self, mechanism: &Mechanism, user: &str) -> Result<ScramKeys, Broken> {
        let Some(hash) = ScramHash::of(mechanism.lower) else {
            return Err(self.malformed(mechanism.name));
        };
        let decision = self.ask_providers(mechanism, &Credentials::name(mechanism.lower, user));
        if decision.failed {
            return Err(Broken(self.failed(mechanism.lower, user, decision)));
        }
        Ok(match decision.login.map(|handed| *handed) {
            Some(Handed::Keys(keys)) if decision.verdict == Verdict::Ok && keys.hash == hash => keys,
            // a store that does not know the user has made some that look like those of others
            Some(Handed::Keys(keys)) if keys.are_nobodys() && keys.hash == hash => keys,
            _ => ScramKeys::of_nobody(hash, user, &self.s.services().secret, &[]),
        })
    }

    pub(super) fn bearer(&mut self, mechanism: &Mechanism, initial: Option<String>) -> Result<Flow, Broken> {
        let response = self.initial(initial, "")?;
        let read = match mechanism.kind {
            Kind::OauthBearer => oauthbearer,
            _ => xoauth2,
        };
        let Some(Bearer { user, token }) = std::str::from_utf8(&response).ok().and_then(read) else {
            return Err(self.malformed(mechanism.name));
        };
        let mut decision = self.ask_providers(mechanism, &Credentials::token(mechanism.lower, &user, token));
        if matches!(decision.verdict, Verdict::Ok | Verdict::Done) {
            return Ok(self.logged_in(mechanism, &user, decision));
        }
        if !decision.failed {
            let problem = match decision.login.take().map(|handed| *handed) {
                Some(Handed::Problem(json)) => json,
                _ => INVALID_TOKEN.to_owned(),
            };
            // what the client says to that means nothing, be it a cancel (RFC 7628 3.2.3); the login has failed
            if let Err(Broken(flow)) = self.hear(&STANDARD.encode(problem))
                && flow != Flow::Continue
            {
                self.note_failure(mechanism.lower, &user);
                return Err(Broken(flow));
            }
        }
        Ok(self.failed(mechanism.lower, &user, decision))
    }
}
