//! A message that comes by DATA, and by BDAT in parts of any size: the outcome is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{cuts, list, parts};

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let (sizes, message) = list(bytes);
    let packet = match how >> 2 {
        0 => usize::MAX,
        size => size.into(),
    };
    let cuts: Vec<usize> = cuts(sizes).iter().map(|size| size - 1).collect();
    if let Err(why) = parts::same(message, &cuts, how & 1 != 0, packet, how & 2 != 0) {
        panic!("{why}");
    }
});
