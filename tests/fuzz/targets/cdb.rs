//! Constant databases: whatever is in the file, a search ends, and says what it found or that the file is broken.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qpsmtpd::config::Lookup;

static PLACE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).expect("a directory")
});

fuzz_target!(|bytes: &[u8]| {
    // a header of equal tables is little to guess, so that the rest can be reached
    let (table, records) = bytes.split_at(bytes.len().min(8));
    let mut file = Vec::with_capacity(2048 + records.len());
    if table.len() == 8 {
        (0..256).for_each(|_| file.extend_from_slice(table));
    }
    file.extend_from_slice(records);
    std::fs::write(PLACE.path().join("badmailfrom.cdb"), file).expect("write");
    let lookup = Lookup::with_dirs(vec![PLACE.path().to_owned()]);
    let Ok(map) = lookup.map("badmailfrom") else { return };
    let _ = map.is_empty();
    for key in [&b""[..], b"a", b"user@example.com", records.get(8..12).unwrap_or_default()] {
        let _ = map.get(key);
    }
    let _ = lookup.faults();
});
