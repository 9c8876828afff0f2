//! From a line to its command: parsed, written to the log without what might be a password, and run.

use super::answers::say;
use super::command::{Command, NotText, Verb};
use super::commands;
use super::dialogue::{Dialogue, Flow};
use crate::log::Level;

/// What stands in the log for what might be a password.
const HIDDEN: &str = "<hidden credentials>";

impl Dialogue<'_> {
    /// Does what the line that was just read asks for.
    pub(super) fn dispatch(&mut self) -> Flow {
        let line = std::mem::take(&mut self.line);
        self.s.original_string.clear();
        self.s.original_string.push_str(&String::from_utf8_lossy(&line));
        let flow = match Command::parse(&line) {
            Ok(command) => {
                self.log_command(&command);
                commands::run(self, &command)
            }
            Err(why) => self.not_text(why),
        };
        if is_auth(&line) {
            self.hides = self.s.login.user.is_none();
        }
        self.line = line;
        flow
    }

    /// A line that is not UTF-8: a verb that is known has a bad argument, any other is one more that nobody knows.
    fn not_text(&mut self, why: NotText) -> Flow {
        let text = self.s.original_string.clone();
        match Command::parse(text.as_bytes()) {
            Ok(command) => {
                self.log_command(&command);
                match commands::is_known(&command) {
                    // the size of what follows it cannot be read
                    true if command.verb == Verb::Bdat => commands::run(self, &command),
                    true => self.say_text(say(501, (5, 4), ""), why.to_string()),
                    false => commands::run(self, &command),
                }
            }
            Err(_) => self.say(say(500, (5, 2), "syntax error")),
        }
    }

    fn log_command(&mut self, command: &Command<'_>) {
        match commands::is_known(command) {
            true => self.hides = false,
            false if self.hides => HIDDEN.clone_into(&mut self.s.original_string),
            false => {}
        }
        if !self.s.wants(Level::Info) {
            return;
        }
        let mut words = self.s.original_string.split_ascii_whitespace();
        let (verb, mechanism) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if is_auth(self.s.original_string.as_bytes()) && words.next().is_some() {
            self.log(
                Level::Info,
                // no more of the word, which may go on with what was meant to be an argument
                format_args!("dispatching {} {mechanism} {HIDDEN}", verb.get(..4).unwrap_or_default()),
            );
        } else {
            self.log(Level::Info, format_args!("dispatching {}", self.s.original_string));
        }
    }
}

/// Whether a line is an AUTH command, well-formed or not: it may be longer than others, and it holds credentials.
pub(super) fn is_auth(line: &[u8]) -> bool {
    line.trim_ascii_start()
        .get(..4)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
}
