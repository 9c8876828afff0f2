//! Plugins and declarations for the tests of the engine: they do what a test tells them.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Alias, Answer, ArgSpec, Aside, Chain, Declaration, Event, Hook, Loaded, OnError, Plugin, Register, Told};
use crate::config::{Fault, Line, Lines, Lookup};
use crate::log::Level;
use crate::session::Session;

type Act = Box<dyn Fn(&Event<'_>, &mut Session) -> Answer + Send + Sync>;
type Besides = Box<dyn Fn(&Aside<'_>) -> Option<Lines> + Send + Sync>;

/// A plugin made of closures.
pub struct Fake {
    act: Act,
    besides: Besides,
    logs_up_to: Level,
    start: Result<(), String>,
}

impl Plugin for Fake {
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        (self.act)(event, s)
    }

    fn aside(&self, aside: &Aside<'_>) -> Told {
        Ok((self.besides)(aside))
    }

    fn logs_up_to(&self) -> Level {
        self.logs_up_to
    }

    fn start(&self) -> Result<(), String> {
        self.start.clone()
    }
}

/// A loaded plugin that does what the closure says.
pub fn plugin(
    name: &'static str,
    hooks: &'static [Hook],
    act: impl Fn(&Event<'_>, &mut Session) -> Answer + Send + Sync + 'static,
) -> Loaded {
    fake(name, hooks, Box::new(act), Box::new(|_| None), Level::Debug, Ok(()))
}

/// A loaded plugin that is asked without a session.
pub fn aside(
    name: &'static str,
    hooks: &'static [Hook],
    logs_up_to: Level,
    besides: impl Fn(&Aside<'_>) -> Option<Lines> + Send + Sync + 'static,
) -> Loaded {
    let act = Box::new(|_: &Event<'_>, _: &mut Session| super::declined());
    fake(name, hooks, act, Box::new(besides), logs_up_to, Ok(()))
}

/// A loaded plugin that cannot start.
pub fn cannot_start(name: &'static str, why: &str) -> Loaded {
    let act = Box::new(|_: &Event<'_>, _: &mut Session| super::declined());
    fake(name, &[], act, Box::new(|_| None), Level::Debug, Err(why.to_owned()))
}

fn fake(
    name: &'static str,
    hooks: &'static [Hook],
    act: Act,
    besides: Besides,
    logs_up_to: Level,
    start: Result<(), String>,
) -> Loaded {
    Loaded {
        name,
        log_name: name.into(),
        hooks,
        plugin: Box::new(Fake {
            act,
            besides,
            logs_up_to,
            start,
        }),
        loglevel: None,
        on_error: OnError::default(),
        arguments: Vec::new(),
        line: line(name),
    }
}

fn line(text: &str) -> Line {
    Lines::of("plugins", [text])[0].clone()
}

/// Words that closures wrote down, in their order.
#[derive(Clone, Default)]
pub struct Notebook(Arc<Mutex<Vec<String>>>);

impl Notebook {
    /// Writes something down.
    pub fn write(&self, words: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(words.into());
    }

    /// Takes what was written so far.
    pub fn read(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A plugin that takes any arguments and serves some hooks.
macro_rules! declare {
    ($($name:literal [$($hook:ident),*])*) => {
        &[$(&Declaration {
            name: $name,
            about: "",
            args: &[ANY],
            hooks: &[$(Hook::$hook),*],
            files: &[],
            load: |at| {
                at.read(&[ANY], &mut |_, _, _| Ok(None));
                match at.failed() {
                    true => None,
                    false => Some(idle()),
                }
            },
        }),*]
    };
}

const ANY: ArgSpec = ArgSpec {
    name: "any",
    place: Some("rest"),
    wants: "a word",
    also: &[],
    default: None,
    required: || false,
    help: "",
};

fn idle() -> Box<dyn Plugin> {
    Box::new(Fake {
        act: Box::new(|_, _| super::declined()),
        besides: Box::new(|_| None),
        logs_up_to: Level::Debug,
        start: Ok(()),
    })
}

/// A register of plugins that do nothing under names that the engine knows.
pub static REGISTER: Register = Register {
    plugins: declare! {
        "badmailfrom" [mail, rcpt]
        "badmailfromto" [mail, rcpt]
        "badrcptto" [rcpt]
        "count_unrecognized_commands" [unrecognized_command]
        "dkim" [data_post_headers]
        "dmarc" [data_post_headers, data_post]
        "logging/warn" [logging]
        "naughty" [connect, mail, rcpt, data, data_post]
        "noop_counter" [noop, rcpt]
        "queue/maildir" [queue]
        "queue/qmail-queue" [queue]
        "random_error" [connect, rcpt]
        "rcpt_map" [pre_connection, rcpt]
        "rcpt_ok" [rcpt]
        "rcpt_regexp" [rcpt]
        "relay" [connect, rcpt]
        "sender_permitted_from" [mail]
        "tls" [unrecognized_command]
        "whitelist" [connect, rcpt]
    },
    aliases: &[
        Alias {
            old: "relay_only",
            now: "relay",
            arguments: &["only", "1"],
        },
        Alias {
            old: "check_relay",
            now: "relay",
            arguments: &[],
        },
        Alias {
            old: "async/relay",
            now: "relay",
            arguments: &["old", "1"],
        },
        Alias {
            old: "check_spamhelo",
            now: "helo",
            arguments: &[],
        },
    ],
    gone: &[("auth/authnull", "is not provided")],
    ignored: &[("virus/check_for_hi_virus", "does nothing any more")],
};

/// Loads lines of config/plugins from the register of fakes.
pub fn load(lines: &[&str]) -> (Chain, Vec<Fault>) {
    let lookup = Lookup::in_memory();
    lookup.set("plugins", lines);
    super::load_plugins(&lookup, &REGISTER)
}
