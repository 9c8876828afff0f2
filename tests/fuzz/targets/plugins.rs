//! Lines of config/plugins: every plugin with any arguments is loaded, or the fault is told with its place.
//!
//! The first byte chooses the plugin, or says that the line names one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::settings;

fuzz_target!(|bytes: &[u8]| {
    if let Some((first, text)) = bytes.split_first()
        && let Ok(text) = std::str::from_utf8(text)
    {
        settings::load(*first, text);
    }
});
