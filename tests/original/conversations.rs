//! The conversation files of `tests/conversations`, played against the original, and against our daemon where they need
//! no plugins for tests.
//!
//! What differs on purpose is marked in the files. `TALK=words` plays those alone whose names contain the words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::perl::Perl;
use crate::script::{PluginLine, Queued, Script, Step};
use crate::site::{Delivered, delivered, original, ours, site};
use crate::wire::{Side, play};

/// Settings that the original knows, of those in the files (catalogue 2.5, 7).
#[rustfmt::skip] // a list
const KNOWN: &[&str] = &[
    "badmailfrom", "badmailfromto", "badrcptto", "databytes", "flat_auth_pw", "hosts_allow", "me", "norelayclients",
    "rcpt_regexp", "rcpthosts", "relayclients", "smtpgreeting", "timeout", "timeoutsmtpd",
];

/// As many conversations must have been played.
const AT_LEAST: usize = 180;

/// The client's address. In the files it is 192.0.2.7, and their settings name it.
pub const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 7);
const NETWORKS: (&str, &str) = ("192.0.2.", "127.0.2.");

#[test]
fn conversations() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let wanted = std::env::var("TALK").unwrap_or_default();
    let mut groups: BTreeMap<Group, Vec<Script>> = BTreeMap::new();
    let mut left = BTreeMap::<String, usize>::new();
    for script in scripts(&wanted) {
        match not_for_the_original(&script) {
            None => groups.entry(Group::of(&script)).or_default().push(script),
            Some(why) => *left.entry(why).or_default() += 1,
        }
    }
    let groups: Vec<(Group, Vec<Script>)> = groups.into_iter().collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((group, scripts)) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = group.play(&perl, scripts);
                    wrong.lock().expect("lock").extend(found);
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("lock");
    wrong.sort();
    let scripts: Vec<&Script> = groups.iter().flat_map(|(_, scripts)| scripts).collect();
    let played = scripts.len();
    eprintln!(
        "{played} conversations, {} configurations; left out: {left:#?}",
        groups.len()
    );
    let mut differs: Vec<&str> = Vec::new();
    for script in scripts {
        differs.extend(script.original.values().map(|differs| &*differs.why));
    }
    differs.sort();
    eprintln!("{} replies differ on purpose:\n{}", differs.len(), differs.join("\n"));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!wanted.is_empty() || played >= AT_LEAST, "only {played} were played");
}

/// A conversation that goes otherwise must be noticed, and so must a mark that says nothing.
#[test]
fn what_goes_otherwise_is_noticed() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let message = "hello mail rcpt data message\nS: 250\nquit\nqueued: <from@example.net> to <to@example.com>\n";
    for (wrong, why) in [
        ("S: 220\nC: NOOP\nS: 251\n", "expected 251, got 250"),
        ("S: 220\nC: NOOP\nS: 250\nO: 500 RFC 0\n", "expected 500, got 250"),
        ("S: 220\nC: NOOP\nS: 250\nO: 250 RFC 0\n", "is no difference"),
        ("S: 220\nC: NOOP\nC: NOOP\nS: 250\nS!\n", "expected !, got 250"),
        ("S: 220\nC: QUIT\nS: 221\nS: 250\n", "expected 250, got"),
        ("S: 220\nC: QUIT\nS: 221\nS!\nqueued: <> to <a@b>\n", "0 messages"),
        (&format!("{message}| no\n"), "expected `no`"),
        (&format!("{message}O queued: RFC 0\n| no\n"), "expected `no`"),
    ] {
        let script = Script::parse("wrong.talk", wrong).expect("a conversation");
        let found = Group::of(&script).play(&perl, &[script]);
        assert!(found.iter().any(|line| line.contains(why)), "{wrong}{found:#?}");
    }
}

