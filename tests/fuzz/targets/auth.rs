//! Logins by every mechanism, with whatever the client answers: one reply to each line, and nobody is let in whom the
//! plugin does not let in, or who has not proved to know the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{list, logins, model, moods, moods_of};

fuzz_target!(|bytes: &[u8]| {
    let Some((tls, bytes)) = bytes.split_first() else {
        return;
    };
    let (first, rest) = list(bytes);
    let scene = moods::Scene {
        challenges: true,
        tls: tls & 1 != 0,
        ..moods::Scene::default()
    };
    if let Err(why) = model::check(scene, logins::Login::new(rest.to_vec()), &moods_of(first)) {
        panic!("{why}");
    }
});
