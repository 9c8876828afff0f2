//! Sessions with a plugin of changing moods, in surroundings of any kind: over LMTP, under TLS, for those who speak for
//! others.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use qpsmtpd::config::{Lines, Lookup};
use qpsmtpd::plugin::{
    Answer, Event, Extensions, Failure, Hook, Loaded, OnError, Plugin, ScramHash, ScramKeys, Session, Verdict, answer,
    load_line, ok_as, ok_keys,
};
use qpsmtpd::plugins::REGISTER;
use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::{Kept, Queue, loaded};
use super::player::well_formed;
use super::stage::{self, Set};

/// What a plugin answers next.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    /// This.
    Say(Verdict),
    /// It cannot.
    Fail,
}

/// What surrounds a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// The client speaks LMTP.
    pub lmtp: bool,
    /// The connection is encrypted, and the client has shown a certificate, so that all mechanisms of AUTH are offered
    /// that have no challenge.
    pub tls: bool,
    /// The client may speak for others by XCLIENT and XFORWARD.
    pub upstream: bool,
    /// The client is a proxy, whose header must begin the connection.
    pub proxy: bool,
    /// Whoever queues takes DSN, BINARYMIME and SMTPUTF8.
    pub extensions: bool,
    /// A bare newline is a line end.
    pub bare: bool,
    /// Plugins of the program stand before the one of changing moods.
    pub plugins: bool,
    /// The mechanisms of AUTH are offered that have a challenge, which nobody can know beforehand.
    pub challenges: bool,
}

impl Scene {
    /// One that the bits say; by a proxy, and with challenges, it never is.
    pub fn of(bits: u8) -> Scene {
        Scene {
            lmtp: bits & 1 != 0,
            tls: bits & 2 != 0,
            upstream: bits & 4 != 0,
            extensions: bits & 8 != 0,
            bare: bits & 16 != 0,
            plugins: bits & 32 != 0,
            ..Scene::default()
        }
    }

    /// A session of a plugin of these moods.
    pub fn play(self, moods: &[Mood], stage: &Backstage, wire: Box<dyn Wire>) {
        let lookup = Lookup::in_memory();
        lookup.set("me", &["mx.example.org"]);
        // or foreign fields of that name are renamed
        lookup.set("me-auth-results", &["none"]);
        // nobody waits here
        lookup.set("auth_delay", &["0"]);
        lookup.set("max_errors", &["0"]);
        lookup.set("max_unknown_commands", &["0"]);
        lookup.set("max_auth_failures", &["0"]);
        lookup.set("max_idle_commands", &["0"]);
        let networks = [
            ("xclient_networks", self.upstream),
            ("xforward_networks", self.upstream),
            ("proxy_networks", self.proxy),
            ("bare_newlines", self.bare),
        ];
        for (name, _) in networks.iter().filter(|(_, is)| *is) {
            lookup.set(name, &["192.0.2.0/24"]);
        }
        let set = Set {
            tls: self.tls.then(|| stage::tls("1.3 verified")),
            lmtp: self.lmtp,
            ..Set::quiet()
        };
        let mut plugins = Vec::new();
        if self.plugins {
            for (name, lines) in CONFIG {
                lookup.set(name, lines);
            }
            let faults = &mut Vec::new();
            let mut load = |line| load_line(&Lines::of("plugins", [line])[0], &lookup, &REGISTER, faults);
            plugins.extend(PLUGINS.map(|line| load(line).unwrap_or_else(|| panic!("{line}"))));
        }
        plugins.push(self.moody(moods, stage));
        stage::session(lookup, plugins, wire, set);
    }

    fn moody(self, moods: &[Mood], stage: &Backstage) -> Loaded {
        let mut hooks = DECIDES.to_vec();
        if self.challenges {
            hooks.extend([Hook::auth_cram_md5, Hook::auth_scram]);
        }
        let plugin = Moody {
            moods: moods.to_vec(),
            next: AtomicUsize::new(0),
            stage: stage.clone(),
            takes: match self.extensions {
                true => Extensions::ALL,
                false => Extensions::default(),
            },
        };
        loaded("moody", hooks, OnError::Defer, plugin)
    }
}