/// The conversations whose names contain the word, in the order of their names.
pub fn scripts(wanted: &str) -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of the conversations") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".talk") && name.contains(wanted) {
            let text = std::fs::read_to_string(&path).expect("a conversation");
            let script = Script::parse(&format!("tests/conversations/{name}"), &text);
            scripts.push(script.unwrap_or_else(|why| panic!("{why}")));
        }
    }
    scripts.sort_by(|a, b| a.file.cmp(&b.file));
    scripts
}

/// What the original cannot be asked about, if the conversation is about that.
pub fn not_for_the_original(script: &Script) -> Option<String> {
    if script.ours.as_ref().is_some_and(|(at, _)| *at == 0) {
        return Some("what the file gives a reason for".to_owned());
    }
    for (name, lines) in &script.config {
        // a limit that is off is one that the original does not have
        let off = name.starts_with("max_") && lines.iter().all(|line| line == "0");
        if !KNOWN.contains(&name.as_str()) && !off {
            return Some(format!("config {name}"));
        }
    }
    for (_, plugin) in &script.plugins {
        if let PluginLine::Test(line) = plugin {
            let mut words = line.split(' ');
            let (hook, what) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if matches!(hook, "auth_token" | "auth_external" | "data_post_headers") {
                return Some(format!("hook {hook}"));
            }
            if matches!(what, "SETTLE" | "UNAVAILABLE") {
                return Some(format!("test plugin that says {what}"));
            }
        }
    }
    let surroundings = [
        ("lmtp", script.lmtp),
        ("tls", script.tls.is_some()),
        ("spool", script.spool.is_some()),
        ("peer", script.peer.is_some()),
        ("takes", script.takes != Default::default()),
    ];
    if let Some((word, _)) = surroundings.iter().find(|(_, there)| *there) {
        return Some((*word).to_owned());
    }
    // a time that is set comes by itself
    let times = script.config.iter().any(|(name, _)| name.starts_with("timeout"));
    let mut greeted = false;
    for (_, step) in &script.steps {
        let word = match step {
            Step::Leave { .. } => "leave",
            Step::Pass(_) => "pass",
            Step::Wait if greeted && !times => "wait",
            Step::Client(bytes) if bytes.starts_with(b"BDAT ") => "BDAT",
            Step::Server(_) => {
                greeted = true;
                continue;
            }
            _ => continue,
        };
        return Some(word.to_owned());
    }
    None
}

/// A configuration; conversations that have the same are played with one server.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    pub config: Vec<(String, Vec<String>)>,
    pub plugins: Vec<String>,
    /// Our daemon can serve it as well.
    pub for_both: bool,
    /// Everything is accepted and queued.
    keeps: bool,
}

impl Group {
    /// That of a conversation.
    pub fn of(script: &Script) -> Self {
        let here = |text: &String| text.replace(NETWORKS.0, NETWORKS.1);
        let setting = |(name, lines): &(String, Vec<String>)| (name.clone(), lines.iter().map(here).collect());
        let mut group = Self {
            config: script.config.iter().map(setting).collect(),
            plugins: Vec::new(),
            for_both: true,
            keeps: !script.bare,
        };
        for (number, (_, plugin)) in script.plugins.iter().enumerate() {
            group.plugins.push(match plugin {
                PluginLine::Real(line) => here(line),
                PluginLine::Test(line) => {
                    group.for_both = false;
                    let mut digits = String::new();
                    line.bytes()
                        .for_each(|byte| write!(digits, "{byte:02x}").expect("a string"));
                    format!("scripted:{number} {digits}")
                }
            });
        }
        if group.keeps {
            group.config.push(("rcpt_regexp".to_owned(), vec!["/^/ OK".to_owned()]));
            let keepers = ["rcpt_regexp", "rcpt_ok", "queue/maildir ./Maildir"];
            group.plugins.extend(keepers.map(str::to_owned));
        }
        group.config.sort();
        group
    }

