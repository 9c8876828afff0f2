//! Lines of config/plugins: every plugin with any arguments is loaded, or the fault is told with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd::config::{Lines, Lookup};
use qpsmtpd::plugin::load_line;
use qpsmtpd::plugins::REGISTER;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let names = REGISTER.plugins;
    let line = match names.get(usize::from(*first)) {
        Some(plugin) => format!("{} {text}", plugin.name),
        None => text.to_owned(),
    };
    // such a line cannot come out of a file
    if line.contains(['\n', '\r', '\0']) || line.trim() != line || line.is_empty() {
        return;
    }
    let (lookup, mut faults) = (Lookup::in_memory(), Vec::new());
    let loaded = load_line(&Lines::of("plugins", [&line])[0], &lookup, &REGISTER, &mut faults);
    let errors = faults.iter().filter(|fault| fault.is_error()).count();
    assert!(loaded.is_some() || errors > 0 || !faults.is_empty(), "{line:?} vanishes");
    assert!(loaded.is_none() || errors == 0, "{line:?} is loaded with {faults:?}");
    for fault in &faults {
        assert!(fault.to_string().contains("plugins:1:"), "{fault}");
    }
});
