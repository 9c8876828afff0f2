//! Addresses: what is taken can be written and read again, and holds nothing that could end a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd::mail::{Address, Syntax};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let syntax = Syntax {
        underscore: first & 1 != 0,
        lenient_local: first & 2 != 0,
        utf8: first & 4 != 0,
    };
    for path in [text.to_owned(), format!("<{text}>")] {
        let address = match Address::parse(&path, syntax) {
            Ok(address) => address,
            Err(bad) => {
                assert!(bad.at <= path.len() && !bad.why.is_empty(), "{bad:?}");
                continue;
            }
        };
        let written = address.path();
        assert!(!written.contains(|c: char| c.is_control()), "{written:?}");
        let again = Address::parse(&written, syntax).unwrap_or_else(|why| panic!("{path:?} {written:?}: {why}"));
        assert_eq!(again, address, "{written:?}");
        assert_eq!(again.path(), written);
        assert_eq!(address.lower().lower(), address.lower());
        assert!(syntax.utf8 || !address.needs_utf8(), "{written:?}");
        // who takes less takes it in the same way
        let strict = Syntax { underscore: false, lenient_local: false, utf8: false };
        if let Ok(other) = Address::parse(&path, strict) {
            assert_eq!(other, address);
        }
    }
});
