//! The borders of the house: who may use whom, which outside crate comes in by which door, how long a file may be.
//!
//! What a module may use stands in its line in `src/lib.rs`: "Uses a, b." is read from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Where each outside crate may be used. One that is used in more than one place says so here.
#[rustfmt::skip] // a table
const DOORS: &[(&str, &[&str])] = &[
    ("argon2",            &["src/plugin/password.rs"]),
    // exchanges; stored keys
    ("base64",            &["src/smtp/auth", "src/plugin/scram.rs", "src/plugin/tools.rs"]),
    ("bcrypt",            &["src/plugin/password.rs"]),
    ("cdb2",              &["src/config/", "plugins/auth/auth_vpopmail/tests.rs"]),
    ("chrono",            &["src/mail/date.rs", "src/plugin/tools.rs"]),
    ("clap",              &["src/options"]),
    ("clap_mangen",       &["src/options"]),
    ("command_fds",       &["src/plugin/program.rs"]),
    ("fancy_regex",       &["src/plugin/patterns.rs"]),
    ("fastrand",          &["src/plugin/tools.rs"]),
    ("gethostname",       &["src/config/"]),
    ("hickory_resolver",  &["src/net/dns"]),
    ("getrandom",         &["src/plugin/tools.rs"]),
    ("hmac",              &["src/plugin/password.rs", "src/plugin/scram.rs"]),
    ("idna",              &["src/mail/domain.rs"]),
    ("ipnet",             &["src/config/networks.rs"]),
    ("jsonwebtoken",      &["src/plugin/jwt.rs"]),
    ("landlock",          &["src/prefork/"]),
    ("md5crypt",          &["src/plugin/password.rs"]),
    ("md_5",              &["src/plugin/password.rs"]),
    ("ldap3",             &["src/net/ldap.rs"]),
    // finding a byte: wherever bytes are read
    ("memchr",            &["src/mail/", "src/session/channel.rs", "src/session/remote.rs", "src/smtp/chunk.rs", "src/smtp/intake.rs", "src/plugin/mod.rs"]),
    ("mio",               &["src/net/", "src/prefork/"]),
    ("mysql",             &["src/net/sql.rs"]),
    // users and processes; programs that plugins run
    ("nix",               &["src/prefork/", "src/plugin/program.rs", "src/plugin/pipe.rs", "src/daemon"]),
    ("pbkdf2",            &["src/plugin/scram.rs"]),
    ("rcgen",             &["src/net/cert.rs"]),
    ("regex",             &["src/plugin/patterns.rs", "tests/"]),
    ("rustls",            &["src/net/tls"]),
    ("seccompiler",       &["src/prefork/"]),
    ("serde_json",        &["src/plugin/jwt.rs"]),
    ("sha1",              &["src/plugin/scram.rs"]),
    ("sha2",              &["src/net/tls", "src/plugin/scram.rs", "src/daemon/secret.rs"]),
    ("sha_crypt",         &["src/plugin/password.rs"]),
    ("signal_hook",       &["src/prefork/", "src/daemon/control/top/terminal.rs"]),
    ("slog",              &["src/log.rs"]),
    ("slog_term",         &["src/log.rs"]),
    ("stringprep",        &["src/plugin/scram.rs"]),
    ("subtle",            &["src/plugin/password.rs", "src/plugin/scram.rs"]),
    ("socket2",           &["src/prefork/", "src/net/"]),
    ("terminal_size",     &["src/daemon/control/top/terminal.rs"]),
    ("tokio",             &["src/net/dns"]),
    ("x509_parser",       &["src/net/tls", "src/net/cert.rs"]),
    ("yescrypt",          &["src/plugin/password.rs"]),
];

/// The most lines of a file, its unit tests not counted; of a plugin's first file; of one with nothing but tests.
const LINES: usize = 400;
const PLUGIN_LINES: usize = 250;
const TEST_LINES: usize = 600;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[("src/plugin/kit.rs", "one kit, one file to read")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, by their path from the root.
fn files_in(folder: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let name = path
            .strip_prefix(root())
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        match path.is_dir() {
            true => files_in(&name, found),
            false => found.push(name),
        }
    }
}

fn rust_files(folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| files_in(folder, &mut found));
    found.retain(|name| name.ends_with(".rs"));
    assert!(!found.is_empty());
    found
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The text without comments, as far as a line tells.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn regex(pattern: &str) -> regex::Regex {
    regex::Regex::new(pattern).expect("a pattern")
}

/// The modules that `src/lib.rs` names, each with those it may use; none stands for all.
fn rules() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let mut rules = BTreeMap::new();
    let mut about = String::new();
    for line in read("src/lib.rs").lines() {
        if let Some(text) = line.strip_prefix("///") {
            about.push_str(text);
            about.push(' ');
        } else if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            let uses = about.split("Uses ").nth(1);
            let uses = uses.unwrap_or_else(|| panic!("src/lib.rs does not say what {name} uses"));
            let words = uses
                .split(|c: char| !c.is_ascii_lowercase())
                .filter(|word| !word.is_empty());
            let words: BTreeSet<String> = words.map(str::to_owned).collect();
            rules.insert(name.to_owned(), (!words.contains("everything")).then_some(words));
            about.clear();
        } else if !line.starts_with("#[") {
            about.clear();
        }
    }
    rules
}

