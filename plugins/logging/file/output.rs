//! What logging/file writes into: a path with specifiers, or a running command.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use crate::plugin::*;

/// Where records go.
#[derive(Debug)]
pub enum Target {
    /// A path; between its pieces stands the name of the session.
    Path(Vec<TimeFormat>),
    /// A command for /bin/sh.
    Command(String),
}

impl Target {
    /// Reads the argument `path`.
    pub fn new(text: &str) -> Result<Target, String> {
        let command = text.trim_start().strip_prefix('|').map(str::trim);
        match command {
            None if !text.is_empty() => Ok(Target::Path(pieces(text)?)),
            Some(command) if !command.is_empty() => Ok(Target::Command(command.to_owned())),
            _ => Err("needs a path, or a command after |".to_owned()),
        }
    }

    /// Whether each session has a path of its own.
    pub fn has_session(&self) -> bool {
        matches!(self, Target::Path(pieces) if pieces.len() > 1)
    }

    /// The path for this time and session; the command as it is.
    pub fn name(&self, now: SystemTime, session: &str) -> String {
        match self {
            Target::Command(command) => command.clone(),
            Target::Path(pieces) => {
                let pieces: Vec<String> = pieces.iter().map(|piece| piece.show(now)).collect();
                pieces.join(session)
            }
        }
    }

    /// The folder that has to be made for the path, if it is not there: up to the first specifier.
    pub fn missing_dir(&self) -> Option<PathBuf> {
        self.dir().filter(|dir| !dir.exists())
    }

    /// The folder above all specifiers; none for a program.
    pub fn dir(&self) -> Option<PathBuf> {
        let Target::Path(pieces) = self else { return None };
        let path = Path::new(pieces.first()?.format());
        let mut above = path.ancestors().skip(1);
        let dir = above.find(|dir| !dir.to_string_lossy().contains('%'))?;
        Some(if dir.as_os_str().is_empty() {
            ".".into()
        } else {
            dir.to_owned()
        })
    }
}

/// The path, cut at each `%i`; in `%%i` the percent sign stands for itself.
fn pieces(text: &str) -> Result<Vec<TimeFormat>, String> {
    let mut pieces = vec![String::new()];
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let next = (c == '%').then(|| rest.next()).flatten();
        if next == Some('i') {
            pieces.push(String::new());
        } else if let Some(piece) = pieces.last_mut() {
            piece.push(c);
            piece.extend(next);
        }
    }
    let format = |piece: String| TimeFormat::new(&piece).map_err(|_| format!("'{text}' is no form of a time"));
    pieces.into_iter().map(format).collect()
}

/// Opens a file to append to, and makes the folders that depend on the time.
pub fn open(name: &str) -> io::Result<File> {
    let append = || open_to_append(Path::new(name));
    let parent = Path::new(name).parent();
    match (append(), parent) {
        (Err(why), Some(parent)) if why.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).create(parent)?;
            append()
        }
        (opened, _) => opened,
    }
}

/// The commands that run, so that a reload does not start a second one beside the first.
static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

struct Running {
    command: String,
    child: Child,
    input: Weak<File>,
}

/// The input of a command: of the one that runs already, if any.
pub fn run(command: &str) -> io::Result<Arc<File>> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    // a command whose input is closed will end by itself; one that has ended is no use
    running.retain_mut(|one| one.input.strong_count() > 0 && matches!(one.child.try_wait(), Ok(None)));
    let same = running.iter().find(|one| one.command == command);
    if let Some(input) = same.and_then(|one| one.input.upgrade()) {
        return Ok(input);
    }
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        // standard output may be the client
        .stdout(Stdio::null())
        // an interrupt from the terminal is for the daemon; the command ends with its input
        .process_group(0)
        .spawn()?;
    let input = Arc::new(input_of(&mut child)?);
    running.push(Running {
        command: command.to_owned(),
        child,
        input: Arc::downgrade(&input),
    });
    Ok(input)
}

/// Waits until a command has ended.
#[cfg(test)]
pub fn wait_for(command: &str) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for one in running.iter_mut().filter(|one| one.command == command) {
        assert!(one.child.wait().is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_at_the_session() {
        let now = SystemTime::now();
        let name = |text| Target::new(text).map(|target| (target.has_session(), target.name(now, "S")));
        assert_eq!(name("log/a b"), Ok((false, "log/a b".to_owned())));
        assert_eq!(name("%i/%i.log"), Ok((true, "S/S.log".to_owned())));
        assert_eq!(name("%%i"), Ok((false, "%i".to_owned())));
        assert_eq!(name(" | cat -n"), Ok((false, "cat -n".to_owned())));
        assert!(name("x%").is_err());
    }

    #[test]
    fn folders_that_are_missing_are_known() {
        let missing = |text| Target::new(text).ok().and_then(|target| target.missing_dir());
        assert_eq!(missing("no-such/deep/x%Y.log"), Some(PathBuf::from("no-such/deep")));
        assert_eq!(missing("no-such/%Y/x.log"), Some(PathBuf::from("no-such")));
        assert_eq!(missing("no-such/a%ib/x.log"), Some(PathBuf::from("no-such")));
        assert_eq!(missing("/x.log"), None);
        assert_eq!(missing("x.log"), None);
        assert_eq!(missing("|cat"), None);
    }
}
