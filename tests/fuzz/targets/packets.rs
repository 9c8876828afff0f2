//! Whole sessions of a client that waits for nothing: the packets make no difference.
//!
//! The first byte says what surrounds the session.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::moods::{Scene, outcome};
use qpsmtpd_fuzz::{cuts, list, moods_of};

fuzz_target!(|bytes: &[u8]| {
    let Some((scene, bytes)) = bytes.split_first() else {
        return;
    };
    let (first, rest) = list(bytes);
    let (sizes, input) = list(rest);
    let (scene, moods) = (Scene::of(*scene), moods_of(first));
    let whole = outcome(scene, input, &moods, &[]);
    assert!(whole.is_ok(), "{whole:?}");
    assert_eq!(outcome(scene, input, &moods, &cuts(sizes)), whole);
    assert_eq!(outcome(scene, input, &moods, &[1]), whole);
});
