//! Logs to a file or to a program (catalogue 21).

mod output;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use crate::plugin::*;

use output::Target;
use writer::{Guards, Style, Writer};

plugin! {
    /// Appends log records to a file, or hands them to a program.
    ///
    /// A path may hold specifiers of strftime, and `%i` for the session; when its name changes, the new file is
    /// opened. Several processes append to the same file, a line with one write. After the file has been moved away,
    /// a reload opens it anew; with `reopen`, so does each session.
    ///
    /// A path that begins with `|` is a command for /bin/sh, which reads the records. It is started once and kept
    /// over reloads; when it has ended, a reload starts it anew.
    ///
    /// What cannot be written goes to standard error. For a program that does not read, a record waits a second at
    /// most, and none for ten seconds after one has waited in vain.
    "logging/file", File {
        /// What matters less is not written.
        loglevel: Level = Level::Warn,
        /// Keep a session in the file in which it began.
        @flag nosplit: bool,
        /// Open the file anew for each session.
        @flag reopen: bool,
        /// Write hook and plugin before the words, as logging/warn does.
        @flag prefix: bool,
        /// The form of the time, by the specifiers of strftime, without blanks.
        tsformat: String = "%a %b %d %T %Y".to_owned(),
        /// The path, or `|` and the command; it comes last and may have blanks.
        @tail path: Vec<String>,
    }
    state { writer: Option<Arc<Writer>> }
    hooks [logging, pre_connection, connect]
    with [setup, start, logs_up_to, owned_dirs, needs]
}

impl File {
    fn setup(&mut self, _at: &mut Loading<'_>) -> Result<(), String> {
        let style = Style {
            time: TimeFormat::new(&self.tsformat)?,
            nosplit: self.nosplit,
            reopen: self.reopen,
            prefix: self.prefix,
        };
        let target = Target::new(&self.path.join(" "))?;
        self.writer = Some(Arc::new(Writer::new(target, style)));
        Ok(())
    }

    /// Opens the file in the process that forks the others, as the user who serves.
    fn start(&self) -> Result<(), String> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.start())
    }

    fn owned_dirs(&self) -> Vec<PathBuf> {
        self.writer.iter().filter_map(|writer| writer.missing_dir()).collect()
    }

    fn needs(&self) -> Needs {
        Needs {
            write: self.writer.iter().filter_map(|writer| writer.dir()).collect(),
            ..Needs::default()
        }
    }

    fn logs_up_to(&self) -> Level {
        self.loglevel
    }

    fn logging(&self, record: &Record<'_>) {
        if let Some(writer) = self.writer.as_ref().filter(|_| record.matters(self.loglevel)) {
            writer.write(record, std::time::SystemTime::now());
        }
    }

    fn pre_connection(&self, s: &mut Session) -> Answer {
        self.begin(s);
        declined()
    }

    fn connect(&self, s: &mut Session) -> Answer {
        self.begin(s);
        declined()
    }

    /// A session begins; it ends when its notes are dropped.
    fn begin(&self, s: &mut Session) {
        let (number, now) = (s.number, s.services().clock.now());
        if let Some(writer) = &self.writer {
            s.notes.entry::<Guards>().begin(writer, number, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_before_the_path() {
        let faults = |arguments| Kit::faults(&DECLARATION, arguments).join("\n");
        for good in [
            "log/x",
            "loglevel LOGINFO nosplit reopen prefix tsformat %s log/%Y-%m-%d%i.log",
            "loglevel 6 |multilog t n20 reopen ./main",
            "path with reopen",
        ] {
            assert_eq!(faults(good), "", "{good}");
        }
        assert!(faults("nosplit").contains("needs a path, or a command after |"));
        assert!(faults("|").contains("needs a path, or a command after |"));
        assert!(faults("tsformat %! x").contains("'%!' is no form of a time"));
        assert!(faults("log/%Q").contains("'log/%Q' is no form of a time"));
        assert!(faults("loglevel x log/y").contains("'x' is no log level"));
    }

    #[test]
    fn the_level_is_the_plugins_own() {
        let t = Kit::load(&DECLARATION, "loglevel LOGNOTICE x");
        assert!(t.s.wants(Level::Notice) && !t.s.wants(Level::Info));
    }

    #[test]
    fn records_of_a_session_reach_its_file() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let arguments = format!("prefix loglevel 6 tsformat T {}/%i", dir.path().display());
        let mut t = Kit::load(&DECLARATION, &arguments);
        t.start();
        t.s.number = 42;
        t.ask(Event::PreConnection).declined();
        t.ask(Event::Connect).declined();
        t.s.log(Level::Info, format_args!("one"));
        t.s.log(Level::Debug, format_args!("two"));
        let files: Vec<PathBuf> = std::fs::read_dir(dir.path())?
            .flatten()
            .map(|file| file.path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let text = std::fs::read_to_string(&files[0])?;
        assert_eq!(text, format!("T {}[42]: one\n", host_name()));
        Ok(())
    }
}