/// Plugins that ask nobody outside, so that nothing but what the client says decides.
const PLUGINS: [&str; 15] = [
    "hosts_allow",
    "relay",
    "count_unrecognized_commands 4",
    "noop_counter 3",
    "parse_addr_withhelo",
    "dont_require_anglebrackets",
    "badmailfrom reject naughty",
    "badmailfromto",
    "badrcptto",
    "rcpt_regexp",
    "naughty reject data",
    "loop 3",
    "help",
    "auth/auth_flat_file",
    "rcpt_ok",
];
/// Their settings. Challenges of AUTH are never the same.
const CONFIG: [(&str, &[&str]); 7] = [
    ("badmailfrom", &["bad@b.example", "@bad.example", "/^spam.*@/"]),
    ("badmailfromto", &["a@b.example z@y.example"]),
    ("badrcptto", &["bad@y.example not here"]),
    ("rcpt_regexp", &["x.*@y\\.example OK", "q@ DENY no"]),
    ("flat_auth_pw", &["joe@example.com:pw"]),
    ("auth_mechanisms", &["plain login"]),
    ("rcpthosts", &["y.example", ".example.com"]),
];

/// What the plugin has done.
#[derive(Clone, Default)]
pub struct Backstage {
    /// The messages it was asked to queue.
    pub queue: Queue,
    /// How often it has let somebody in, or given the keys of a user.
    pub let_in: Arc<AtomicUsize>,
}

/// A plugin of changing moods, which keeps what it is asked to queue.
struct Moody {
    moods: Vec<Mood>,
    next: AtomicUsize,
    stage: Backstage,
    takes: Extensions,
}

const DECIDES: &[Hook] = &[
    Hook::ehlo_parse,
    Hook::ehlo,
    Hook::helo,
    Hook::mail_parse,
    Hook::mail_pre,
    Hook::mail,
    Hook::rcpt_parse,
    Hook::rcpt_pre,
    Hook::rcpt,
    Hook::data,
    Hook::data_headers_end,
    Hook::data_post_headers,
    Hook::data_post,
    Hook::queue_pre,
    Hook::queue,
    Hook::queue_post,
    Hook::received_line,
    Hook::reset_transaction,
    Hook::noop,
    Hook::vrfy,
    Hook::help,
    Hook::quit,
    Hook::unrecognized_command,
    Hook::auth_plain,
    Hook::auth_login,
    Hook::auth_external,
    Hook::auth_token,
];

impl Plugin for Moody {
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        let hook = event.hook();
        if hook == Hook::queue {
            let to: Vec<String> = s.recipients().map(|address| address.path()).collect();
            let envelope = format!("{} to {}", s.sender().path(), to.join(" "));
            let mut message = Vec::new();
            if let Some(whole) = s.message() {
                whole.write_to(&mut message)?;
            }
            lock(&self.stage.queue).push(Kept { envelope, message });
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let verdict = match self.moods.get(next % self.moods.len().max(1)) {
            // most sessions shall get somewhere
            None | Some(Mood::Say(Verdict::Declined))
                if matches!(hook, Hook::rcpt | Hook::queue | Hook::auth_scram) =>
            {
                Verdict::Ok
            }
            None => Verdict::Declined,
            Some(Mood::Say(verdict)) => *verdict,
            Some(Mood::Fail) => return Err(Failure::new("in a bad mood")),
        };
        let lets = verdict == Verdict::Ok;
        match event {
            Event::AuthScram { with } if lets => {
                self.stage.let_in.fetch_add(1, Ordering::Relaxed);
                ok_keys(keys(with.mechanism))
            }
            Event::AuthExternal { .. } | Event::AuthToken { .. } if lets => {
                self.stage.let_in.fetch_add(1, Ordering::Relaxed);
                ok_as("joe")
            }
            Event::AuthPlain { .. } | Event::AuthLogin { .. } | Event::AuthCramMd5 { .. } if lets => {
                self.stage.let_in.fetch_add(1, Ordering::Relaxed);
                answer(verdict, "")
            }
            _ => answer(verdict, ""),
        }
    }

