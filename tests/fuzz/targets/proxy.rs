//! Connections by a proxy: the header of the PROXY protocol, and what follows it. The packets make no difference, and
//! what is no header ends the connection before anything is taken for a command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{cuts, list, model};

fuzz_target!(|bytes: &[u8]| {
    let (sizes, input) = list(bytes);
    let whole = model::outcome_by_proxy(input, &[], &[]);
    assert!(whole.is_ok(), "{whole:?}");
    assert_eq!(model::outcome_by_proxy(input, &[], &cuts(sizes)), whole);
    assert_eq!(model::outcome_by_proxy(input, &[], &[1]), whole);
    let is_header = input.starts_with(b"PROXY ") || input.starts_with(b"\r\n\r\n\0\r\nQUIT\n");
    let (replies, queued) = whole.expect("replies");
    assert!(is_header || (!replies.contains("\n250") && !replies.starts_with("250") && queued.is_empty()), "{replies}");
});
