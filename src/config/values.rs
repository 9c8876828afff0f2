//! From the first line of a file to a typed value; a fault and the default where the line does not fit.

use std::net::IpAddr;

use super::fault::Fault;
use super::lines::{Line, Lines};
use super::networks::Networks;
use super::table::{Kind, Setting, setting};
use crate::log::Level;

/// Reads typed values through a lookup and gathers the faults.
pub(super) struct Values<'a> {
    pub(super) source: &'a dyn Fn(&str) -> Lines,
    pub(super) faults: Vec<Fault>,
}

impl Values<'_> {
    /// The first line, if the file has one.
    pub(super) fn first(&self, name: &str) -> Option<Line> {
        (self.source)(name).first().cloned()
    }

    /// A number, a size or a time, within the bounds of the table; the table's default, or 0.
    pub(super) fn number(&mut self, name: &str) -> u64 {
        self.optional_number(name)
            .unwrap_or_else(|| default(name).parse().unwrap_or(0))
    }

    /// The same, and `None` where the file says nothing usable.
    pub(super) fn optional_number(&mut self, name: &str) -> Option<u64> {
        let line = self.first(name)?;
        let kind = setting(name)?.kind;
        let parsed = number(&line, kind);
        self.keep(&line, parsed)
    }

    /// A flag by Perl's rule: false are the empty text and `0`; `no`, `off`, `false` too, with a warning.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let Some(line) = self.first(name) else {
            return default(name) == "1";
        };
        let value = line.to_ascii_lowercase();
        match value.as_str() {
            "0" => false,
            "1" | "yes" | "on" | "true" => true,
            "no" | "off" | "false" => {
                let message = format!("'{}' is taken as 0 (the Perl original took it as 1)", &*line);
                self.faults.push(line.fault(0..line.len(), message).as_warning());
                false
            }
            _ => {
                let message = format!("'{line}' is taken as 1; write 0 or 1");
                self.faults.push(line.fault(0..line.len(), message).as_warning());
                true
            }
        }
    }

    /// A level from 0 to 7, as a number or by name.
    pub(super) fn level(&mut self, name: &str) -> Level {
        let line = self.first(name);
        let given = line.and_then(|line| self.keep(&line, line.parse()));
        given.unwrap_or_else(|| default(name).parse().unwrap_or(Level::Warn))
    }

    /// Permission bits in octal.
    pub(super) fn mode(&mut self, name: &str) -> u32 {
        let fallback = u32::from_str_radix(default(name), 8).unwrap_or(0o700);
        let Some(line) = self.first(name) else {
            return fallback;
        };
        let octal = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            digits
                .then(|| u32::from_str_radix(text, 8).ok())
                .flatten()
                .filter(|mode| *mode <= 0o7777)
        };
        let parsed = octal(&line).ok_or_else(|| format!("'{}' is no mode such as 0700", &*line));
        self.keep(&line, parsed).unwrap_or(fallback)
    }

    /// A name of a host, or a list of them: no blanks, no control characters, ASCII alone.
    pub(super) fn host(&mut self, name: &str) -> Option<String> {
        let line = self.first(name)?;
        let parsed = host(&line);
        self.keep(&line, parsed)
    }

    /// Addresses and networks; the single line `reject` says in words that there are none.
    pub(super) fn networks(&mut self, name: &str) -> Networks {
        let lines = (self.source)(name);
        if let [only] = &*lines
            && &**only == "reject"
        {
            return Networks::default();
        }
        let mut networks = Vec::new();
        for line in &lines {
            let parsed = Networks::parse(line).ok_or_else(|| format!("'{line}' is no network"));
            networks.extend(self.keep(line, parsed));
        }
        Networks::of(networks)
    }

    /// Gives the value on, or notes the fault.
    pub(super) fn keep<T>(&mut self, line: &Line, parsed: Result<T, String>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(message) => {
                self.faults.push(line.fault(0..line.len(), message));
                None
            }
        }
    }
}

/// The default of the table as text.
pub(super) fn default(name: &str) -> &'static str {
    setting(name).map_or("", |setting: &Setting| setting.default)
}

/// A whole number without sign, within the bounds of its kind.
pub(super) fn number(text: &str, kind: Kind) -> Result<u64, String> {
    let (min, max) = match kind {
        Kind::Number { min, max } | Kind::Seconds { min, max } | Kind::Bytes { min, max } => (min, max),
        _ => (0, u64::MAX),
    };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("'{text}' is no whole number"));
    }
    match text.parse() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("{text} is not between {min} and {max}")),
    }
}

