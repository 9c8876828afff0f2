//! Nothing that fails lets mail in unseen: every plugin of the register fails at each of its hooks, by an error and by
//! a panic, while it answers at the others, and whatever it asks outside is broken in every way that it can be.
//!
//! The register is walked through, so that a plugin that is new is in it, and must say in `outside` what it asks and
//! what it can be loaded with.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qpsmtpd::config::{Fault, Lines, Lookup};
use qpsmtpd::plugin::{
    Answer, Declaration, Event, Extensions, Failure, Hook, Loaded, OnError, Plugin, Session, declined, load_line,
};
use qpsmtpd::plugins::REGISTER;
use tempfile::TempDir;

use super::caller::talk;
use super::cast;
use super::outside::{Break, Never, OUTSIDE, Outside};

/// The hooks at which a failure must keep the message out.
const KEEPS_OUT: [Hook; 12] = [
    Hook::pre_connection,
    Hook::connect,
    Hook::mail_parse,
    Hook::mail_pre,
    Hook::mail,
    Hook::rcpt_parse,
    Hook::rcpt_pre,
    Hook::rcpt,
    Hook::data,
    Hook::data_headers_end,
    Hook::data_post,
    Hook::queue,
];

/// The hooks at which somebody can be logged in; at `auth_scram` keys are asked for.
const LETS_IN: [Hook; 6] = [
    Hook::auth,
    Hook::auth_plain,
    Hook::auth_login,
    Hook::auth_cram_md5,
    Hook::auth_token,
    Hook::auth_external,
];

/// The hooks that this client does not come to. The first three are asked without a session and decide nothing; a
/// worker asks the fourth.
const ELSEWHERE: [Hook; 4] = [Hook::logging, Hook::config, Hook::user_config, Hook::post_fork];

/// A plugin of the register that does something else instead of its first answer at one hook.
struct Failing {
    plugin: Box<dyn Plugin>,
    at: Hook,
    instead: fn() -> Answer,
    failed: AtomicBool,
}

impl Plugin for Failing {
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        match event.hook() == self.at && !self.failed.swap(true, Ordering::Relaxed) {
            true => (self.instead)(),
            false => self.plugin.on(event, s),
        }
    }

    fn takes(&self) -> Extensions {
        self.plugin.takes()
    }

    fn offers(&self, s: &Session, mechanism: &str) -> bool {
        self.plugin.offers(s, mechanism)
    }
}

/// What came of a session.
#[derive(Debug, PartialEq)]
struct Came {
    codes: Vec<String>,
    /// How often others were asked at the hook.
    asked: usize,
    queued: usize,
}

/// A session with a plugin that does this instead of its first answer at a hook, and with others behind it that let
/// everybody in; how often the log says that it failed, and what came of it.
fn with_failing(name: &str, at: Hook, instead: fn() -> Answer, on_error: OnError) -> (usize, Came) {
    let outside = OUTSIDE.iter().find(|(one, _)| *one == name);
    let (_, outside) = outside.unwrap_or_else(|| panic!("{name} needs a line in OUTSIDE"));
    let (_folder, lookup, loaded) = outside.set_up().load(name);
    let mut loaded = loaded.unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
    let words = format!("FATAL PLUGIN ERROR [{}]", loaded.log_name);
    loaded.on_error = on_error;
    // a logging plugin would keep for itself what is told here
    let hooks = loaded.hooks.iter().filter(|hook| **hook != Hook::logging);
    loaded.hooks = cast::for_ever(hooks.copied().collect());
    loaded.plugin = Box::new(Failing {
        plugin: loaded.plugin,
        at,
        instead,
        failed: AtomicBool::new(false),
    });
    let seen = talk(Arc::new(lookup), None, |queue| {
        let says = |what| cast::scripted(&format!("{} {what}", at.name())).expect("a line");
        let keeper = cast::keeper(queue.clone(), Extensions::default());
        let login = LETS_IN.contains(&at).then(|| says("OK"));
        [loaded, says("NOTE"), keeper].into_iter().chain(login).collect()
    });
    let count = |words: &str| seen.log.iter().filter(|line| line.contains(words)).count();
    let codes = seen.replies.iter().map(|(_, reply)| reply.chars().take(3).collect());
    let came = Came {
        codes: codes.collect(),
        asked: count(" asked "),
        queued: seen.queued,
    };
    (count(&words), came)
}

#[test]
fn a_plugin_that_fails_is_told_of_and_lets_nobody_in() {
    cast::hush();
    let fails: fn() -> Answer = || Err(Failure::new("for the audit"));
    let panics: fn() -> Answer = || cast::panic("for the audit");
    let hooks = |plugin: &&'static Declaration| plugin.hooks.iter().map(|hook| (plugin.name, *hook));
    let (mut tried, mut wrong) = (0, Vec::new());
    for (name, hook) in REGISTER.plugins.iter().flat_map(hooks) {
        // if it declines there, the others let the message in, and the client
        let (_, others) = with_failing(name, hook, declined, OnError::Skip);
        let let_in = others.codes.iter().position(|code| code == "235");
        if others.queued != 1 || let_in.is_some() != LETS_IN.contains(&hook) {
            wrong.push(format!("{name} at {hook:?}: {others:?}"));
        }
        for (how, instead, on_error) in [
            ("fails", fails, OnError::Defer),
            ("fails", fails, OnError::Skip),
            ("panics", panics, OnError::Defer),
            ("panics", panics, OnError::Skip),
        ] {
            let (told, came) = with_failing(name, hook, instead, on_error);
            let put_off = |at| came.codes.get(at).is_some_and(|code: &String| code == "454");
            let fits = match on_error {
                OnError::Defer => (came.queued == 0 || !KEEPS_OUT.contains(&hook)) && let_in.is_none_or(put_off),
                // whoever is skipped stands in nobody's way
                OnError::Skip => came == others,
            };
            tried += told;
            if told != usize::from(!ELSEWHERE.contains(&hook)) || !fits {
                let all = format!("told {told}, {came:?}; without that {others:?}");
                wrong.push(format!("{name} {how} at {hook:?}, {on_error:?}: {all}"));
            }
        }
    }
    assert!(tried > 100, "{tried}");
    assert!(wrong.is_empty(), "after {tried} failures:\n{}", wrong.join("\n"));
}

