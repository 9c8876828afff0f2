//! Log records: levels, the line format that the log tools parse, and the built-in writer on stderr.
//!
//! A record is one line and one write, so that the lines of many workers never mix in a pipe (catalogue 5).
//! This is the only door to slog and slog-term.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much a record matters; a smaller number matters more (catalogue 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the names say it all: they are syslog's
pub enum Level {
    Emerg = 0,
    Alert = 1,
    Crit = 2,
    Error = 3,
    Warn = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl Level {
    /// All levels, by number.
    pub const ALL: [Level; 8] = [
        Level::Emerg,
        Level::Alert,
        Level::Crit,
        Level::Error,
        Level::Warn,
        Level::Notice,
        Level::Info,
        Level::Debug,
    ];

    /// The level of a number; numbers outside 0..=7 are clamped.
    pub fn from_number(number: i64) -> Level {
        Level::ALL[number.clamp(0, 7) as usize]
    }

    /// The original's name, `LOGWARN` and so on.
    pub fn name(self) -> &'static str {
        [
            "LOGEMERG",
            "LOGALERT",
            "LOGCRIT",
            "LOGERROR",
            "LOGWARN",
            "LOGNOTICE",
            "LOGINFO",
            "LOGDEBUG",
        ][self as usize]
    }
}

impl FromStr for Level {
    type Err = String;

    /// Accepts `0`..`7`, `LOGWARN`, `warn`, and the old `LOGRADAR` for the top.
    fn from_str(text: &str) -> Result<Level, String> {
        if let [digit @ b'0'..=b'7'] = text.as_bytes() {
            return Ok(Level::from_number(i64::from(digit - b'0')));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("LOG").unwrap_or(&upper);
        if name == "RADAR" {
            return Ok(Level::Emerg);
        }
        Level::ALL
            .into_iter()
            .find(|level| level.name()[3..] == *name)
            .ok_or_else(|| format!("'{text}' is no log level (0 to 7, or LOGEMERG to LOGDEBUG)"))
    }
}

/// One line for the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// The number in the pid column: the process, or the session where a process has several.
    pub number: u64,
    /// The hook that was running, if any.
    pub hook: Option<&'a str>,
    /// The plugin that speaks, in the form the log tools know, if any.
    pub plugin: Option<&'a str>,
    /// Whether an operator has asked for it; then the levels that are configured do not hold.
    pub ordered: bool,
    /// The words.
    pub text: fmt::Arguments<'a>,
}

/// Who speaks in a record: ` (<hook>) <plugin>:`, or less if less is known; it begins with a blank.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a>(Option<&'a str>, Option<&'a str>);

impl<'a> Record<'a> {
    /// Whether it is to be written where what matters less than `most` is not.
    pub fn matters(&self, most: Level) -> bool {
        self.ordered || self.level <= most
    }

    /// Who speaks.
    pub fn origin(&self) -> Origin<'a> {
        Origin(self.hook, self.plugin)
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(hook), Some(plugin)) => write!(f, " ({hook}) {plugin}:"),
            (None, Some(plugin)) => write!(f, " {plugin}:"),
            (Some(hook), None) => write!(f, " ({hook}) running plugin:"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Record<'_> {
    /// `<pid> (<hook>) <plugin>: <words>`, as log/summarize and its kin parse it (catalogue 5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} {}", self.number, self.origin(), self.text)
    }
}

/// A place that takes records.
pub trait Sink: Send + Sync {
    /// Takes one record.
    fn take(&self, record: &Record<'_>);
}

/// The built-in log: what matters enough goes to stderr.
pub struct Builtin {
    threshold: AtomicU8,
    sink: Box<dyn Sink>,
}

impl Builtin {
    /// A log that writes records up to `threshold` into `sink`.
    pub fn new(threshold: Level, sink: Box<dyn Sink>) -> Builtin {
        Builtin {
            threshold: AtomicU8::new(threshold as u8),
            sink,
        }
    }

    /// The log of the daemon: stderr.
    pub fn stderr(threshold: Level) -> Builtin {
        Builtin::new(threshold, Box::new(Stderr::new()))
    }

    /// Changes what is written from now on.
    pub fn set_threshold(&self, level: Level) {
        self.threshold.store(level as u8, Ordering::Relaxed);
    }

    /// Whether a record of this level would be written; asked before the words are made.
    pub fn wants(&self, level: Level) -> bool {
        level as u8 <= self.threshold.load(Ordering::Relaxed)
    }

