//! The shipped samples: complete, explained, and without a fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Ip, Kind, Lookup, Settings, TABLE, unknown_files};
use crate::log::Level;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn shipped() -> Lookup {
    Lookup::with_dirs(vec![folder()])
}

/// The comment a sample opens with, as running text.
fn opening(sample: &str) -> String {
    let comment = sample.lines().map_while(|line| line.strip_prefix('#'));
    comment.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// What a sample holds: its lines, and those that are commented out (without a blank after the `#`).
fn values(sample: &str) -> Vec<&str> {
    let body = sample.lines().skip_while(|line| line.starts_with('#'));
    let values = body.map(|line| line.strip_prefix('#').unwrap_or(line));
    values
        .filter(|line| !line.is_empty() && !line.starts_with(' '))
        .collect()
}

#[test]
fn each_setting_has_a_sample_and_each_sample_a_setting() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .expect("the samples")
        .map(|entry| entry.expect("a sample"))
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let settings = TABLE.iter().filter(|setting| !setting.sample.is_empty());
    assert_eq!(files, settings.map(|setting| setting.name.to_owned()).collect());
    assert_eq!(unknown_files(&folder(), &[]), []);
}

#[test]
fn each_sample_opens_with_its_explanation() {
    for setting in TABLE.iter().filter(|setting| !setting.sample.is_empty()) {
        let text = opening(setting.sample);
        assert!(text.trim().starts_with(setting.about), "{}: {text}", setting.name);
        let types = format!(
            "Type: {}. Default: {}. Example: {}",
            setting.kind, setting.default, setting.example
        );
        assert!(text.contains(&types), "{}: {types}", setting.name);
        if !setting.plugin.is_empty() {
            assert!(
                text.ends_with(&format!("Read by the plugin {}.", setting.plugin)),
                "{}",
                setting.name
            );
        }
        assert!(!values(setting.sample).is_empty(), "{} shows no value", setting.name);
    }
}

#[test]
fn every_value_shown_is_a_good_one() {
    for setting in TABLE.iter().filter(|setting| setting.plugin.is_empty()) {
        let default = Some(setting.default).filter(|text| !text.starts_with('('));
        let shown = values(setting.sample)
            .into_iter()
            .chain([setting.example])
            .chain(default);
        for value in shown {
            let lookup = Lookup::in_memory();
            lookup.set(setting.name, &[value]);
            assert_eq!(lookup.faults(), [], "{}: {value}", setting.name);
        }
    }
}

#[test]
fn each_default_is_what_holds_without_the_file() {
    for setting in TABLE {
        let plain = !setting.default.starts_with('(');
        let typed = matches!(
            setting.kind,
            Kind::Flag | Kind::Number { .. } | Kind::Seconds { .. } | Kind::Bytes { .. }
        );
        if setting.plugin.is_empty() && plain && typed {
            let lookup = Lookup::in_memory();
            lookup.set(setting.name, &[setting.default]);
            assert_eq!(*lookup.settings(), Settings::default(), "{}", setting.name);
        }
    }
}

#[test]
fn the_samples_are_a_configuration_without_a_fault() {
    let lookup = shipped();
    TABLE.iter().for_each(|setting| drop(lookup.lines(setting.name)));
    assert_eq!(lookup.faults(), []);
    let settings = lookup.settings();
    let expected = Settings {
        ip: Some(Ip::One("127.0.0.1".parse().expect("an address"))),
        port: Some(2525),
        size_threshold: 10_000,
        spool_dir: "tmp".into(),
        loglevel: Level::Info,
        tls_before_auth: true,
        ..Settings::default()
    };
    assert_eq!(*settings, expected);
    assert_eq!(settings.timeout, Duration::from_secs(1200));
    let hosts = lookup.lines("rcpthosts");
    assert_eq!(
        hosts.iter().map(|line| &*line.text).collect::<Vec<_>>(),
        ["localhost", "example.com"]
    );
    for open in ["relayclients", "morerelayclients", "morercpthosts", "bare_newlines"] {
        assert!(lookup.lines(open).is_empty(), "{open}");
    }
}

#[test]
fn the_plugins_end_in_a_queue_and_show_all_choices() {
    let lines = shipped().lines("plugins");
    assert_eq!(lines.last().map(|line| &*line.text), Some("queue/maildir ./Maildir"));
    let sample = TABLE
        .iter()
        .find(|setting| setting.name == "plugins")
        .expect("the plugins")
        .sample;
    let names: Vec<&str> = values(sample)
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let after = |a: &str, b: &str| names.iter().position(|name| *name == a) > names.iter().position(|name| *name == b);
    assert!(after("rcpt_ok", "badrcptto") && after("naughty", "badmailfrom"));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
}
