//! The logs of both, read with `log/summarize`: the same sessions, and the same verdicts of the plugins.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use crate::conversations::{Group, PEER, not_for_the_original, scripts};
use crate::perl::Perl;
use crate::script::{PluginLine, Script, Step};
use crate::site::{original, ours, site};
use crate::wire::{Side, play};

/// Plugins whose words differ, and why.
#[rustfmt::skip] // a list
const OTHER_WORDS: &[(&str, &str)] = &[
    ("random_error", "the original tells of each throw of its die, we of those that fail (catalogue 5, Disposition convention)"),
    ("rcpt_regexp", "the original complains of broken lines at each recipient, and tells of no match (catalogue 17.4)"),
];

/// Lines of the core that the log tools look for (catalogue 5), as far as they are the same in both.
const CORE: &[&str] = &[
    "dispatching ",
    "click, disconnecting",
    "deny mail from ",
    "denysoft mail from ",
    "auth success cleared naughty",
];

/// As many logs must have been compared.
const AT_LEAST: usize = 40;

#[test]
fn the_log_tools_see_the_same_in_both_logs() {
    let Some(perl) = Perl::need() else {
        return;
    };
    let wanted = std::env::var("TALK").unwrap_or_default();
    let scripts: Vec<Script> = scripts(&wanted).into_iter().filter(tells).collect();
    let (next, lines) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match compare(&perl, script) {
                        Ok(count) => drop(lines.fetch_add(count, Ordering::Relaxed)),
                        Err(why) => wrong.lock().expect("lock").push(why),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("lock");
    eprintln!("{} logs, {} lines", scripts.len(), lines.into_inner());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(
        !wanted.is_empty() || scripts.len() >= AT_LEAST,
        "{} logs",
        scripts.len()
    );
}

/// Whether plugins of both speak in a conversation that goes in the same way, and whose end the client sees.
fn tells(script: &Script) -> bool {
    let real = |(_, plugin): &(usize, PluginLine)| matches!(plugin, PluginLine::Real(_));
    let ends = matches!(script.steps.last(), Some((_, Step::Closed)));
    let same = script.original.is_empty() && script.ours.is_none();
    let plugins = !script.plugins.is_empty() && script.plugins.iter().all(real);
    ends && same && plugins && not_for_the_original(script).is_none()
}

/// Plays a conversation with both and compares what they log; how many lines were compared.
fn compare(perl: &Perl, script: &Script) -> Result<usize, String> {
    let group = Group::of(script);
    let site = site(perl, &group.config, &group.plugins);
    let original = original(perl, &site);
    play(script, Side::Original, PEER.into(), original.address);
    let mut theirs = original.end();
    // of clients that it turns away the original tells only those who look for faults
    if !theirs.iter().any(|line| line.contains(" Connection from ")) {
        return Ok(0);
    }
    let mut daemon = ours(site);
    play(script, Side::Ours, PEER.into(), daemon.addresses[0]);
    daemon.signal(Signal::SIGINT);
    daemon.wait();
    let mut log = daemon.lines();
    let of_others = |line: &String| {
        let speaker = speaker(line).unwrap_or_default();
        !OTHER_WORDS
            .iter()
            .any(|(name, _)| speaker.ends_with(&format!(" {name}")))
    };
    theirs.retain(of_others);
    log.retain(of_others);
    // where the original says nothing, a word of ours is one more
    let speakers: Vec<&str> = theirs.iter().filter_map(|line| speaker(line)).collect();
    log.retain(|line| speaker(line).is_none_or(|name| speakers.contains(&name)));
    let (theirs, ours) = (summarize(&theirs) + &core(&theirs), summarize(&log) + &core(&log));
    match theirs == ours {
        true => Ok(theirs.lines().count()),
        false => Err(format!("{}\n--- the original:\n{theirs}--- we:\n{ours}", script.file)),
    }
}

/// Those lines, and the codes of the replies, without the words that a plugin chooses; of AUTH without commands and
/// challenges: the original shows passwords (catalogue 4.3).
fn core(log: &[String]) -> String {
    let mut found = String::new();
    let logs_in = log.iter().any(|line| line.contains(" dispatching AUTH "));
    for line in log {
        let text = line.split_once(' ').map_or("", |(_, text)| text);
        let code = text.get(..4).and_then(|code| code.strip_suffix(' '));
        if let Some(code) = code.filter(|code| code.parse::<u16>().is_ok() && *code != "334") {
            found += code;
            found.push('\n');
        }
        if CORE.iter().any(|start| text.starts_with(start)) && !(logs_in && text.starts_with("dispatching ")) {
            found += text.split_once(" (").map_or(text, |(text, _)| text);
            found.push('\n');
        }
    }
    found
}

/// The plugin that speaks in a line, and its hook: `(hook) plugin`.
fn speaker(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let (speaker, _) = rest.split_once(": ")?;
    (speaker.starts_with('(') && speaker.matches(' ').count() == 1).then_some(speaker)
}

/// What the log tool makes of a log.
fn summarize(log: &[String]) -> String {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("log/summarize");
    let mut command = Command::new(tool);
    command.args(["-l", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("start");
    let mut stdin = child.stdin.take().expect("stdin");
    for line in log {
        writeln!(stdin, "@400000006922100a00000001 {line}").expect("write");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
