//! Sets up a session for a conversation, plays it, and looks at what is left: the log, the queue, the hooks.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qpsmtpd::config::{Lines, Lookup, Rate};
use qpsmtpd::log::{Builtin, Level, Record, Sink};
use qpsmtpd::mail::Spool;
use qpsmtpd::plugin::{Chain, ClientCertificate, KitDial, KitDns, Loaded, Peer, Session, Tls, load_line};
use qpsmtpd::plugins::REGISTER;
use qpsmtpd::session::channel::Channel;
use qpsmtpd::session::services::{Clock, Event, Meter, NoOrders, Services};
use qpsmtpd::session::stores::NoStores;
use qpsmtpd::session::wire::Wire;
use qpsmtpd::smtp::{Entry, serve};

use super::cast::{self, Kept, Queue};
use super::player::{Events, Mode, Player};
use super::script::{LinePattern, PluginLine, Script};

/// Keeps what is logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Log {
    fn take(&self, record: &Record<'_>) {
        let line = record.to_string();
        let words = line.split_once(' ').map_or("", |(_, words)| words).to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(words);
    }
}

/// Counts events and forgets none; a rate is reached at its number, whatever its time.
#[derive(Default)]
struct Counter(Mutex<Vec<Event>>);

impl Counter {
    fn note(&self, event: Event) -> u64 {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        events.iter().filter(|one| **one == event).count() as u64
    }
}

impl Meter for Counter {
    fn admit(&self, event: Event, _: u128, rate: Rate) -> bool {
        self.note(event) <= u64::from(rate.events)
    }
    fn count(&self, event: Event, network: u128, rate: Rate) -> bool {
        self.admit(event, network, rate)
    }
    fn add(&self, event: Event, _: u128, _: Duration) -> u32 {
        self.note(event) as u32
    }
    fn reached(&self, _: Event, _: u128, _: Rate) -> bool {
        false
    }
}

/// Runs a session of `plugins` over `wire`.
pub fn session(lookup: impl Into<Arc<Lookup>>, plugins: Vec<Loaded>, wire: Box<dyn Wire>, set: Set) {
    let (chain, lookup) = (Arc::new(Chain::new(plugins)), lookup.into());
    let settings = lookup.settings();
    let services = Arc::new(Services {
        lookup,
        clock: set.clock,
        dns: Arc::new(KitDns::default()),
        dial: Arc::new(set.dial),
        stores: Arc::new(NoStores),
        log: Arc::new(Builtin::new(set.loud, Box::new(set.log))),
        hooks: chain.clone(),
        meter: Arc::new(Counter::default()),
        orders: Arc::new(NoOrders),
        tls: None,
        secret: [7; 32],
        spool: Arc::new(set.spool),
    });
    let far = Instant::now() + Duration::from_secs(3600);
    let channel = Channel::new(wire, settings.timeoutsmtpd, far);
    let mut peer = Peer::new(set.peer);
    peer.local_ip = Some(Ipv4Addr::new(192, 0, 2, 25).into());
    let entry = Entry {
        pre_connection: true,
        reverse_name: false,
        tls: false,
        lmtp: set.lmtp,
    };
    let mut session = Session::new(peer, channel, services, settings);
    session.tls = set.tls.map(Box::new);
    serve(session, &chain, entry);
}

/// The facts of an encrypted connection; see the file of conversations.
pub fn tls(words: &str) -> Tls {
    let has = |word| words.split_ascii_whitespace().any(|one| one == word);
    let client = ClientCertificate {
        subject: "CN=client.example.net".to_owned(),
        names: vec!["client.example.net".to_owned()],
        fingerprint: vec!["AB"; 32].join(":"),
        verified: has("verified"),
    };
    Tls {
        version: if has("1.2") { "TLSv1.2" } else { "TLSv1.3" }.into(),
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        group: None,
        sni: None,
        client: (has("shown") || has("verified")).then_some(client),
        binding: (!has("1.2")).then_some([7; 32]),
    }
}

/// The surroundings of a session.
pub struct Set {
    pub clock: Clock,
    pub log: Log,
    /// Up to which level is logged.
    pub loud: Level,
    pub spool: Spool,
    pub peer: IpAddr,
    pub tls: Option<Tls>,
    pub lmtp: bool,
    /// The way to other servers.
    pub dial: KitDial,
}

impl Set {
    /// Without a log.
    pub fn quiet() -> Set {
        Set {
            loud: Level::Emerg,
            ..Set::default()
        }
    }
}

impl Default for Set {
    fn default() -> Set {
        Set {
            clock: Clock::default(),
            log: Log::default(),
            loud: Level::Debug,
            spool: Spool::in_memory(),
            peer: Ipv4Addr::new(192, 0, 2, 7).into(),
            tls: None,
            lmtp: false,
            dial: KitDial::default(),
        }
    }
}

