//! Answers HELP with texts from files (catalogue 14.7).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::plugin::*;

plugin! {
    /// Answers HELP with texts from files.
    ///
    /// The files are read when the plugin is loaded; `HELP MAIL` shows the file `mail`.
    "help", Help {
        /// A folder of files that are named after commands, in lower case. By default, if there is no other
        /// argument: help in the working directory, else in the configuration folder.
        help_dir: Option<PathBuf>,
        /// Answer HELP with 502.
        not_implemented: bool = false,
        /// A command and the file of its text; a name without a slash is looked for in the default folder.
        @rest command: Option<Files>,
    }
    state { texts: BTreeMap<String, String> }
    hooks [help]
    with [setup]
}

/// The longest text, in bytes.
const MOST: u64 = 16 * 1024;

/// Commands and their files.
#[derive(Default)]
struct Files {
    pairs: Vec<(String, String)>,
    /// A command whose file is still to come.
    open: Option<String>,
}

impl Arg for Files {
    const WANTS: &'static str = "a command and a file";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let files = slot.get_or_insert_default();
        match files.open.take() {
            Some(command) if word.chars().all(|c| is_word(c) || "./-".contains(c)) => {
                files.pairs.push((command, word.to_owned()));
            }
            Some(_) => return Err(format!("'{word}' is no name of a file (letters, digits and _./-)")),
            None if word.chars().all(is_word) => files.open = Some(word.to_ascii_lowercase()),
            None => return Err(format!("'{word}' is no command")),
        }
        Ok(None)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The text of a regular file.
fn read(path: &Path) -> std::io::Result<String> {
    // opening a pipe would wait for its other end
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Help {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let files = self.command.take().unwrap_or_default();
        if let Some(command) = &files.open {
            return Err(format!("command '{command}' needs a file"));
        }
        let working = Path::new("help");
        let default = match working.is_dir() {
            true => Some(working.to_owned()),
            false => at.find("help").filter(|dir| dir.is_dir()),
        };
        let alone = files.pairs.is_empty() && !self.not_implemented;
        let dir = self.help_dir.clone().or_else(|| default.clone().filter(|_| alone));
        if let Some(dir) = &dir
            && let Err(why) = self.read_folder(dir)
        {
            at.warn(format!("{}: {why}", dir.display()));
        }
        for (command, file) in files.pairs {
            let path = match file.contains('/') {
                true => PathBuf::from(file),
                false => default.clone().unwrap_or_default().join(file),
            };
            match read(&path) {
                Ok(text) => drop(self.texts.insert(command, text)),
                Err(why) => at.warn(format!("{}: {why}", path.display())),
            }
        }
        Ok(())
    }

    fn read_folder(&mut self, dir: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let command = name.to_str().filter(|name| name.chars().all(is_word));
            if let (Some(command), Ok(text)) = (command, read(&entry.path())) {
                self.texts.insert(command.to_ascii_lowercase(), text);
            }
        }
        Ok(())
    }

    fn help(&self, s: &mut Session, topic: &str) -> Answer {
        let topic = topic.trim_ascii().to_ascii_lowercase();
        if self.not_implemented || !topic.chars().all(is_word) {
            s.respond(502, Some(Status(5, 5, 1)), "HELP is not implemented for that");
            return done();
        }
        // only what was read at load can be shown, whatever the client asks for
        match self.texts.get(&topic) {
            Some(text) => ok_with(text.clone()),
            None if topic.is_empty() => ok_with(self.hint()),
            None => ok_with(format!("no help for {topic}\n{}", self.hint())),
        }
    }

    fn hint(&self) -> String {
        let known: Vec<&str> = self.texts.keys().map(String::as_str).collect();
        match known.as_slice() {
            [] => "there is no help here".to_owned(),
            known => format!("there is help for: {}", known.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> std::io::Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            fs::write(dir.path().join(name), text)?;
        }
        Ok(dir)
    }

    fn help(t: &mut Kit, topic: &str) -> Outcome {
        t.ask(Event::Help { topic })
    }

    #[test]
    fn shows_the_files_of_a_folder() -> std::io::Result<()> {
        let dir = folder(&[
            ("mail", "MAIL FROM:<path>\n  begins\n"),
            ("rcpt", "r"),
            (".x.y", "hidden"),
        ])?;
        let mut t = Kit::load(&DECLARATION, &format!("help_dir {}", dir.path().display()));
        assert_eq!(help(&mut t, "MAIL ").ok().text, "MAIL FROM:<path>\n  begins\n");
        assert_eq!(help(&mut t, "").ok().text, "there is help for: mail rcpt");
        help(&mut t, "data")
            .ok()
            .says("no help for data\nthere is help for: mail rcpt");
        assert!(t.written().is_empty());
        Ok(())
    }

    #[test]
    fn nothing_but_words_is_looked_up() {
        let mut t = Kit::load(&DECLARATION, "help_dir /");
        for topic in ["../etc/passwd", "etc/passwd", "mail from", ".", "a\0b", "\u{e9}"] {
            help(&mut t, topic).is(Verdict::Done);
            assert_eq!(t.written(), "502 5.5.1 HELP is not implemented for that\r\n");
        }
        help(&mut t, "etc").ok().says("no help for etc");
    }

    #[test]
    fn commands_may_have_files_of_their_own() -> std::io::Result<()> {
        let dir = folder(&[("a.txt", "this is data")])?;
        let path = dir.path().join("a.txt");
        let mut t = Kit::load(&DECLARATION, &format!("DATA {}", path.display()));
        assert_eq!(help(&mut t, "Data").ok().text, "this is data");
        let faults = Kit::faults(&DECLARATION, "data /nonexistent/file");
        assert!(faults[0].contains("warning: help: /nonexistent/file: "), "{faults:?}");
        assert!(Kit::faults(&DECLARATION, "data")[0].contains("command 'data' needs a file"));
        assert!(Kit::faults(&DECLARATION, "da-ta x")[0].contains(":1:6: help: 'da-ta' is no command"));
        assert!(Kit::faults(&DECLARATION, "data a*b")[0].contains(":1:11: "));
        Ok(())
    }

    #[test]
    fn help_can_be_switched_off() {
        let mut t = Kit::load(&DECLARATION, "not_implemented 1");
        help(&mut t, "").is(Verdict::Done);
        assert!(t.written().starts_with("502 5.5.1 "));
        assert_eq!(t.logged(), ["502 HELP is not implemented for that"]);
    }
}
