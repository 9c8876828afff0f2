//! From a clear connection to an encrypted one: STARTTLS (RFC 3207), and TLS before the greeting (RFC 8314).
//!
//! Nothing that came in clear outlives the handshake: neither bytes in the buffer nor greeting, transaction and
//! login. What is known of the connection itself stays.

use super::answers::say;
use super::command::{Command, Verb};
use super::dialogue::{Dialogue, Flow};
use crate::log::Level;
use crate::plugin::Hook;
use crate::session::{Login, Stage, Tally};

/// The plugin in whose name records about TLS are written; the log tools look for it (catalogue 9).
const PLUGIN: &str = "tls";

impl Dialogue<'_> {
    pub(super) fn starttls(&mut self, rest: &str) -> Flow {
        if !self.can_encrypt() && !self.chain.plugins().iter().any(|one| one.name == PLUGIN) {
            let (verb, word) = (Verb::StartTls, Verb::StartTls.name());
            return self.unrecognized(&Command { verb, word, rest });
        }
        if !rest.trim().is_empty() {
            return self.say(say(501, (5, 4), "STARTTLS takes no parameters"));
        }
        if self.s.tls.is_some() {
            return self.say(say(503, (5, 1), "the connection is encrypted already"));
        }
        if !self.can_encrypt() {
            return self.say(say(454, (7, 0), "TLS is not available now"));
        }
        self.say(say(220, (0, 0), "ready to start TLS"));
        let early = self.s.channel.buffered().len();
        if early > 0 {
            self.tls_log(
                "starttls",
                Level::Notice,
                format_args!("discarded {early} bytes sent in clear behind STARTTLS"),
            );
        }
        self.reset_transaction();
        match self.encrypt("starttls") {
            true => {
                self.forget();
                Flow::Continue
            }
            false => Flow::Lost,
        }
    }

    fn can_encrypt(&self) -> bool {
        self.s.services().tls.is_some()
    }

    /// Shakes hands; false if that came to nothing, which ends the connection without another word.
    pub(super) fn encrypt(&mut self, hook: &'static str) -> bool {
        let Some(with) = self.s.services().tls.clone() else {
            self.tls_log(hook, Level::Error, format_args!("fail, TLS is not available"));
            return false;
        };
        self.s.show(Stage::Tls);
        let local = (self.s.peer.local_ip, self.s.peer.local_port);
        let tls = match self.s.channel.encrypt(&*with, local, hook == Hook::connect.name()) {
            Ok(tls) => tls,
            Err(why) => {
                self.s.count(Tally::NotEncrypted);
                self.tls_log(hook, Level::Notice, format_args!("fail, TLS handshake: {why}"));
                return false;
            }
        };
        self.s.count(Tally::Encrypted);
        self.tls_log(hook, Level::Info, format_args!("TLS setup returning"));
        self.log(Level::Info, format_args!("{}", super::trace::tls_facts(&tls)));
        self.s.tls = Some(Box::new(tls));
        true
    }

    /// Makes the session as new (RFC 3207 4.2).
    fn forget(&mut self) {
        self.s.hello = None;
        self.s.capabilities.clear();
        self.auth_offered = false;
        if self.s.login.user.is_some() {
            // what the login brought goes with it
            self.s.relay_client = false;
        }
        self.s.login = Login::default();
        self.s.envelope_from.clear();
        self.s.envelope_rcpt.clear();
    }

    fn tls_log(&mut self, hook: &'static str, level: Level, text: std::fmt::Arguments<'_>) {
        self.s.context.hook = Some(hook);
        self.s.context.plugin = Some(PLUGIN.into());
        self.s.log(level, text);
        self.s.context = Default::default();
    }
}
