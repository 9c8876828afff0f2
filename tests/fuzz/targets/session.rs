//! Whole sessions with a client that waits for each reply, against the model.
//!
//! The first byte says what surrounds the session.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{list, model, moods, moods_of};

fuzz_target!(|bytes: &[u8]| {
    let Some((scene, bytes)) = bytes.split_first() else {
        return;
    };
    let (first, rest) = list(bytes);
    let scene = moods::Scene::of(*scene);
    if let Err(why) = model::check(scene, model::Stream::new(rest.to_vec()), &moods_of(first)) {
        panic!("{why}");
    }
});
