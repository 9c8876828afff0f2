//! Manners that plugins share: how to refuse, how loudly to log, what to do on a failure (catalogue 6).

use std::borrow::Cow;

use super::{Answer, Arg, Set, answer, declined};
use crate::log::Level;
use crate::session::client::Loglevel;
use crate::session::{Session, Verdict};

/// What `reject` says about a test that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `0`: test, log, and let pass.
    Tolerate,
    /// `naughty`: note it down, plugin naughty will act.
    Naughty,
    /// Anything else: refuse.
    Refuse,
}

/// The common arguments `reject` and `reject_type`.
#[derive(Clone, Debug, Default)]
pub struct Reject {
    mode: Option<Mode>,
    kind: Option<Verdict>,
    /// The kind that the plugin's line gives, rather than the plugin itself.
    said: Option<Verdict>,
    /// The word given for `reject`, for plugins to which it means more.
    word: Option<String>,
}

impl Reject {
    /// Refuses for good unless told otherwise.
    pub const fn on() -> Reject {
        Reject::with(Mode::Refuse, Verdict::Deny)
    }

    /// Tolerates unless told otherwise.
    pub const fn off() -> Reject {
        Reject::with(Mode::Tolerate, Verdict::Deny)
    }

    /// Any other default.
    pub const fn with(mode: Mode, kind: Verdict) -> Reject {
        Reject {
            mode: Some(mode),
            kind: Some(kind),
            said: None,
            word: None,
        }
    }

    /// What to do about a test that fails.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Refuse)
    }

    /// How it refuses.
    pub fn kind(&self) -> Verdict {
        self.kind.unwrap_or(Verdict::Deny)
    }

    /// The word given for `reject`, if any.
    pub fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }

    /// get_reject: logs the failed test with its `detail` and answers as the arguments say.
    pub fn refuse(&self, s: &mut Session, text: impl Into<Cow<'static, str>>, detail: &str) -> Answer {
        let detail = match detail {
            "" => String::new(),
            detail => format!(", {detail}"),
        };
        match self.mode() {
            Mode::Tolerate => {
                s.log(Level::Info, format_args!("fail, tolerated{detail}"));
                declined()
            }
            Mode::Naughty => {
                s.log(Level::Info, format_args!("fail, NAUGHTY{detail}"));
                let who = s.context.plugin.clone().unwrap_or_else(|| "".into());
                s.naughty.add(format!("({who}) {}", text.into()), self.said);
                declined()
            }
            Mode::Refuse => {
                s.log(Level::Info, format_args!("fail{detail}"));
                answer(self.kind(), text)
            }
        }
    }
}

/// The `reject_type` of a verdict.
fn type_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::DenySoft => "temp",
        Verdict::Deny => "perm",
        Verdict::DenyDisconnect => "disconnect",
        Verdict::DenySoftDisconnect => "temp_disconnect",
        _ => "",
    }
}

/// What is said of a `reject_type` that is none; the original took it for the default, too.
fn no_type(word: &str) -> String {
    format!(
        "'{word}' is no reject_type (temp, soft, perm, hard, disconnect, temp_disconnect); the plugin's own is used"
    )
}

/// The verdict of a `reject_type`; none for a word that is none.
pub fn reject_type(word: &str) -> Option<Verdict> {
    match word.to_ascii_lowercase().as_str() {
        "temp" | "soft" => Some(Verdict::DenySoft),
        "perm" | "hard" => Some(Verdict::Deny),
        "disconnect" => Some(Verdict::DenyDisconnect),
        "temp_disconnect" => Some(Verdict::DenySoftDisconnect),
        _ => None,
    }
}

