//! Files of the configuration: any bytes under any name give settings and faults, never a panic.
//!
//! The first byte chooses the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::settings;

fuzz_target!(|bytes: &[u8]| {
    if let Some((first, text)) = bytes.split_first() {
        settings::read(*first, text);
    }
});
