//! Things that plugins keep between sessions: compiled patterns, and rules that follow their configuration file.

use std::sync::{Arc, Mutex, PoisonError};

use super::Loading;
use crate::config::{Fault, Line, Lines};
use crate::session::Session;
use crate::warning;

/// A pattern from a configuration file, in Perl's syntax.
///
/// The fast engine is tried first; look-around and back-references need the other one, whose backtracking is bounded.
#[derive(Debug)]
pub enum Pattern {
    /// Linear time.
    Plain(regex::Regex),
    /// With look-around or back-references.
    Fancy(fancy_regex::Regex),
}

impl Pattern {
    /// Compiles a pattern, with or without regard to case.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str, ignore_case: bool) -> Result<Pattern, String> {
        match regex::RegexBuilder::new(text)
            .case_insensitive(ignore_case)
            .size_limit(1 << 20)
            .build()
        {
            Ok(plain) => Ok(Pattern::Plain(plain)),
            Err(why) => fancy_regex::RegexBuilder::new(text)
                .case_insensitive(ignore_case)
                .backtrack_limit(100_000)
                .build()
                .map(Pattern::Fancy)
                .map_err(|_| reason(&why.to_string())),
        }
    }

    /// Whether it matches anywhere in `text`.
    ///
    /// # Errors
    /// When the bound of the backtracking was reached.
    pub fn matches(&self, text: &str) -> Result<bool, String> {
        match self {
            Pattern::Plain(plain) => Ok(plain.is_match(text)),
            Pattern::Fancy(fancy) => fancy.is_match(text).map_err(|why| why.to_string()),
        }
    }
}

/// The last line of what the engine says, which tells the reason; those before it show the pattern.
fn reason(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// Makes something of lines; what is wrong with one of them goes to the second argument.
pub type MakeOf<T> = fn(&Lines, &mut dyn FnMut(&Line, String)) -> T;

/// Something made of the lines of a setting, made again only when they have changed.
#[derive(Debug)]
pub struct Cached<T>(Mutex<Option<(Lines, Arc<T>)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Cached(Mutex::new(None))
    }
}

impl<T> Cached<T> {
    /// What `make` makes of `lines`; kept while the same lines are handed in.
    pub fn get(&self, lines: Lines, make: impl FnOnce(&Lines) -> T) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((from, made)) if from.same(&lines) => made.clone(),
            _ => {
                let made = Arc::new(make(&lines));
                *kept = Some((lines, made.clone()));
                made
            }
        }
    }

    /// What was made last.
    pub fn last(&self) -> Option<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|(_, made)| made.clone())
    }

    /// Makes it while the plugin is being loaded, so that every worker has it from birth and what is wrong with the
    /// lines is seen by `qpsmtpctl check`; a bad line is no reason not to start.
    pub fn load(&self, at: &mut Loading<'_>, setting: &str, make: MakeOf<T>) {
        self.get(at.config(setting), |lines| {
            make(lines, &mut |line, why| at.warn_in(line, why))
        });
    }

    /// What is made of a setting as it is now; what is wrong with new lines is logged once.
    ///
    /// # Errors
    /// What the setting says is not known.
    pub fn of(&self, s: &Session, setting: &str, make: MakeOf<T>) -> Result<Arc<T>, Fault> {
        Ok(self.get(s.config(setting)?, |lines| {
            make(lines, &mut |line, why| warning!(s, "{}: {why}", line.place))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_perl_are_understood() {
        let matches = |pattern, text| Pattern::new(pattern, false).and_then(|pattern| pattern.matches(text));
        assert_eq!(matches("^a.*z$", "abcz"), Ok(true));
        assert_eq!(matches("(?!.*@example)", "x@example.com"), Ok(true));
        assert_eq!(matches(r"(.)\1", "abba"), Ok(true));
        assert!(matches("(", "x").is_err());
        assert!(Pattern::new("ABC", true).is_ok_and(|pattern| pattern.matches("xabcx") == Ok(true)));
    }

    #[test]
    fn rules_are_made_once_per_change() {
        let cached = Cached::default();
        let lines = Lines::of("x", ["a"]);
        let first = cached.get(lines.clone(), |lines| lines.len());
        assert!(Arc::ptr_eq(&first, &cached.get(lines, |_| 9)));
        assert_eq!(*cached.get(Lines::of("x", ["a", "b"]), |lines| lines.len()), 2);
    }
}