impl Arg for Reject {
    const WANTS: &'static str = "0, 1 or naughty";
    const ALSO: &'static [&'static str] = &["reject_type"];

    fn set(slot: &mut Option<Self>, name: &str, word: &str) -> Set {
        let reject = slot.get_or_insert_default();
        if name.ends_with("type") {
            reject.kind = reject_type(word);
            reject.said = reject.kind;
            return Ok(reject.kind.is_none().then(|| no_type(word)));
        }
        let mut on = None;
        let warning = bool::set(&mut on, name, word)?;
        reject.mode = Some(match word {
            "naughty" => Mode::Naughty,
            _ if on == Some(false) => Mode::Tolerate,
            _ => Mode::Refuse,
        });
        reject.word = Some(word.to_owned());
        Ok(warning)
    }

    fn absent() -> Option<Self> {
        Some(Reject::on())
    }

    fn complete(self, default: Self) -> Self {
        Reject {
            mode: self.mode.or(default.mode),
            kind: self.kind.or(default.kind),
            said: self.said,
            word: self.word.or(default.word),
        }
    }

    fn show(&self) -> String {
        let mode = match self.mode() {
            Mode::Tolerate => "0",
            Mode::Naughty => "naughty",
            Mode::Refuse => "1",
        };
        format!("{mode}, {}", type_word(self.kind()))
    }
}

/// The common argument `reject_type` of plugins that have no `reject`.
impl Arg for Verdict {
    const WANTS: &'static str = "temp, perm, disconnect or temp_disconnect";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = reject_type(word).or_else(|| word.parse().ok());
        Ok(slot.is_none().then(|| no_type(word)))
    }
    fn show(&self) -> String {
        type_word(*self).to_owned()
    }
}

/// The common argument `on_error`: what becomes of a plugin's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The client is asked to try again (4xx); the default at hooks that can refuse.
    #[default]
    Defer,
    /// The failure is logged and the next plugin is asked.
    Skip,
}

impl Arg for OnError {
    const WANTS: &'static str = "defer or skip";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(match word {
            "defer" => OnError::Defer,
            "skip" => OnError::Skip,
            _ => return Err(format!("'{word}' is neither defer nor skip")),
        });
        Ok(None)
    }
    fn show(&self) -> String {
        match self {
            OnError::Defer => "defer",
            OnError::Skip => "skip",
        }
        .to_owned()
    }
}

impl Arg for Loglevel {
    const WANTS: &'static str = "0 to 7, +N or -N";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let shift = || {
            word.starts_with(['+', '-'])
                .then(|| word.parse().ok())
                .flatten()
                .map(Loglevel::Shift)
        };
        let fixed = || word.parse().ok().map(Loglevel::Fixed);
        let level = shift().or_else(fixed);
        *slot = Some(level.ok_or_else(|| format!("'{word}' is not {}", Self::WANTS))?);
        Ok(None)
    }

    fn show(&self) -> String {
        match self {
            Loglevel::Fixed(level) => level.name().to_owned(),
            Loglevel::Shift(by) => format!("{by:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(words: &[(&str, &str)], default: Reject) -> Reject {
        let mut slot = None;
        for (name, word) in words {
            assert!(Reject::set(&mut slot, name, word).is_ok());
        }
        slot.map_or(default.clone(), |given| given.complete(default))
    }

    #[test]
    fn what_is_not_said_comes_from_the_plugin() {
        let soft = Reject::with(Mode::Tolerate, Verdict::DenySoft);
        let given = reject(&[("reject", "naughty")], soft.clone());
        assert_eq!((given.mode(), given.kind()), (Mode::Naughty, Verdict::DenySoft));
        let given = reject(&[("reject_type", "Disconnect")], soft.clone());
        assert_eq!((given.mode(), given.kind()), (Mode::Tolerate, Verdict::DenyDisconnect));
        let given = reject(&[("reject", "12"), ("reject_type", "bogus")], soft);
        assert_eq!(
            (given.mode(), given.kind(), given.word()),
            (Mode::Refuse, Verdict::DenySoft, Some("12"))
        );
        assert_eq!(reject(&[("reject", "0")], Reject::on()).mode(), Mode::Tolerate);
    }

    #[test]
    fn loglevels_are_fixed_or_shifted() {
        let mut level = None;
        assert!(Loglevel::set(&mut level, "loglevel", "+2").is_ok());
        assert_eq!(level.map(|l| l.apply(Level::Info)), Some(Level::Debug));
        assert!(Loglevel::set(&mut level, "loglevel", "-9").is_ok());
        assert_eq!(level.map(|l| l.apply(Level::Info)), Some(Level::Emerg));
        assert!(Loglevel::set(&mut level, "loglevel", "3").is_ok());
        assert_eq!(level.map(|l| l.apply(Level::Info)), Some(Level::Error));
        assert!(Loglevel::set(&mut level, "loglevel", "x").is_err());
    }
}
