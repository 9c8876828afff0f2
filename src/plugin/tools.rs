//! Small tools for plugins that the standard library lacks.

use std::fmt::Write;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local};

/// A random number from 0 to 1 (exclusive). Good for chances, not for secrets.
pub fn random() -> f64 {
    fastrand::f64()
}

/// Random bytes of the system's, for what nobody may guess.
///
/// # Panics
/// If the system has none, as it would wherever else something secret is made.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes,
        Err(why) => panic!("no random bytes: {why}"),
    }
}

/// A random number that is not repeated: for challenges, not for keys.
pub fn random_number() -> u64 {
    fastrand::u64(..)
}

/// Bytes in base64 (RFC 4648), on one line.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes that base64 stands for; none if it is none.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A form of a time by the specifiers of strftime, read once; times are shown in the local zone.
#[derive(Clone, Debug)]
pub struct TimeFormat {
    format: String,
    items: Vec<Item<'static>>,
}

impl TimeFormat {
    /// Reads a form such as `%Y-%m-%d`.
    ///
    /// # Errors
    /// When a specifier is not known.
    pub fn new(format: &str) -> Result<TimeFormat, String> {
        let items = StrftimeItems::new(format).parse_to_owned();
        Ok(TimeFormat {
            format: format.to_owned(),
            items: items.map_err(|_| format!("'{format}' is no form of a time"))?,
        })
    }

    /// The form as it was given.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// Whether it may show less than a second; else what it shows holds for a second.
    pub fn is_fine(&self) -> bool {
        self.format.contains(['f', '+'])
    }

    /// A time in this form.
    pub fn show(&self, time: SystemTime) -> String {
        let mut text = String::new();
        let shown = DateTime::<Local>::from(time).format_with_items(self.items.iter());
        // it only fails for forms that were refused when they were read
        let _ = write!(text, "{shown}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_times_are_checked_when_read() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_000_000_500);
        let show = |format| TimeFormat::new(format).map(|format| (format.show(time), format.is_fine()));
        assert_eq!(show("at %s%%"), Ok(("at 1000000%".to_owned(), false)));
        assert_eq!(show("%s%.3f"), Ok(("1000000.500".to_owned(), true)));
        assert_eq!(show("%a %b %d %T %Y").map(|(text, _)| text.len()), Ok(24));
        for bad in ["%", "%i", "%!"] {
            assert!(show(bad).is_err(), "{bad}");
        }
    }
}
