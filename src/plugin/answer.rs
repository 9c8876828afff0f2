//! What a plugin answers: a verdict, words, and an enhanced status code.

use std::borrow::Cow;
use std::fmt;

use super::{Handed, ScramKeys};
use crate::config::Lines;
use crate::log::Level;
use crate::mail::PathLine;
use crate::mail::Status;
use crate::session::{Session, Verdict};

/// The answer of a hook; an error is never a silent pass (see [`OnError`](super::OnError)).
pub type Answer = Result<Decision, Failure>;

/// A verdict with its words.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Words for the client, lines separated by `\n`; empty for the default words of the hook.
    pub text: Cow<'static, str>,
    /// The enhanced status code, where the plugin knows better than the table of answers (RFC 3463).
    pub status: Option<Status>,
    /// A reply code in place of the one of the table of answers; only its last two digits may differ.
    pub code: Option<u16>,
    /// What the parse hooks hand over.
    pub path: Option<PathLine>,
    /// What the hooks of AUTH hand over.
    pub login: Option<Box<Handed>>,
    /// Whether this stands for a plugin that failed, and the client shall try again. With `Declined` the next plugin
    /// may still decide (see [`unavailable`]).
    pub failed: bool,
}

impl Decision {
    /// A verdict without words.
    pub const fn bare(verdict: Verdict) -> Decision {
        Decision {
            verdict,
            text: Cow::Borrowed(""),
            status: None,
            code: None,
            path: None,
            login: None,
            failed: false,
        }
    }
}

/// Why a plugin could not decide.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure in words.
    pub fn new(why: impl Into<String>) -> Failure {
        Failure(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

/// Any verdict with words.
pub fn answer(verdict: Verdict, text: impl Into<Cow<'static, str>>) -> Answer {
    Ok(Decision {
        text: text.into(),
        ..Decision::bare(verdict)
    })
}

/// No opinion: the next plugin is asked.
pub fn declined() -> Answer {
    Ok(Decision::bare(Verdict::Declined))
}

/// Handled: no further plugin is asked.
pub fn ok() -> Answer {
    Ok(Decision::bare(Verdict::Ok))
}

/// Handled, with words.
pub fn ok_with(text: impl Into<Cow<'static, str>>) -> Answer {
    answer(Verdict::Ok, text)
}

/// The plugin has done everything, the reply included.
pub fn done() -> Answer {
    Ok(Decision::bare(Verdict::Done))
}

/// From auth_token and auth_external: let in, under this name.
pub fn ok_as(user: impl Into<String>) -> Answer {
    handing(Verdict::Ok, "", Handed::User(user.into()))
}

/// From auth_scram: the user has these keys.
pub fn ok_keys(keys: ScramKeys) -> Answer {
    handing(Verdict::Ok, "", Handed::Keys(keys))
}

/// From auth_scram: the user is not known here; so that nobody can tell, the exchange may go on with keys that look like
/// those of others ([`ScramKeys::of_nobody`]).
pub fn declined_with(keys: ScramKeys) -> Answer {
    handing(Verdict::Declined, "", Handed::Keys(keys))
}

/// From auth_token: refused, and the client is told what is wrong in the JSON of RFC 7628.
pub fn deny_token(text: impl Into<Cow<'static, str>>, json: String) -> Answer {
    handing(Verdict::Deny, text, Handed::Problem(json))
}

fn handing(verdict: Verdict, text: impl Into<Cow<'static, str>>, handed: Handed) -> Answer {
    Ok(Decision {
        text: text.into(),
        login: Some(Box::new(handed)),
        ..Decision::bare(verdict)
    })
}

/// Refused for good.
pub fn deny(text: impl Into<Cow<'static, str>>) -> Answer {
    answer(Verdict::Deny, text)
}

/// Refused for now.
pub fn deny_soft(text: impl Into<Cow<'static, str>>) -> Answer {
    answer(Verdict::DenySoft, text)
}

/// Refused for good, and the connection is closed.
pub fn deny_disconnect(text: impl Into<Cow<'static, str>>) -> Answer {
    answer(Verdict::DenyDisconnect, text)
}

/// Refused for now, and the connection is closed.
pub fn deny_soft_disconnect(text: impl Into<Cow<'static, str>>) -> Answer {
    answer(Verdict::DenySoftDisconnect, text)
}

/// From the hooks of AUTH: the one who knows the users cannot be asked, which is logged. The next provider is asked;
/// if none decides, the client is told to try again later (454). With `on_error skip` it is as if none knew the user.
pub fn unavailable(s: &Session, why: impl fmt::Display) -> Answer {
    s.log(Level::Error, format_args!("error, {why}"));
    Ok(Decision {
        failed: true,
        ..Decision::bare(Verdict::Declined)
    })
}

/// Any verdict with words and an enhanced status code.
pub fn answer_with(verdict: Verdict, status: Status, text: impl Into<Cow<'static, str>>) -> Answer {
    Ok(Decision {
        text: text.into(),
        status: Some(status),
        ..Decision::bare(verdict)
    })
}

/// The same answer with another reply code of the same class, such as 553 for 550.
///
/// # Errors
/// Those of the answer.
pub fn with_code(code: u16, answer: Answer) -> Answer {
    Ok(Decision {
        code: Some(code),
        ..answer?
    })
}

/// From mail_parse and rcpt_parse: the line has been parsed, use this.
pub fn parsed(path: PathLine) -> Answer {
    Ok(Decision {
        path: Some(path),
        ..Decision::bare(Verdict::Ok)
    })
}

/// From config and user_config hooks: the lines of the setting.
pub type Found = Option<Lines>;