/// Plays a conversation; the error says at which line it went otherwise.
pub fn play(script: &Script, mode: Mode) -> Result<(), String> {
    if script.alone && mode != Mode::AsWritten {
        return Ok(());
    }
    cast::hush();
    let (events, queue) = (Events::default(), Queue::default());
    let lookup = Lookup::in_memory();
    lookup.set("me", &["mx.example.org"]);
    // a wait is a step of its own, which most conversations have no use for
    lookup.set("auth_delay", &["0"]);
    for (name, lines) in &script.config {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lookup.set(name, &lines);
    }
    let plugins = plugins(script, &lookup, &events, &queue)?;
    let player = Player::new(script, mode, events.clone());
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let settings = lookup.settings();
    let set = Set {
        clock: player.clock(),
        spool: match script.spool.as_deref() {
            None => Spool::in_memory(),
            Some(kind) => Spool {
                dir: match kind {
                    "file" => folder.path().to_owned(),
                    _ => PathBuf::from("/dev/null/spool"),
                },
                threshold: settings.size_threshold,
                perms: 0o700,
            },
        },
        ..Set::default()
    };
    let set = Set {
        peer: script.peer.unwrap_or(set.peer),
        tls: script.tls.as_deref().map(tls),
        lmtp: script.lmtp,
        ..set
    };
    let log = set.log.clone();
    let wire = Box::new(player.clone());
    catch_unwind(AssertUnwindSafe(|| session(lookup, plugins, wire, set)))
        .map_err(|_| format!("{}: the engine panicked", script.file))?;
    player.finish()?;
    let left = std::fs::read_dir(folder.path()).map_err(|why| why.to_string())?.count();
    if left > 0 {
        return Err(format!("{}: {left} files are left in the spool", script.file));
    }
    logged(script, &log)?;
    queued(script, &queue.lock().unwrap_or_else(PoisonError::into_inner))?;
    hooks(script, mode, &events.lock().unwrap_or_else(PoisonError::into_inner))
}

fn plugins(script: &Script, lookup: &Lookup, events: &Events, queue: &Queue) -> Result<Vec<Loaded>, String> {
    let mut plugins = vec![];
    if script.hooks.is_some() {
        plugins.push(cast::recorder(events.clone()));
    }
    for (line, plugin) in &script.plugins {
        let place = |why: String| format!("{}:{line}: {why}", script.file);
        plugins.push(match plugin {
            PluginLine::Test(text) => cast::scripted(text).map_err(place)?,
            PluginLine::Real(text) => {
                let mut faults = Vec::new();
                let lines = Lines::of("config/plugins", [text.as_str()]);
                let loaded = load_line(&lines[0], lookup, &REGISTER, &mut faults);
                let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
                loaded.ok_or_else(|| place(words.join("\n")))?
            }
        });
    }
    if !script.bare {
        plugins.push(cast::keeper(queue.clone(), script.takes));
    }
    Ok(plugins)
}

fn logged(script: &Script, log: &Log) -> Result<(), String> {
    let log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    for (line, wanted, words) in &script.logged {
        if log.iter().any(|line| line.contains(words)) != *wanted {
            let is = if *wanted { "is not" } else { "is" };
            return Err(format!(
                "{}:{line}: `{words}` {is} in the log:\n    {}",
                script.file,
                log.join("\n    ")
            ));
        }
    }
    Ok(())
}

fn queued(script: &Script, queue: &[Kept]) -> Result<(), String> {
    if script.queued.len() != queue.len() {
        let line = script.queued.first().map_or(1, |(line, _)| *line);
        return Err(format!(
            "{}:{line}: {} messages were queued, expected {}",
            script.file,
            queue.len(),
            script.queued.len()
        ));
    }
    for ((line, wanted), kept) in script.queued.iter().zip(queue) {
        if wanted.envelope != kept.envelope {
            return Err(format!("{}:{line}: the envelope is {}", script.file, kept.envelope));
        }
        if !wanted.lines.is_empty() {
            message(&wanted.lines, &kept.message).map_err(|(line, why)| format!("{}:{line}: {why}", script.file))?;
        }
    }
    Ok(())
}

fn message(wanted: &[(usize, LinePattern)], message: &[u8]) -> Result<(), (usize, String)> {
    let whole = || message.escape_ascii().to_string().replace("\\n", "\n    ");
    let mut lines = message.split_inclusive(|byte| *byte == b'\n');
    for (number, pattern) in wanted {
        let Some(line) = lines.next() else {
            return Err((*number, format!("the message ends before this line:\n    {}", whole())));
        };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if !pattern.matches(line) {
            let (want, got) = (pattern.words(), line.escape_ascii());
            return Err((
                *number,
                format!("expected `{want}`\n          got `{got}`\n    {}", whole()),
            ));
        }
    }
    match lines.next() {
        None => Ok(()),
        Some(_) => Err((
            wanted[wanted.len() - 1].0,
            format!("the message goes on:\n    {}", whole()),
        )),
    }
}

fn hooks(script: &Script, mode: Mode, events: &[String]) -> Result<(), String> {
    let Some((line, wanted)) = &script.hooks else {
        return Ok(());
    };
    let writes = mode == Mode::AsWritten && wanted.iter().any(|hook| hook.starts_with('>'));
    let keep = |hook: &&String| writes || !hook.starts_with('>');
    let wanted: Vec<&String> = wanted.iter().filter(keep).collect();
    let got: Vec<&String> = events.iter().filter(keep).collect();
    if wanted == got {
        return Ok(());
    }
    let same = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let show = |list: &[&String]| list.iter().map(|hook| hook.as_str()).collect::<Vec<_>>().join(" ");
    Err(format!(
        "{}:{line}: other hooks ran after `{}`\n    expected {}\n         got {}",
        script.file,
        show(&got[..same]),
        show(&wanted[same..]),
        show(&got[same..])
    ))
}
