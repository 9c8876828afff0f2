//! Files of the configuration with anything in them: there are settings, and faults that say what is wrong and where.

use std::path::PathBuf;

use qpsmtpd::config::{Lines, Lookup, TABLE};
use qpsmtpd::plugin::load_line;
use qpsmtpd::plugins::REGISTER;

/// Reads this as the file that has this number in the table of settings.
///
/// # Panics
/// If that does not go as it should.
pub fn read(number: u8, text: &[u8]) {
    let name = TABLE[usize::from(number) % TABLE.len()].name;
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let place = tempfile::tempdir_in(place).expect("a directory");
    std::fs::write(place.path().join(name), text).expect("write");
    let lookup = Lookup::with_dirs(vec![place.path().to_owned()]);
    let lines = lookup.lines(name);
    for line in lines.iter() {
        assert!(!line.is_empty() && line.place.line > 0, "{line:?}");
        for word in line.words() {
            assert_eq!(&line[line.span_of(word)], word);
            let _ = line.blame(word, "x").to_string();
        }
    }
    if let Ok(map) = lookup.map(name) {
        let _ = (map.get(b"x"), map.is_empty(), map.is_text());
    }
    let _ = lookup.settings();
    for fault in lookup.faults() {
        assert!(!fault.to_string().is_empty());
    }
}

/// Loads the plugin of this number with these arguments, or what this line says if there is no such number.
///
/// # Panics
/// If that does not go as it should.
pub fn load(number: u8, text: &str) {
    let names = REGISTER.plugins;
    let line = match names.get(usize::from(number)) {
        Some(plugin) => format!("{} {text}", plugin.name),
        None => text.to_owned(),
    };
    // such a line cannot come out of a file
    if line.contains(['\n', '\r', '\0']) || line.trim() != line || line.is_empty() {
        return;
    }
    let (lookup, mut faults) = (Lookup::in_memory(), Vec::new());
    let loaded = load_line(&Lines::of("plugins", [&line])[0], &lookup, &REGISTER, &mut faults);
    let errors = faults.iter().filter(|fault| fault.is_error()).count();
    assert!(loaded.is_some() || !faults.is_empty(), "{line:?} vanishes");
    assert!(loaded.is_none() || errors == 0, "{line:?} is loaded with {faults:?}");
    for fault in &faults {
        assert!(fault.to_string().contains("plugins:1:"), "{fault}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Words that mean something somewhere, and some that mean nothing.
    fn word() -> impl Strategy<Value = String> {
        let known = [
            "10",
            "0",
            "-1",
            "30/60",
            "99999999999999999999",
            "192.0.2.0/24",
            "::1",
            "a@b.example",
            "@example.com",
            "/^x(/",
            "<include x",
            "reject",
            "yes",
            "DENY",
            "|",
            ":",
            "#",
            "loglevel",
            "on_error",
            "skip",
            "timeout",
            "/tmp",
            "%l",
            "\u{fc}",
            "\"",
            "\\",
        ];
        prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_file_is_read(
            number: u8,
            words in vec((word(), prop_oneof![Just(" "), Just("\n"), Just("\r\n"), Just("\t"), Just("")]), 0..12),
            bytes in vec(any::<u8>(), 0..6),
        ) {
            let text: String = words.iter().map(|(word, end)| format!("{word}{end}")).collect();
            read(number, &[text.as_bytes(), &bytes].concat());
        }

        #[test]
        fn any_line_of_plugins_is_read(
            number in 0..REGISTER.plugins.len() as u8 + 3,
            words in vec(word(), 0..6),
        ) {
            load(number, &words.join(" "));
        }
    }
}
