//! Nothing that fails lets mail in unseen: every plugin of the register fails at each of its hooks, by an error and by
//! a panic, and whatever it asks outside is broken in every way that it can be.
//!
//! The register is walked through, so that a plugin that is new is in it, and must say in `outside` what it asks.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use qpsmtpd::config::{Fault, Lines, Lookup};
use qpsmtpd::plugin::{
    Answer, Event, Extensions, Failure, Hook, Loaded, OnError, Plugin, Session, declined, load_line,
};
use qpsmtpd::plugins::REGISTER;
use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::{self, Queue, loaded};
use super::outside::{Break, Never, OUTSIDE, Outside};
use super::stage::{self, Set};

/// What a client of these tests says; a message when it is told to go ahead.
const SAYS: [&str; 17] = [
    "HELO x",
    "EHLO x",
    "NOOP",
    "VRFY x",
    "HELP",
    "FOO",
    "AUTH CRAM-MD5",
    "eEBleGFtcGxlLmNvbSAwMTIz",
    "AUTH LOGIN",
    "eEBleGFtcGxlLmNvbQ==",
    "cHc=",
    "AUTH PLAIN AHhAZXhhbXBsZS5jb20AcHc=",
    "MAIL FROM:<a@b.example>",
    "RCPT TO:<x@example.com>",
    "DATA",
    "RSET",
    "QUIT",
];

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
/// worker asks the fourth; the others belong to exchanges that tests of their own have.
const ELSEWHERE: [Hook; 7] = [
    Hook::logging,
    Hook::config,
    Hook::user_config,
    Hook::post_fork,
    Hook::auth_scram,
    Hook::auth_token,
    Hook::auth_external,
];

/// Speaks line by line and keeps what it hears.
#[derive(Clone, Default)]
struct Caller(Arc<Mutex<Heart>>);

#[derive(Default)]
struct Heart {
    said: usize,
    heard: Vec<u8>,
    /// Where the last reply begins.
    last: usize,
    rest: Vec<u8>,
    replies: Vec<(String, String)>,
}

impl Heart {
    fn next(&mut self) -> Option<String> {
        let reply = String::from_utf8_lossy(&self.heard[self.last..]).into_owned();
        self.last = self.heard.len();
        let asked = self.said.checked_sub(1).map_or("", |at| SAYS[at]);
        self.replies.push((asked.to_owned(), reply.clone()));
        if reply.starts_with("354") {
            return Some("Subject: x\r\n\r\nText.\r\n.\r\n".to_owned());
        }
        let line = SAYS.get(self.said)?;
        self.said += 1;
        Some(format!("{line}\r\n"))
    }
}

impl Wire for Caller {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        let mut heart = self.0.lock().expect("lock");
        if heart.rest.is_empty() {
            match heart.next() {
                Some(words) => heart.rest = words.into_bytes(),
                None => return Ok(Heard::End),
            }
        }
        let count = buffer.len().min(heart.rest.len());
        buffer[..count].copy_from_slice(&heart.rest[..count]);
        heart.rest.drain(..count);
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        self.0.lock().expect("lock").heard.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a session came to.
struct Seen {
    /// What was said, and what was heard then.
    replies: Vec<(String, String)>,
    log: Vec<String>,
    queued: usize,
}

fn talk(lookup: Lookup, plugins: impl FnOnce(&Queue) -> Vec<Loaded>) -> Seen {
    let (caller, queue, set) = (Caller::default(), Queue::default(), Set::default());
    for (name, value) in [("me", "mx.example.org"), ("max_errors", "0"), ("auth_delay", "0")] {
        lookup.set(name, &[value]);
    }
    let log = set.log.clone();
    let plugins = plugins(&queue);
    stage::session(lookup, plugins, Box::new(caller.clone()), set);
    let mut heart = caller.0.lock().expect("lock");
    let queued = queue.lock().expect("lock").len();
    heart.next();
    Seen {
        replies: std::mem::take(&mut heart.replies),
        log: log.lines(),
        queued,
    }
}

impl Seen {
    /// Whether something that was said so was answered so.
    fn answered(&self, said: &str, code: &str) -> bool {
        let mut replies = self.replies.iter();
        replies.any(|(asked, reply)| asked.starts_with(said) && reply.starts_with(code))
    }

    /// Whether any answer says so; for messages, whose answers come after 354.
    fn heard(&self, code: &str) -> bool {
        self.replies.iter().any(|(_, reply)| reply.starts_with(code))
    }
}

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
                let seen = talk(Lookup::in_memory(), |queue| {
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
}

#[test]
fn what_is_broken_outside_lets_nothing_in() {
    let rows = OUTSIDE.iter().filter_map(|(name, outside)| match outside {
        Outside::Nothing => None,
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
        let log_name = plugin.log_name.clone();
        let seen = talk(lookup, |_| match self.never {
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
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    std::fs::write(path, content).expect("write");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("mode");
}