    /// Plays conversations; what goes otherwise than the files say.
    fn play(&self, perl: &Perl, scripts: &[Script]) -> Vec<String> {
        let site = site(perl, &self.config, &self.plugins);
        let path = site.path().to_owned();
        let original = original(perl, &site);
        let mut wrong = Vec::new();
        let mut offers = Vec::new();
        for script in scripts {
            let theirs = self.one(script, Side::Original, original.address, &path.join("original"));
            wrong.extend(theirs.0);
            offers.push(theirs.1);
        }
        if self.for_both {
            let daemon = ours(site);
            for (script, theirs) in scripts.iter().zip(offers) {
                let (found, offers) = self.one(script, Side::Ours, daemon.addresses[0], &path.join("ours"));
                wrong.extend(found);
                if let (Some(theirs), Some(ours)) = (theirs.first(), offers.first())
                    && known(theirs) != known(ours)
                {
                    wrong.push(format!("{}: the original offers {theirs:?}, we {ours:?}", script.file));
                }
            }
        }
        wrong
    }

    /// Plays a conversation with one side: what goes otherwise, and what EHLO offers.
    fn one(&self, script: &Script, side: Side, server: SocketAddr, place: &Path) -> (Vec<String>, Vec<Vec<String>>) {
        let played = play(script, side, IpAddr::V4(PEER), server);
        let mut wrong = played.wrong;
        let queued = delivered(place);
        let followed = side == Side::Ours || script.ours.is_none();
        if followed && self.keeps {
            if queued.len() != script.queued.len() {
                wrong.push(format!("{}: {} messages", script.file, queued.len()));
            }
            for ((line, wanted), kept) in script.queued.iter().zip(&queued) {
                if let Err(why) = compare(side, *line, wanted, kept) {
                    wrong.push(format!("{}:{why}", script.file));
                }
            }
        }
        let wrong = wrong.into_iter().map(|why| format!("{why} ({side:?})"));
        (wrong.collect(), played.offers)
    }
}

/// What both know of the extensions offered: mechanisms of AUTH in any order, SIZE if it has a number.
fn known(offers: &[String]) -> Vec<String> {
    let mut known = Vec::new();
    for line in offers {
        let mut words = line.get(4..).unwrap_or_default().split(' ');
        match words.next() {
            Some(name @ ("PIPELINING" | "8BITMIME" | "STARTTLS")) => known.push(name.to_owned()),
            Some("SIZE") => known.extend(words.next().map(|size| format!("SIZE {size}"))),
            Some("AUTH") => {
                let both = |word: &&str| ["PLAIN", "LOGIN", "CRAM-MD5"].contains(word);
                known.extend(words.filter(both).map(|word| format!("AUTH {word}")));
            }
            _ => {}
        }
    }
    known.sort();
    known
}

/// Compares a message with what the file says of it; the error begins with the line.
fn compare(side: Side, line: usize, wanted: &Queued, kept: &Delivered) -> Result<(), String> {
    let lines = match (&wanted.original, side) {
        (Some(lines), Side::Original) if lines.is_empty() => return Ok(()),
        (Some(lines), Side::Original) => lines,
        _ => &wanted.lines,
    };
    if kept.envelope != wanted.envelope {
        return Err(format!("{line}: the envelope is {}", kept.envelope));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let whole = || kept.text.escape_ascii().to_string().replace("\\n", "\n    | ");
    let mut got = kept.text.split_inclusive(|byte| *byte == b'\n');
    for (line, pattern) in lines {
        let got = got.next().map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        if !got.is_some_and(|got| pattern.matches(got)) {
            let got = got.unwrap_or(b"the end").escape_ascii();
            return Err(format!(
                "{line}: expected `{}`, got `{got}`\n    | {}",
                pattern.words(),
                whole()
            ));
        }
    }
    match got.next() {
        None => Ok(()),
        Some(_) => Err(format!("{line}: the message goes on\n    | {}", whole())),
    }
}