#[test]
fn every_plugin_says_what_it_asks_outside() {
    let names: BTreeSet<&str> = REGISTER.plugins.iter().map(|plugin| plugin.name).collect();
    let told: BTreeSet<&str> = OUTSIDE.iter().map(|(name, _)| *name).collect();
    // what this program was built without may be told of as well
    let missing: Vec<_> = names.difference(&told).collect();
    assert!(missing.is_empty(), "these need a line in OUTSIDE: {missing:?}");
    assert_eq!(told.len(), OUTSIDE.len(), "a name stands there twice");
    for (name, outside) in OUTSIDE {
        let Some(plugin) = REGISTER.plugins.iter().find(|plugin| plugin.name == *name) else {
            continue;
        };
        match outside {
            Outside::Nothing(_) => assert!(plugin.files.is_empty(), "{name} has files"),
            Outside::Settings => assert!(!plugin.files.is_empty(), "{name} has no files"),
            Outside::Broken(breaks) => assert!(breaks.len() > 1, "{name}"),
        }
    }
}

#[test]
fn what_is_broken_outside_lets_nothing_in() {
    let rows = OUTSIDE.iter().filter_map(|(name, outside)| match outside {
        Outside::Nothing(_) | Outside::Settings => None,
        Outside::Broken(breaks) => Some((*name, *breaks)),
    });
    let here = |name: &str| REGISTER.plugins.iter().any(|plugin| plugin.name == name);
    std::thread::scope(|scope| {
        for (name, breaks) in rows.filter(|(name, _)| here(name)) {
            scope.spawn(move || breaks.iter().for_each(|one| one.try_with(name)));
        }
    });
}

impl Break {
    /// The plugin with its folder and its configuration, or why it cannot be loaded.
    fn load(&self, name: &str) -> (TempDir, Lookup, Result<Loaded, Vec<Fault>>) {
        let folder = tempfile::tempdir().expect("a folder");
        let port = self.server.start(&folder.path().join("socket"));
        let put = |text: &str| {
            text.replace("DIR", &folder.path().to_string_lossy())
                .replace("PORT", &port.to_string())
        };
        for (file, content) in self.files {
            write(&folder.path().join(file), content);
        }
        let lookup = Lookup::with_dirs(vec![folder.path().to_owned()]);
        for (setting, line) in self.config {
            lookup.set(setting, &[&put(line)]);
        }
        let line = put(&format!("{name} {}", self.arguments));
        let mut faults = Vec::new();
        let lines = Lines::of("config/plugins", [line.trim()]);
        let loaded = load_line(&lines[0], &lookup, &REGISTER, &mut faults);
        (folder, lookup, loaded.ok_or(faults))
    }

    fn try_with(&self, name: &str) {
        let (folder, lookup, loaded) = self.load(name);
        let plugin = match loaded {
            Ok(plugin) => plugin,
            Err(faults) => {
                // that is told before anybody can be let in
                let is_told = matches!(self.never, Never::Loaded) && faults.iter().any(Fault::is_error);
                return assert!(is_told, "{name}, {}: {faults:?}", self.how);
            }
        };
        for (file, spoil) in self.spoils {
            spoil.put(&folder.path().join(file));
        }
        lookup.refresh();
        let log_name = plugin.log_name.clone();
        let seen = talk(Arc::new(lookup), None, |_| match self.never {
            Never::Queued => vec![cast::scripted("rcpt OK").expect("a line"), plugin],
            _ => vec![plugin],
        });
        let bad = match self.never {
            Never::Loaded => true,
            Never::Queued => seen.heard("250 2.6.0") || !seen.answered("DATA", "354"),
            Never::LoggedIn => seen.heard("235"),
            Never::Recipient => seen.answered("RCPT", "250"),
        };
        let told = seen.log.iter().any(|line| line.contains(&*log_name));
        let all = format!("{name}, {}: {:#?}\n{:#?}", self.how, seen.replies, seen.log);
        assert!(!bad, "{:?}: {all}", self.never);
        assert!(told, "not told: {all}");
        let soft = match self.never {
            Never::Loaded | Never::LoggedIn => seen.heard("454"),
            Never::Queued => seen.answered("DATA", "4"),
            Never::Recipient => seen.answered("RCPT", "4"),
        };
        assert_eq!(soft, self.soft, "whether the client shall come again: {all}");
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, content).expect("write");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("mode");
}
