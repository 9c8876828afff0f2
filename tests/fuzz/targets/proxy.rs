//! Connections by a proxy: the header of the PROXY protocol, and what follows it. The packets make no difference, and
//! what is no header ends the connection before anything is taken for a command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::moods::{Scene, outcome};
use qpsmtpd_fuzz::{cuts, list};

fuzz_target!(|bytes: &[u8]| {
    let Some((scene, bytes)) = bytes.split_first() else {
        return;
    };
    let (sizes, input) = list(bytes);
    let scene = Scene {
        proxy: true,
        ..Scene::of(*scene)
    };
    let whole = outcome(scene, input, &[], &[]);
    assert!(whole.is_ok(), "{whole:?}");
    assert_eq!(outcome(scene, input, &[], &cuts(sizes)), whole);
    assert_eq!(outcome(scene, input, &[], &[1]), whole);
    let is_header = input.starts_with(b"PROXY ") || input.starts_with(b"\r\n\r\n\0\r\nQUIT\n");
    let whole = whole.expect("replies");
    assert!(
        is_header || (whole.replies.is_empty() && whole.queued.is_empty()),
        "{whole:?}"
    );
});
