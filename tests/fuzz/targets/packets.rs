//! Whole sessions of a client that waits for nothing: the packets make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{cuts, list, model, moods};

fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = list(bytes);
    let (sizes, input) = list(rest);
    let moods = moods(first);
    let whole = model::outcome(input, &moods, &[]);
    assert!(whole.is_ok(), "{whole:?}");
    assert_eq!(model::outcome(input, &moods, &cuts(sizes)), whole);
    assert_eq!(model::outcome(input, &moods, &[1]), whole);
});
