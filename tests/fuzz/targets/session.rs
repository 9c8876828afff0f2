//! Whole sessions with a client that waits for each reply, against the model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{list, model, moods};

fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = list(bytes);
    if let Err(why) = model::check(model::Stream::new(rest.to_vec()), &moods(first)) {
        panic!("{why}");
    }
});
