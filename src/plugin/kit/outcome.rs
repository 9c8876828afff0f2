//! What a plugin answered, with checks that tests read like sentences.

use super::super::{Handed, Hook};
use crate::mail::{PathLine, Status};
use crate::session::Verdict;

/// What a plugin answered; the methods check it.
#[derive(Debug)]
pub struct Outcome {
    /// The hook that was asked.
    pub hook: Hook,
    /// The verdict.
    pub verdict: Verdict,
    /// The words.
    pub text: String,
    /// The enhanced status code, if the plugin gave one.
    pub status: Option<Status>,
    /// The reply code, if the plugin gave one.
    pub code: Option<u16>,
    /// What a parse hook gave.
    pub path: Option<PathLine>,
    /// Whether the plugin could not decide.
    pub failed: bool,
    /// What a hook of AUTH gave.
    pub login: Option<Box<Handed>>,
}

impl Outcome {
    /// Checks the verdict.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn is(self, verdict: Verdict) -> Outcome {
        assert_eq!(self.verdict, verdict, "{}: '{}'", self.hook.name(), self.text);
        self
    }

    /// Checks that the plugin had no opinion.
    ///
    /// # Panics
    /// If it had.
    #[track_caller]
    pub fn declined(self) -> Outcome {
        self.is(Verdict::Declined)
    }

    /// Checks that the plugin said OK.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.is(Verdict::Ok)
    }

    /// Checks a refusal for good whose words contain `part`.
    ///
    /// # Panics
    /// If it is another answer.
    #[track_caller]
    pub fn denied(self, part: &str) -> Outcome {
        self.is(Verdict::Deny).says(part)
    }

    /// Checks a refusal for now whose words contain `part`.
    ///
    /// # Panics
    /// If it is another answer.
    #[track_caller]
    pub fn deferred(self, part: &str) -> Outcome {
        self.is(Verdict::DenySoft).says(part)
    }

    /// Checks that the words contain `part`.
    ///
    /// # Panics
    /// If they do not.
    #[track_caller]
    pub fn says(self, part: &str) -> Outcome {
        assert!(self.text.contains(part), "'{}' does not contain '{part}'", self.text);
        self
    }

    /// Checks the enhanced status code.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn status(self, status: &str) -> Outcome {
        let given = self.status.as_ref().map(Status::to_string);
        assert_eq!(given.as_deref(), Some(status));
        self
    }
}