    /// Writes the record if it matters enough.
    pub fn take(&self, record: &Record<'_>) {
        if record.ordered || self.wants(record.level) {
            self.sink.take(record);
        }
    }
}

/// What stands before a line on stderr: how much it matters, as sd-daemon(3) has it, where journald reads it; else
/// nothing.
#[derive(Clone, Copy, Debug)]
pub struct Mark(Option<Level>);

impl Mark {
    /// That of a line of this level.
    pub fn of(level: Level) -> Mark {
        Mark(Some(level).filter(|_| journal_reads()))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |level| write!(f, "<{}>", level as u8))
    }
}

/// Whether stderr is the stream that `JOURNAL_STREAM` names (systemd.exec(5)).
fn journal_reads() -> bool {
    let Ok(told) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let copy = io::stderr().as_fd().try_clone_to_owned();
    let found = copy.and_then(|copy| File::from(copy).metadata());
    found.is_ok_and(|found| told == format!("{}:{}", found.dev(), found.ino()))
}

/// stderr through slog, in the format the log tools know.
pub struct Stderr {
    logger: slog::Logger,
    journal: bool,
}

impl Stderr {
    /// Opens it; no thread is started, so it may be made before a fork.
    pub fn new() -> Stderr {
        use slog::Drain;
        let decorator = slog_term::PlainSyncDecorator::new(OneWrite(Vec::new()));
        // the line is complete in the message: no time (multilog adds it), no level, no keys
        let format = slog_term::FullFormat::new(decorator)
            .use_custom_header_print(|_, out, record, _| {
                write!(out, "{}", record.msg())?;
                Ok(false)
            })
            .build()
            // a full disk or a reader that has died costs the line, and not the mail
            .ignore_res();
        Stderr {
            logger: slog::Logger::root(format, slog::o!()),
            journal: journal_reads(),
        }
    }
}

impl Default for Stderr {
    fn default() -> Self {
        Stderr::new()
    }
}

impl Sink for Stderr {
    fn take(&self, record: &Record<'_>) {
        let mark = Mark(Some(record.level).filter(|_| self.journal));
        slog::info!(self.logger, "{mark}{}", Harmless(record));
    }
}

/// Words that may come from the network, with control characters escaped: they must not start a line of their own.
pub struct Harmless<T>(pub T);

impl<T: fmt::Display> fmt::Display for Harmless<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                let mut rest = text;
                while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
                    self.0.write_str(&rest[..at])?;
                    let bad = rest[at..].chars().next().unwrap_or(' ');
                    write!(self.0, "{}", bad.escape_default())?;
                    rest = &rest[at + bad.len_utf8()..];
                }
                self.0.write_str(rest)
            }
        }
        fmt::Write::write_fmt(&mut Escape(f), format_args!("{}", self.0))
    }
}

/// Gathers what slog-term writes in pieces and gives stderr whole lines.
struct OneWrite(Vec<u8>);

impl Write for OneWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = io::stderr().write_all(&self.0);
        self.0.clear();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_numbers_and_names() {
        assert_eq!("LOGWARN".parse(), Ok(Level::Warn));
        assert_eq!("warn".parse(), Ok(Level::Warn));
        assert_eq!("7".parse(), Ok(Level::Debug));
        assert_eq!("LOGRADAR".parse(), Ok(Level::Emerg));
        for bad in ["8", "07", "+7", "", "LOG"] {
            assert!(bad.parse::<Level>().is_err(), "{bad}");
        }
        assert!("loud".parse::<Level>().is_err());
    }

    #[test]
    fn lines_have_the_form_that_the_tools_parse() {
        let record = |hook, plugin| {
            let text = format_args!("pass").to_string();
            Record {
                level: Level::Info,
                number: 42,
                hook,
                plugin,
                ordered: false,
                text: format_args!("{text}"),
            }
            .to_string()
        };
        assert_eq!(record(Some("rcpt"), Some("rcpt_ok")), "42 (rcpt) rcpt_ok: pass");
        assert_eq!(record(None, Some("rcpt_ok")), "42 rcpt_ok: pass");
        assert_eq!(record(Some("rcpt"), None), "42 (rcpt) running plugin: pass");
        assert_eq!(record(None, None), "42 pass");
    }

    #[test]
    fn lines_are_marked_for_journald_alone() {
        assert_eq!(Mark(None).to_string(), "");
        assert_eq!(Mark(Some(Level::Warn)).to_string(), "<4>");
    }

    #[test]
    fn no_word_can_start_a_line() {
        let text = "dispatching\r\n666 forged";
        let record = Record {
            level: Level::Info,
            number: 1,
            hook: None,
            plugin: None,
            ordered: false,
            text: format_args!("{text}"),
        };
        assert_eq!(Harmless(&record).to_string(), "1 dispatching\\r\\n666 forged");
    }
}
