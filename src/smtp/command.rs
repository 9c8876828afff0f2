//! A command line of the client: verb and rest (RFC 5321, 4.1; catalogue 1.4).

use std::fmt;

pub use crate::mail::params::{PathVerb, mail_line, rcpt_line, strict_line};
pub use crate::mail::{Params, PathLine};

/// The longest verb that is looked at, in characters.
const MAX_VERB: usize = 12;

macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $word:literal,)*) => {
        /// The commands that have a name here; which of them are served is the dialogue's business.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb {
            $($(#[$doc])* $verb,)*
            /// Anything else, also an empty line.
            Unknown,
        }

        impl Verb {
            /// All verbs that have a name.
            pub const ALL: &[Verb] = &[$(Verb::$verb),*];

            /// The verb in lower case, as hooks and logs spell it; empty if unknown.
            pub fn name(self) -> &'static str {
                match self {
                    $(Verb::$verb => $word,)*
                    Verb::Unknown => "",
                }
            }
        }
    };
}

verbs! {
    /// Greeting of RFC 821.
    Helo = "helo",
    /// Greeting of RFC 5321.
    Ehlo = "ehlo",
    /// Greeting of LMTP (RFC 2033).
    Lhlo = "lhlo",
    /// Forget the transaction.
    Rset = "rset",
    /// Begin a transaction.
    Mail = "mail",
    /// Name a recipient.
    Rcpt = "rcpt",
    /// Send the message.
    Data = "data",
    /// Send a part of the message (RFC 3030).
    Bdat = "bdat",
    /// Ask for help.
    Help = "help",
    /// Ask whether a user exists.
    Vrfy = "vrfy",
    /// Ask who is on a list.
    Expn = "expn",
    /// Do nothing.
    Noop = "noop",
    /// End the session.
    Quit = "quit",
    /// Log in (RFC 4954).
    Auth = "auth",
    /// Begin TLS (RFC 3207).
    StartTls = "starttls",
    /// Ask for the queue to be run (RFC 1985).
    Etrn = "etrn",
    /// Change sides (RFC 2645).
    Atrn = "atrn",
    /// Change sides (RFC 821).
    Turn = "turn",
    /// Send to a terminal (RFC 821).
    Send = "send",
    /// Send to a terminal or mailbox (RFC 821).
    Soml = "soml",
    /// Send to a terminal and mailbox (RFC 821).
    Saml = "saml",
    /// Speak for another client (Postfix).
    Xclient = "xclient",
    /// Tell of another client (Postfix).
    Xforward = "xforward",
}

impl Verb {
    /// The verb with this name, in any case.
    pub fn find(word: &str) -> Verb {
        Verb::ALL
            .iter()
            .copied()
            .find(|verb| verb.name().eq_ignore_ascii_case(word))
            .unwrap_or(Verb::Unknown)
    }
}

/// A command line, split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Which command it is.
    pub verb: Verb,
    /// The first word as it was sent.
    pub word: &'a str,
    /// What follows the first run of spaces.
    pub rest: &'a str,
}

/// The line is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText {
    /// How many bytes of the line are.
    pub at: usize,
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command is not UTF-8 (at column {})", self.at + 1)
    }
}

impl std::error::Error for NotText {}

impl<'a> Command<'a> {
    /// Splits a line, with or without its line end, at the first run of spaces.
    ///
    /// # Errors
    /// A line that is not UTF-8 is no command.
    pub fn parse(line: &'a [u8]) -> Result<Command<'a>, NotText> {
        let end: &[u8] = if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
        let line = line.strip_suffix(end).unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|e| NotText { at: e.valid_up_to() })?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let verb = if is_verb(word) { Verb::find(word) } else { Verb::Unknown };
        Ok(Command {
            verb,
            word,
            rest: rest.trim_start_matches(' '),
        })
    }
}

/// One to twelve letters, digits or underscores.
fn is_verb(word: &str) -> bool {
    (1..=MAX_VERB).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines() {
        for (line, verb, word, rest) in [
            ("QUIT\r\n", Verb::Quit, "QUIT", ""),
            ("quit\n", Verb::Quit, "quit", ""),
            ("qUiT", Verb::Quit, "qUiT", ""),
            ("MAIL   FROM:<a@b>  ", Verb::Mail, "MAIL", "FROM:<a@b>  "),
            ("MAIL\tFROM:<a@b>", Verb::Unknown, "MAIL\tFROM:<a@b>", ""),
            ("", Verb::Unknown, "", ""),
            (" QUIT", Verb::Unknown, "", "QUIT"),
            ("QUIT\r\r\n", Verb::Unknown, "QUIT\r", ""),
            ("QUIT\r", Verb::Unknown, "QUIT\r", ""),
            ("EHL\u{d6} x", Verb::Unknown, "EHL\u{d6}", "x"),
            ("starttls", Verb::StartTls, "starttls", ""),
            ("abcdefghijklm x", Verb::Unknown, "abcdefghijklm", "x"),
        ] {
            assert_eq!(
                Command::parse(line.as_bytes()),
                Ok(Command { verb, word, rest }),
                "{line:?}"
            );
        }
        assert_eq!(Command::parse(b"EHLO \xff"), Err(NotText { at: 5 }));
    }

    #[test]
    fn names() {
        for &verb in Verb::ALL {
            assert_eq!(Verb::find(verb.name()), verb);
            assert!(is_verb(verb.name()));
        }
        assert_eq!(Verb::find(""), Verb::Unknown);
    }

    proptest! {
        #[test]
        fn any_bytes(line in any::<Vec<u8>>()) {
            if let Ok(command) = Command::parse(&line) {
                prop_assert!(line.starts_with(command.word.as_bytes()));
                prop_assert!(!command.rest.starts_with(' '));
            }
        }
    }
}
