//! Passwords that a program of the checkpassword kind knows (catalogue 15.3).

use super::checkpassword::{self, Checker};
use crate::plugin::*;

plugin! {
    /// Lets a program of the checkpassword kind check user and password, which it reads from descriptor 3.
    ///
    /// Exit code 0 lets the client in. 111 (the program cannot check now) and 2 (it was called wrongly), a crash and 10
    /// seconds without an answer make the client try again later; anything else is a wrong password. The programs can
    /// be named in the file smtpauth-checkpassword instead. Workers are not confined, since such programs read what
    /// they like and change their user.
    ///
    /// Unless the daemon runs as root, or as user 89 with a program named vchkpw, or the program has the set-user-ID bit
    /// (mode 4711), it is run by `sudo -C4` (as vpopmail, if it is named vchkpw), if there is sudo. sudoers must then
    /// allow it without a password and have closefrom_override.
    "auth/auth_checkpassword", AuthCheckpassword {
        /// The program that checks, and as `true` the program that it runs when the password is right.
        checkpw: Option<Pair>,
        /// Whether sudo may be used.
        sudo: bool = true,
    }
    files ["smtpauth-checkpassword"]
    state { checker: Option<Checker> }
    hooks [auth_plain, auth_login]
    with [setup, needs]
}

/// The arguments `checkpw` and `true`.
#[derive(Clone, Debug, Default)]
struct Pair {
    program: Option<String>,
    next: Option<String>,
}

impl Arg for Pair {
    const WANTS: &'static str = "the path of a program";
    const ALSO: &'static [&'static str] = &["true"];

    fn set(slot: &mut Option<Self>, name: &str, word: &str) -> Set {
        let pair = slot.get_or_insert_default();
        match name {
            "true" => pair.next = Some(word.to_owned()),
            _ => pair.program = Some(word.to_owned()),
        }
        Ok(None)
    }
}

impl AuthCheckpassword {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let (program, next) = match self.checkpw.take() {
            Some(Pair {
                program: Some(program),
                next: Some(next),
            }) => (program, next),
            Some(_) => return Err("checkpw and true belong together".to_owned()),
            None => from_file(&at.config("smtpauth-checkpassword"))?,
        };
        let checker = Checker {
            program: program.into(),
            next: next.into(),
            sudo: self.sudo.then(checkpassword::sudo).flatten(),
        };
        checker.check()?;
        self.checker = Some(checker);
        Ok(())
    }

    fn needs(&self) -> Needs {
        checkpassword::needs()
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.checker
            .as_ref()
            .map_or_else(declined, |checker| checker.login(s, with))
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }
}

/// One line: the program, and the program that it runs.
fn from_file(lines: &Lines) -> Result<(String, String), String> {
    let words: Vec<&str> = lines.iter().flat_map(|line| line.split_ascii_whitespace()).collect();
    match words[..] {
        [program, next] => Ok((program.to_owned(), next.to_owned())),
        [] => Err("name the programs: checkpw PROGRAM true /bin/true, or in config/smtpauth-checkpassword".to_owned()),
        _ => Err("config/smtpauth-checkpassword holds one line, the program and the program that it runs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Checks byte by byte what it is handed; the user's name says how it ends otherwise.
    const SCRIPT: &str = r#"#!/bin/sh
test "$#" = 1 || exit 2
got=$(tr '\0' '|' <&3)
case $got in
'joe@example.com|se cret|Y123456|') exec "$1" ;;
'crash|'*) kill -9 $$ ;;
'later|'*) exit 111 ;;
*) exit 1 ;;
esac
"#;

    fn program(folder: &Path) -> String {
        let path = folder.join("check");
        script(&path, SCRIPT);
        path.display().to_string()
    }

    fn plain(user: &str, password: &str) -> Credentials {
        Credentials::password("plain", user, password)
    }

    #[test]
    fn the_program_decides() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut t = Kit::load(
            &DECLARATION,
            &format!("checkpw {} true /bin/true sudo 0", program(folder.path())),
        );
        t.auth(&plain("joe@example.com", "se cret")).ok();
        assert_eq!(t.s.notes.text("authuser"), Some("joe@example.com"));
        t.auth(&plain("joe@example.com", "secret")).declined();
        assert!(t.logged().iter().any(|line| line.ends_with("fail, auth failed: 1")));
        t.auth(&plain("joe@example.com\0se cret", "x")).denied("NUL");
        t.auth(&plain("joe@example.com", &"x".repeat(600))).declined();
        for (user, why) in [("later", "(exit 111)"), ("crash", "(signal 9)")] {
            t.logged();
            t.auth(&plain(user, "geheim")).declined();
            let logged = t.logged().join("\n");
            assert!(logged.contains("error, ") && logged.contains(why), "{logged}");
            assert!(!logged.contains("geheim"));
        }
        // what runs when the password is right has its say, too
        let mut t = Kit::load(
            &DECLARATION,
            &format!("checkpw {} true /bin/false sudo 0", program(folder.path())),
        );
        t.auth(&plain("joe@example.com", "se cret")).declined();
    }

    #[test]
    fn programs_are_named_by_arguments_or_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = format!("{} /bin/true", program(folder.path()));
        let file: &[(&str, &[&str])] = &[("smtpauth-checkpassword", &[&line])];
        let mut t = Kit::load_with(&DECLARATION, "sudo 0", file);
        t.auth(&plain("joe@example.com", "se cret")).ok();
        for (arguments, file, why) in [
            ("", &[][..], "name the programs"),
            ("", &["/bin/true"][..], "holds one line"),
            ("", &["/nonexistent /bin/true"][..], "/nonexistent"),
            ("checkpw /bin/true", &[][..], "belong together"),
            ("checkpw /bin/true true /etc/passwd", &[][..], "no program"),
        ] {
            let faults = Kit::faults_with(&DECLARATION, arguments, &[("smtpauth-checkpassword", file)]);
            assert!(faults.join("\n").contains(why), "{faults:?}");
        }
    }
}