    fn takes(&self) -> Extensions {
        self.takes
    }
}

/// The ClientKey of the user whose keys Moody gives for SCRAM-SHA-256 (RFC 5802 3).
pub const CLIENT_KEY: [u8; 32] = [1; 32];

/// Keys of one round, which are not waited for. Of those for SCRAM-SHA-1 nobody knows a ClientKey.
fn keys(mechanism: &str) -> ScramKeys {
    static KEYS: LazyLock<[ScramKeys; 2]> = LazyLock::new(|| {
        let keys = |name: &str, stored: &[u8], server: &[u8]| {
            let [stored, server] = [stored, server].map(|key| STANDARD.encode(key));
            ScramKeys::parse(&format!("{name}$1:c2FsdA==${stored}:{server}")).expect("keys")
        };
        [
            keys("SCRAM-SHA-256", &Sha256::digest(CLIENT_KEY), &[2; 32]),
            keys("SCRAM-SHA-1", &[3; 20], &[4; 20]),
        ]
    });
    let at = usize::from(ScramHash::of(mechanism) == Some(ScramHash::Sha1));
    KEYS[at].clone()
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives its bytes in pieces, and keeps what it hears.
#[derive(Clone)]
pub struct Pieces {
    input: Vec<u8>,
    cuts: Vec<usize>,
    cut: usize,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Pieces {
    /// Gives these bytes in pieces of these sizes, again and again.
    pub fn new(input: Vec<u8>, cuts: &[usize]) -> Pieces {
        Pieces {
            input,
            cuts: cuts.to_vec(),
            cut: 0,
            output: Arc::default(),
        }
    }

    /// What it has heard so far.
    pub fn heard(&self) -> Vec<u8> {
        lock(&self.output).clone()
    }
}

impl Wire for Pieces {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        let piece = self.cuts.get(self.cut % self.cuts.len().max(1)).copied();
        self.cut += 1;
        let count = piece.unwrap_or(usize::MAX).min(buffer.len()).min(self.input.len());
        if count == 0 {
            return Ok(Heard::End);
        }
        buffer[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        lock(&self.output).extend_from_slice(bytes);
        Ok(())
    }
}

/// What a session comes to: all it was answered, and the messages that were queued, with their envelopes.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub replies: String,
    pub queued: Vec<(String, Vec<u8>)>,
}

/// What comes of these bytes, in packets of these sizes, again and again; or how the replies are malformed.
pub fn outcome(scene: Scene, input: &[u8], moods: &[Mood], cuts: &[usize]) -> Result<Outcome, String> {
    let stage = Backstage::default();
    let wire = Pieces::new(input.to_vec(), cuts);
    scene.play(moods, &stage, Box::new(wire.clone()));
    let queued: Vec<Kept> = std::mem::take(&mut *lock(&stage.queue));
    let output = wire.heard();
    well_formed(&output, scene.extensions)?;
    Ok(Outcome {
        replies: String::from_utf8_lossy(&output).into_owned(),
        queued: queued
            .into_iter()
            .map(|kept| (kept.envelope, untimed(kept.message)))
            .collect(),
    })
}

/// A message without its line of the trace that tells the time.
fn untimed(message: Vec<u8>) -> Vec<u8> {
    let lines = message.split_inclusive(|byte| *byte == b'\n').enumerate();
    let kept = lines.filter(|(at, line)| *at > 7 || !line.starts_with(b" by mx.example.org "));
    kept.flat_map(|(_, line)| line.to_vec()).collect()
}
