//! Lines of commands: their splitting, and the arguments of MAIL and RCPT, strict and lenient, with their options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd::mail::options::{Extensions, MailOptions, RcptOptions};
use qpsmtpd::mail::params::{PathVerb, mail_line, rcpt_line, strict_line};
use qpsmtpd::mail::{Params, xtext};
use qpsmtpd::smtp::command::Command;

/// Options that are passed on are read again as the same.
fn options_are_kept(params: &Params) {
    for utf8 in [false, true] {
        let Ok(options) = RcptOptions::read(params, Extensions::ALL, utf8) else {
            continue;
        };
        let mut again = Params::new();
        if let Some(notify) = options.notify {
            again.push(&format!("NOTIFY={notify}"));
        }
        if let Some(orcpt) = &options.orcpt {
            let encoded = orcpt.encoded(utf8);
            assert!(encoded.bytes().all(|byte| byte > b' ' && byte != 127), "{encoded:?}");
            again.push(&format!("ORCPT={encoded}"));
        }
        assert_eq!(RcptOptions::read(&again, Extensions::ALL, utf8), Ok(options));
    }
    let Ok(options) = MailOptions::read(params, Extensions::ALL) else {
        return;
    };
    let mut again = Params::new();
    if let Some(ret) = options.ret {
        again.push(&format!("RET={ret}"));
    }
    if let Some(envid) = &options.envid {
        again.push(&format!("ENVID={}", xtext(envid)));
    }
    let read = MailOptions::read(&again, Extensions::ALL).expect("options");
    assert_eq!((read.ret, read.envid), (options.ret, options.envid));
}

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
    assert_eq!(
        Command::parse(upper.as_bytes()).map(|again| again.verb),
        Ok(command.verb)
    );
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
        options_are_kept(&found.params);
    }
});