/// A host name, loosely: what may stand in a reply and in a header without breaking it.
pub(super) fn host(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is no host name"))
    }
}

/// An IP address; `0` is none in particular.
pub(super) fn address(text: &str) -> Result<Option<IpAddr>, String> {
    if text == "0" {
        return Ok(None);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map(Some)
        .map_err(|_| format!("'{text}' is no IP address (0 means all)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one value of a file with this line, and the headlines of the faults.
    fn with<T>(name: &str, text: &str, read: impl FnOnce(&mut Values) -> T) -> (T, Vec<String>) {
        let source = |asked: &str| {
            if asked == name {
                Lines::of(name, [text])
            } else {
                Lines::empty()
            }
        };
        let mut values = Values {
            source: &source,
            faults: Vec::new(),
        };
        let value = read(&mut values);
        (value, values.faults.iter().map(Fault::headline).collect())
    }

    #[test]
    fn numbers_are_digits_within_bounds() {
        let databytes = |text: &str| with("databytes", text, |values| values.number("databytes"));
        assert_eq!(databytes("10485760"), (10_485_760, vec![]));
        for bad in ["10M", "-1", "+1", "1 000", "0x10", "1.5", "12abc", "\u{661}"] {
            assert_eq!(
                databytes(bad),
                (0, vec![format!("config/databytes:1:1: '{bad}' is no whole number")])
            );
        }
        let (value, faults) = databytes("99999999999999999999999");
        assert_eq!((value, faults.len()), (0, 1));
        let timeout = with("timeout", "0", |values| values.number("timeout"));
        assert_eq!(
            timeout,
            (
                1200,
                vec!["config/timeout:1:1: 0 is not between 1 and 86400".to_owned()]
            )
        );
    }

    #[test]
    fn flags_follow_perl_but_for_words_that_say_no() {
        let flag = |text: &str| {
            let (value, faults) = with("strict_hello", text, |values| values.flag("strict_hello"));
            assert!(
                faults
                    .iter()
                    .all(|fault| fault.starts_with("config/strict_hello:1:1: warning: "))
            );
            (value, faults.len())
        };
        assert_eq!(flag("0"), (false, 0));
        for word in ["1", "yes", "On", "TRUE"] {
            assert_eq!(flag(word), (true, 0), "{word}");
        }
        for word in ["no", "Off", "false"] {
            assert_eq!(flag(word), (false, 1), "{word}");
        }
        for word in ["2", "0.0", "maybe"] {
            assert_eq!(flag(word), (true, 1), "{word}");
        }
        assert!(with("x", "", |values| values.flag("received_version")).0, "its default");
    }

    #[test]
    fn levels_are_those_of_the_log() {
        let level = |text: &str| with("loglevel", text, |values| values.level("loglevel"));
        assert_eq!(level("6"), (Level::Info, vec![]));
        assert_eq!(level("LogDebug"), (Level::Debug, vec![]));
        let fault = "config/loglevel:1:1: '9' is no log level (0 to 7, or LOGEMERG to LOGDEBUG)".to_owned();
        assert_eq!(level("9"), (Level::Warn, vec![fault]));
    }

    #[test]
    fn modes_are_octal() {
        let mode = |text: &str| with("spool_perms", text, |values| values.mode("spool_perms"));
        assert_eq!(mode("0750"), (0o750, vec![]));
        for bad in ["0o750", "789", "+700", "100000"] {
            assert_eq!((mode(bad).0, mode(bad).1.len()), (0o700, 1), "{bad}");
        }
    }

    #[test]
    fn networks_may_be_denied_in_words() {
        let networks = |text: &str| with("bare_newlines", text, |values| values.networks("bare_newlines"));
        assert_eq!(networks("reject"), (Networks::default(), vec![]));
        assert_eq!(
            networks("192.0.2.1"),
            (Networks::of(Networks::parse("192.0.2.1")), vec![])
        );
        let fault = "config/bare_newlines:1:1: 'all' is no network".to_owned();
        assert_eq!(networks("all"), (Networks::default(), vec![fault]));
    }

    #[test]
    fn hosts_fit_into_replies() {
        assert_eq!(host("mail.example.com"), Ok("mail.example.com".to_owned()));
        for bad in ["", "two words", "b\u{fc}cher.example", "a\u{7f}", &"x".repeat(256)] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_may_stand_in_brackets() {
        assert_eq!(address("0"), Ok(None));
        assert_eq!(address("[::1]"), Ok("::1".parse().ok()));
        assert!(address("localhost").is_err());
        assert!(address("127.0.0.1:25").is_err());
    }
}
