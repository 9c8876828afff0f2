//! Nothing that fails lets mail in unseen: every plugin of the register fails at each of its hooks, by an error and by
//! a panic, and whatever it asks outside is broken in every way that it can be.
//!
//! The register is walked through, so that a plugin that is new is in it, and must say in `outside` what it asks.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qpsmtpd::config::{Fault, Lines, Lookup};
use qpsmtpd::plugin::{Answer, Event, Extensions, Failure, Hook, OnError, Plugin, Session, declined, load_line};
use qpsmtpd::plugins::REGISTER;

use super::caller::talk;
use super::cast::{self, loaded};
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

/// The hooks that this client does not come to. The first three are asked without a session and decide nothing; a
/// worker asks the fourth.
const ELSEWHERE: [Hook; 4] = [Hook::logging, Hook::config, Hook::user_config, Hook::post_fork];

/// Fails at one hook in place of a plugin.
struct Failing {
    at: Hook,
    panics: bool,
    calls: Arc<AtomicUsize>,
}

impl Plugin for Failing {
    fn on(&self, event: &Event<'_>, _: &mut Session) -> Answer {
        if event.hook() != self.at {
            return declined();
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.panics {
            true => cast::panic("for the audit"),
            false => Err(Failure::new("for the audit")),
        }
    }
}

#[test]
fn a_plugin_that_fails_is_told_of_and_keeps_the_message_out() {
    cast::hush();
    let (mut tried, mut wrong) = (0, Vec::new());
    for plugin in REGISTER.plugins {
        for hook in plugin.hooks.iter().filter(|hook| !ELSEWHERE.contains(hook)) {
            for (panics, on_error) in [
                (false, OnError::Defer),
                (true, OnError::Defer),
                (false, OnError::Skip),
                (true, OnError::Skip),
            ] {
                let calls = Arc::new(AtomicUsize::new(0));
                let failing = Failing {
                    at: *hook,
                    panics,
                    calls: calls.clone(),
                };
                let seen = talk(Arc::new(Lookup::in_memory()), None, |queue| {
                    // a logging plugin would keep for itself what is told here
                    let mut hooks = plugin.hooks.to_vec();
                    hooks.retain(|hook| *hook != Hook::logging);
                    let failing = loaded(plugin.name, hooks, on_error, failing);
                    vec![failing, cast::keeper(queue.clone(), Extensions::default())]
                });
                tried += 1;
                let calls = calls.load(Ordering::Relaxed);
                let words = format!("FATAL PLUGIN ERROR [{}]", plugin.name);
                let told = seen.log.iter().filter(|line| line.contains(&words)).count();
                let keeps_out = KEEPS_OUT.contains(hook);
                let queued = seen.queued;
                // whoever is skipped stands in nobody's way
                let fits = match on_error {
                    OnError::Defer => !keeps_out || queued == 0,
                    OnError::Skip => queued == 1,
                };
                if calls == 0 || told != calls || !fits {
                    wrong.push(format!(
                        "{} at {hook:?}, panics {panics}, {on_error:?}: called {calls}, told {told}, queued {queued}",
                        plugin.name
                    ));
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
    assert!(wrong.is_empty(), "of {tried}:\n{}", wrong.join("\n"));
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
            Outside::Nothing => assert!(plugin.files.is_empty(), "{name} has files"),
            Outside::Settings => assert!(!plugin.files.is_empty(), "{name} has no files"),
            Outside::Broken(breaks) => assert!(breaks.len() > 1, "{name}"),
        }
    }
}

#[test]
fn what_is_broken_outside_lets_nothing_in() {
    let rows = OUTSIDE.iter().filter_map(|(name, outside)| match outside {
        Outside::Nothing | Outside::Settings => None,
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
    fn try_with(&self, name: &str) {
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
        let Some(plugin) = load_line(&lines[0], &lookup, &REGISTER, &mut faults) else {
            // that is told before anybody can be let in
            let is_told = matches!(self.never, Never::Loaded) && faults.iter().any(Fault::is_error);
            return assert!(is_told, "{line}: {faults:?}");
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
