//! How much of the protocol is served: the settings disabled and unauthorized_pipelining.

use super::values::{Values, default};

/// Makes a set of words.
macro_rules! words {
    ($($(#[$doc:meta])* $field:ident = $word:literal,)*) => {
        /// Commands and extensions that are neither offered nor served.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Disabled { $($(#[$doc])* pub $field: bool,)* }

        impl Disabled {
            const WORDS: &'static [&'static str] = &[$($word),*];

            fn add(&mut self, word: &str) -> bool {
                $(if word.eq_ignore_ascii_case($word) {
                    self.$field = true;
                    return true;
                })*
                false
            }
        }
    };
}

words! {
    /// The command VRFY.
    vrfy = "VRFY",
    /// The command HELP.
    help = "HELP",
    /// Extension PIPELINING; only the offer goes.
    pipelining = "PIPELINING",
    /// Extension 8BITMIME; only the offer goes.
    eight_bit = "8BITMIME",
    /// Extension SIZE; only the offer goes.
    size = "SIZE",
    /// Extension CHUNKING, the command BDAT.
    chunking = "CHUNKING",
    /// Extension BINARYMIME.
    binary = "BINARYMIME",
    /// Extension SMTPUTF8.
    utf8 = "SMTPUTF8",
    /// Extension DSN.
    dsn = "DSN",
    /// Extension LIMITS.
    limits = "LIMITS",
}

impl Disabled {
    pub(super) fn read(values: &mut Values) -> Disabled {
        let mut disabled = Disabled::default();
        for line in &(values.source)("disabled") {
            for word in line.split_ascii_whitespace() {
                if !disabled.add(word) {
                    let words = Disabled::WORDS.join(", ");
                    values.keep::<()>(line, Err(format!("'{word}' is none of {words}")));
                }
            }
        }
        disabled
    }
}

/// What becomes of a client that sends commands before it has heard the reply that it must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfTurn {
    /// Nothing.
    Allow,
    /// The log tells of it, once in a session.
    Log,
    /// The session ends with 554.
    Refuse,
}

impl OutOfTurn {
    pub(super) fn read(values: &mut Values) -> OutOfTurn {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "allow" => Ok(OutOfTurn::Allow),
            "log" => Ok(OutOfTurn::Log),
            "refuse" => Ok(OutOfTurn::Refuse),
            _ => Err(format!("'{text}' is none of allow, log, refuse")),
        };
        let given = values.first("unauthorized_pipelining");
        let given = given.and_then(|line| values.keep(&line, parse(&line)));
        given
            .or(parse(default("unauthorized_pipelining")).ok())
            .unwrap_or(OutOfTurn::Log)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::super::settings::Settings;
    use super::*;

    fn read(name: &str, lines: &[&str]) -> (Settings, usize) {
        let source = |asked: &str| match asked == name {
            true => Lines::of(name, lines),
            false => Lines::empty(),
        };
        let (settings, faults) = Settings::read(&source);
        (settings, faults.len())
    }

    #[test]
    fn what_is_disabled() {
        let (settings, faults) = read("disabled", &["vrfy Chunking", "DSN", "EHLO"]);
        let want = Disabled {
            vrfy: true,
            chunking: true,
            dsn: true,
            ..Disabled::default()
        };
        assert_eq!((settings.disabled, faults), (want, 1));
    }

    #[test]
    fn talking_out_of_turn() {
        for (lines, want, wrong) in [
            (&[][..], OutOfTurn::Log, 0),
            (&["refuse"], OutOfTurn::Refuse, 0),
            (&["Allow"], OutOfTurn::Allow, 0),
            (&["never"], OutOfTurn::Log, 1),
        ] {
            let (settings, faults) = read("unauthorized_pipelining", lines);
            assert_eq!((settings.unauthorized_pipelining, faults), (want, wrong), "{lines:?}");
        }
    }
}
