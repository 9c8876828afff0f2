//! Says good-bye with a fortune cookie to clients of the old style (catalogue 14.6).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plugin::*;

plugin! {
    /// Answers QUIT of clients that said HELO, not EHLO, with a fortune cookie.
    ///
    /// It does nothing where the program fortune is not installed.
    "quit_fortune", QuitFortune {
        /// The program; it is called with `-s`.
        program: PathBuf = PathBuf::from("/usr/games/fortune"),
    }
    state { ready: bool }
    hooks [quit]
    with [setup, needs]
}

/// How long the program may take.
const WAIT: Duration = Duration::from_secs(2);
/// How many lines of its text are repeated.
const MOST: usize = 40;

impl QuitFortune {
    fn setup(&mut self, _at: &mut Loading<'_>) -> Result<(), String> {
        self.ready = is_executable(&self.program);
        Ok(())
    }

    fn needs(&self) -> Needs {
        let programs = if self.ready { Programs::Reading } else { Programs::None };
        Needs {
            programs,
            ..Needs::default()
        }
    }

    fn quit(&self, s: &mut Session) -> Answer {
        if !self.ready || s.hello.as_ref().is_none_or(|hello| hello.kind != HelloKind::Helo) {
            return declined();
        }
        let cookie = match self.cookie() {
            Ok(cookie) => cookie,
            Err(why) => {
                info!(s, "error, {}: {why}", self.program.display());
                return declined();
            }
        };
        let text = farewell(&s.settings.me, &String::from_utf8_lossy(&cookie));
        s.respond(221, Some(Status(2, 0, 0)), text);
        done()
    }

    fn cookie(&self) -> Result<Vec<u8>, Failure> {
        let mut program = Program::new(&self.program);
        program.command().arg("-s");
        program.listen(1);
        let ran = program.run(WAIT)?;
        match ran.end {
            End::Exit(0) => Ok(ran.heard),
            end => Err(Failure::new(format!("{end:?}"))),
        }
    }
}

fn farewell(me: &str, cookie: &str) -> String {
    let mut text = format!("{me} closing connection, and here is your fortune");
    for line in cookie.lines().take(MOST) {
        text.push_str("\n  / ");
        text.push_str(line);
    }
    text
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_the_old_style_get_a_cookie() {
        // it understands -s, too
        let mut t = Kit::load(&DECLARATION, "program /bin/uname");
        t.config("me", &["mx.example.com"]);
        t.ask(Event::Quit).declined();
        t.helo("a.example").declined();
        t.ask(Event::Quit).is(Verdict::Done);
        let written = t.written();
        assert!(
            written.starts_with("221-2.0.0 mx.example.com closing connection, and"),
            "{written}"
        );
        assert!(written.contains("\r\n221 2.0.0   / "), "{written}");
        assert_eq!(
            t.logged(),
            ["221 mx.example.com closing connection, and here is your fortune"]
        );
        t.ehlo("a.example").declined();
        t.ask(Event::Quit).declined();
    }

    #[test]
    fn every_line_is_marked() {
        let text = farewell("mx", "one\n\n\ttwo\n");
        assert!(text.ends_with("fortune\n  / one\n  / \n  / \ttwo"), "{text}");
    }

    #[test]
    fn a_failure_is_logged_and_quit_goes_on() {
        let mut t = Kit::load(&DECLARATION, "program /bin/false");
        t.helo("a.example").declined();
        t.ask(Event::Quit).declined();
        assert!(t.logged()[0].starts_with("(quit) quit_fortune: error, /bin/false: "));
    }

    #[test]
    fn without_the_program_nothing_happens() {
        let mut t = Kit::load(&DECLARATION, "program /nonexistent/fortune");
        t.helo("a.example").declined();
        t.ask(Event::Quit).declined();
        assert!(t.logged().is_empty() && t.written().is_empty());
    }
}
