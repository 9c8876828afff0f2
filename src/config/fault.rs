//! A fault in the configuration: what is wrong, where, and the line with a caret under the words meant.
//!
//! Faults are collected, never thrown: all of them are shown before the daemon gives up, and a fault in
//! one file leaves the others in force.

use std::fmt::{self, Display, Formatter};

use super::lines::Place;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The daemon works, but perhaps not as was meant.
    Warning,
    /// The daemon must not start with this.
    Error,
}

/// One fault. `Display` prints the place, the message, the line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Error or warning.
    pub severity: Severity,
    /// File and line, if the fault belongs to a line.
    pub place: Option<Place>,
    /// First column meant, counted in characters from 1; 0 means the whole line.
    pub column: u32,
    /// How many characters are meant.
    pub width: u32,
    /// One sentence without a full stop.
    pub message: String,
    /// The line as it stands in the file, to print with the caret.
    pub source_line: Option<String>,
}

/// Longest piece of a line that is shown.
const SHOWN: usize = 160;

impl Fault {
    /// An error that belongs to no line.
    pub fn error(message: impl Into<String>) -> Fault {
        Fault::new(Severity::Error, message.into())
    }

    /// A warning that belongs to no line.
    pub fn warning(message: impl Into<String>) -> Fault {
        Fault::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Fault {
        Fault {
            severity,
            place: None,
            column: 0,
            width: 0,
            message,
            source_line: None,
        }
    }

    /// The same fault, told to be at `place` (for a fault of a file as a whole).
    pub fn at(mut self, place: Place) -> Fault {
        self.place = Some(place);
        self
    }

    /// The same fault as a warning.
    pub fn as_warning(mut self) -> Fault {
        self.severity = Severity::Warning;
        self
    }

    /// The same fault without the line, so that it prints as one line.
    pub(super) fn without_line(mut self) -> Fault {
        self.source_line = None;
        self
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The first line of the report alone, for logs that want one line: place and message.
    pub fn headline(&self) -> String {
        let mut text = String::new();
        if let Some(place) = &self.place {
            text.push_str(&place.to_string());
            if self.column > 0 {
                text.push_str(&format!(":{}", self.column));
            }
            text.push_str(": ");
        }
        if self.severity == Severity::Warning {
            text.push_str("warning: ");
        }
        text.push_str(&plain(&self.message));
        text
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        let Some(source) = &self.source_line else {
            return Ok(());
        };
        let start = (self.column as usize).saturating_sub(1);
        // A very long line is shown from a little before the words meant.
        let skip = if start + 1 > SHOWN / 2 { start - SHOWN / 4 } else { 0 };
        let shown: String = source.chars().skip(skip).take(SHOWN).collect();
        write!(f, "\n    {}", plain(shown.trim_end()))?;
        if self.column == 0 {
            return Ok(());
        }
        // Tabs before the caret stay tabs, so that it stands under its word.
        let before: String = shown
            .chars()
            .take(start - skip)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = SHOWN.saturating_sub(start - skip).max(1);
        let tail = (self.width.max(1) as usize).min(room) - 1;
        write!(f, "\n    {before}^{}", "~".repeat(tail))
    }
}

impl std::error::Error for Fault {}

/// The text without control characters other than tabs: a fault goes to terminals and logs.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::*;

    #[test]
    fn shows_place_line_and_caret() {
        let lines = Lines::of("plugins", ["relay", "count_unrecognized_commands 4 extra"]);
        let fault = lines[1].fault(30..35, "unknown argument 'extra'");
        assert_eq!(
            fault.to_string(),
            "config/plugins:2:31: unknown argument 'extra'\n\
             \x20   count_unrecognized_commands 4 extra\n\
             \x20                                 ^~~~~"
        );
    }

    #[test]
    fn a_fault_without_a_place_is_its_message() {
        assert_eq!(
            Fault::error("no plugin queues mail").to_string(),
            "no plugin queues mail"
        );
        assert_eq!(Fault::warning("odd").to_string(), "warning: odd");
    }

    #[test]
    fn the_caret_stands_under_words_after_tabs_and_far_to_the_right() {
        let lines = Lines::of("x", ["a\tb"]);
        assert!(lines[0].fault(2..3, "m").to_string().ends_with("\n    a\tb\n     \t^"));
        let long = format!("{}bad", "x ".repeat(300));
        let lines = Lines::of("x", [long.as_str()]);
        let text = lines[0].fault(600..603, "m").to_string();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "config/x:1:601: m");
        let at = rows[2].find('^').expect("a caret");
        assert_eq!(&rows[1][at..], "bad");
        assert_eq!(&rows[2][at..], "^~~");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let lines = Lines::of("x", ["a\u{1b}[31mb"]);
        assert!(!lines[0].fault(0..1, "m\u{7}").to_string().contains(['\u{1b}', '\u{7}']));
    }
}
