//! Lines of commands: their splitting, and the arguments of MAIL and RCPT, strict and lenient.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd::mail::params::{PathVerb, mail_line, rcpt_line, strict_line};
use qpsmtpd::smtp::command::Command;

fuzz_target!(|line: &[u8]| {
    let Ok(command) = Command::parse(line) else {
        assert!(std::str::from_utf8(line).is_err());
        return;
    };
    assert!(line.starts_with(command.word.as_bytes()));
    assert!(!command.rest.starts_with(' '));
    // the verb does not depend on the line end, nor on upper and lower case
    let text = std::str::from_utf8(line).expect("text");
    let text = text.strip_suffix("\r\n").or(text.strip_suffix('\n')).unwrap_or(text);
    let upper = format!("{}\r\n", text.to_ascii_uppercase());
    assert_eq!(Command::parse(upper.as_bytes()).map(|again| again.verb), Ok(command.verb));
    for parsed in [
        mail_line(command.rest),
        rcpt_line(command.rest),
        strict_line(PathVerb::Mail, command.rest),
        strict_line(PathVerb::Rcpt, command.rest),
    ] {
        let Ok(found) = parsed else { continue };
        // where there is none, it is the null sender, as in the original
        assert!(found.address == "<>" || command.rest.contains(&found.address));
        for (key, value) in found.params.iter() {
            assert!(!key.is_empty() && found.params.has(key), "{key} {value:?}");
        }
    }
});
