//! Files of the configuration: any bytes under any name give settings and faults, never a panic.
//!
//! The first byte chooses the file.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qpsmtpd::config::{Lookup, TABLE};

static PLACE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).expect("a directory")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let name = TABLE[usize::from(*first) % TABLE.len()].name;
    let path = PLACE.path().join(name);
    std::fs::write(&path, text).expect("write");
    let lookup = Lookup::with_dirs(vec![PLACE.path().to_owned()]);
    let lines = lookup.lines(name);
    for line in lines.iter() {
        assert!(!line.is_empty() && line.place.line > 0, "{line:?}");
        for word in line.words() {
            assert_eq!(&line[line.span_of(word)], word);
            let _ = line.blame(word, "x").to_string();
        }
    }
    let map = lookup.map(name);
    let _ = (map.get(b"x"), map.is_empty(), map.is_text());
    let _ = lookup.settings();
    for fault in lookup.faults() {
        assert!(!fault.to_string().is_empty());
    }
    std::fs::remove_file(path).expect("remove");
});