/// The modules of ours that a text names: `crate::a::…` and `crate::{a::…, b}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    static PATHS: LazyLock<regex::Regex> = LazyLock::new(|| regex(r"\b(?:crate|qpsmtpd)::([A-Za-z0-9_]+|\{[^;]*\};)"));
    for found in PATHS.captures_iter(text) {
        match found[1].strip_prefix('{') {
            None => {
                names.insert(found[1].to_owned());
            }
            Some(group) => {
                let mut depth = 0;
                let flat: String = group
                    .chars()
                    .map(|c| {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        if depth > 0 { ' ' } else { c }
                    })
                    .collect();
                let first = |part: &str| part.trim().split(':').next().unwrap_or_default().trim().to_owned();
                names.extend(flat.split(',').map(first));
            }
        }
    }
    names
}

#[test]
fn modules_use_those_that_their_line_in_lib_rs_names() {
    let rules = rules();
    assert!(rules.len() >= 11, "only {} modules found in src/lib.rs", rules.len());
    let mut wrong = Vec::new();
    for name in rust_files(&["src", "plugins"]) {
        let inner = name.strip_prefix("src/").unwrap_or(&name);
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        let Some(rule) = rules.get(module) else {
            assert!(
                ["lib", "build"].contains(&module),
                "{name} belongs to no module of src/lib.rs"
            );
            continue;
        };
        let Some(allowed) = rule else { continue };
        for used in named(&code(&read(&name))) {
            if rules.contains_key(&used) && used != module && !allowed.contains(&used) {
                wrong.push(format!("{name} uses {used}; {module} may use {allowed:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_are_thin() {
    for name in rust_files(&["bin"]) {
        let text = read(&name);
        let lines = code(&text).lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 15, "{name} has {lines} lines");
        for used in named(&code(&text)) {
            assert!(["daemon", "options"].contains(&used.as_str()), "{name} uses {used}");
        }
    }
}

#[test]
fn every_outside_crate_has_its_door() {
    let manifest = read("Cargo.toml");
    let section = manifest
        .split("\n[dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next());
    let crates: BTreeSet<String> = section
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once([' ', '=', '.'])?.0.replace('-', "_")))
        .filter(|name| !name.is_empty())
        .collect();
    assert!(crates.len() > 10, "{crates:?}");
    let mut wrong = Vec::new();
    for name in &crates {
        if !DOORS.iter().any(|(door, _)| door == name) {
            wrong.push(format!(
                "{name} is in Cargo.toml and has no line in tests/architecture.rs"
            ));
        }
    }
    let uses: Vec<regex::Regex> = DOORS
        .iter()
        .map(|(name, _)| regex(&format!(r"(?m)(^|[^A-Za-z0-9_:.]){name}::")))
        .collect();
    for file in rust_files(&["src", "plugins", "bin", "tests"]) {
        let text = code(&read(&file));
        for ((name, doors), uses) in DOORS.iter().zip(&uses) {
            if uses.is_match(&text) && !doors.iter().any(|door| file.starts_with(door)) && !file.starts_with("tests/") {
                wrong.push(format!("{file} uses {name}, whose doors are {doors:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_is_in_one_place() {
    let word = regex(concat!(r"\b", "uns", r"afe\b"));
    for name in rust_files(&["src", "plugins", "bin", "tests"]) {
        let is = name != "src/prefork/sys.rs" && word.is_match(&code(&read(&name)));
        assert!(!is, "{name} has code of that kind");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for name in rust_files(&["src", "plugins", "bin", "tests"]) {
        let text = read(&name);
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! ") && first.len() > 20,
            "{name} opens with `{first}`"
        );
    }
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for name in rust_files(&["src", "plugins", "bin", "tests"]) {
        let text = read(&name);
        let only_tests = name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs");
        let most = match name.starts_with("plugins/") && text.contains("\nplugin! {") {
            _ if only_tests => TEST_LINES,
            true => PLUGIN_LINES,
            false => LINES,
        };
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        let longer = LONGER.iter().any(|(file, _)| *file == name);
        if lines > most && !longer {
            wrong.push(format!("{name} has {lines} lines, at most {most} are wanted"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a file says must hold on any machine.
#[test]
fn nothing_speaks_of_the_machine_it_was_written_on() {
    let bad = regex(concat!(
        r#"(^|[\s"'`=(:])(/wo"#,
        r"rk|/tmp/w",
        r"t|/ro",
        r"ot)\b|catalogue\.",
        r"md"
    ));
    let mut names = Vec::new();
    for folder in ["src", "plugins", "bin", "tests", "config", "run", "log", "docs", ".ci"] {
        files_in(folder, &mut names);
    }
    for name in [
        "Cargo.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "run",
        ".gitignore",
    ] {
        if root().join(name).is_file() {
            names.push(name.to_owned());
        }
    }
    for name in names {
        // what is no text says nothing
        let text = fs::read_to_string(root().join(&name)).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            assert!(!bad.is_match(line), "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn the_rules_are_read_as_they_are_meant() {
    let names = |text: &str| named(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names("use crate::mail::Address;\nlet x = crate::log::Level::Info;"),
        "log mail"
    );
    assert_eq!(
        names("use crate::{config, mail::{Address, Reply}, net::self};"),
        "config mail net"
    );
    assert_eq!(names("use supercrate::mail;"), "");
    let rules = rules();
    assert_eq!(rules.get("daemon"), Some(&None));
    assert!(
        rules["session"]
            .as_ref()
            .is_some_and(|uses| uses.contains("mail") && !uses.contains("net"))
    );
}
