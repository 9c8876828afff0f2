//! How logging/file finds the file of a record and writes a line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::output::{self, Target};
use crate::plugin::*;

/// The longest line, in bytes with its end: what a pipe takes in one piece.
const LONGEST: usize = 4096;
/// How long a record waits for the reader of a pipe that is full.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how many seconds none waits after one has waited in vain.
const REST: u64 = 10;
/// What stands for the session outside of any.
const NO_SESSION: &str = "parent";

/// The options.
pub struct Style {
    pub time: TimeFormat,
    pub nosplit: bool,
    pub reopen: bool,
    pub prefix: bool,
}

/// Writes records; all sessions of a process share it.
pub struct Writer {
    target: Target,
    style: Style,
    host: String,
    stderr: Stderr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Records are only written to standard error before the start.
    started: bool,
    /// The second for which `time` and `name` hold.
    second: u64,
    time: String,
    name: String,
    /// The file of records that need no file of their own.
    shared: Option<Open>,
    sessions: HashMap<u64, Own>,
    /// How many sessions there have been.
    count: u64,
    line: String,
    /// The second up to which nobody waits for the reader of a pipe.
    stuck: u64,
    /// The second of the last complaint, which is also when opening was tried last.
    complained: u64,
}

/// A file with the name it was opened by.
#[derive(Clone)]
struct Open {
    name: String,
    file: Arc<File>,
}

/// A session that has a file of its own, or keeps the one in which it began.
struct Own {
    id: String,
    /// The name that holds for the whole session.
    fixed: Option<String>,
    open: Option<Open>,
}

impl Writer {
    pub fn new(target: Target, style: Style) -> Writer {
        Writer {
            target,
            style,
            host: host_name(),
            stderr: Stderr::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn missing_dir(&self) -> Option<PathBuf> {
        self.target.missing_dir()
    }

    /// The folder in which the files lie.
    pub fn dir(&self) -> Option<PathBuf> {
        self.target.dir()
    }

    /// Opens what is to be written into, and from then on writes there.
    pub fn start(&self) -> Result<(), String> {
        let mut state = self.state();
        if !self.target.has_session() {
            let name = self.target.name(SystemTime::now(), "");
            let opened = self.open(&name).map_err(|why| format!("{name}: {why}"))?;
            state.shared = Some(opened);
        }
        state.started = true;
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Open> {
        let file = match &self.target {
            Target::Path(_) => Arc::new(output::open(name)?),
            Target::Command(command) => output::run(command)?,
        };
        Ok(Open {
            name: name.to_owned(),
            file,
        })
    }

    /// Writes a record, to standard error if it cannot be written where it belongs.
    pub fn write(&self, record: &Record<'_>, now: SystemTime) {
        let state = &mut *self.state();
        let file = match state.started {
            true => self.file(state, record.number, now),
            false => None,
        };
        let written = file.is_some_and(|file| {
            self.put_line(state, record);
            let wait = if state.second < state.stuck {
                Duration::ZERO
            } else {
                PATIENCE
            };
            match write_in_time(&file, state.line.as_bytes(), wait) {
                Ok(()) => true,
                Err(why) => {
                    if why.kind() == io::ErrorKind::TimedOut {
                        state.stuck = state.second + REST;
                    }
                    complain(state, &why);
                    state.forget(&file, &self.target);
                    false
                }
            }
        });
        if !written {
            self.stderr.take(record);
        }
    }

    /// `<time> <host>[<number>]: <words>`
    fn put_line(&self, state: &mut State, record: &Record<'_>) {
        let State { line, time, .. } = state;
        line.clear();
        let _ = write!(line, "{time} {}[{}]:", self.host, record.number);
        let _ = match self.style.prefix {
            true => write!(line, "{} {}", Harmless(record.origin()), Harmless(record.text)),
            false => write!(line, " {}", Harmless(record.text)),
        };
        line.truncate(line.floor_char_boundary(LONGEST - 1));
        line.push('\n');
    }

    /// The file for a record of this session.
    fn file(&self, state: &mut State, number: u64, now: SystemTime) -> Option<Arc<File>> {
        self.tell_time(state, now);
        if let Target::Command(_) = self.target {
            return state.shared.as_ref().map(|open| open.file.clone());
        }
        let own = state.sessions.get(&number);
        let name = match own {
            Some(Own { fixed: Some(name), .. }) => name.clone(),
            Some(own) => self.target.name(now, &own.id),
            None => state.name.clone(),
        };
        let opened = own.map_or(&state.shared, |own| &own.open);
        let opened = opened.iter().chain(&state.shared).find(|open| open.name == name);
        let open = match opened {
            Some(open) => open.clone(),
            None if state.complained == state.second => return None,
            None => match self.open(&name) {
                Ok(open) => open,
                Err(why) => {
                    complain(state, &format!("{name}: {why}"));
                    return None;
                }
            },
        };
        let file = open.file.clone();
        match state.sessions.get_mut(&number) {
            Some(own) => own.open = Some(open),
            None => state.shared = Some(open),
        }
        Some(file)
    }

    /// Puts time and name into words, once a second unless the form shows less than that.
    fn tell_time(&self, state: &mut State, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if second != state.second || self.style.time.is_fine() {
            state.time = self.style.time.show(now);
        }
        if second != state.second {
            state.name = self.target.name(now, NO_SESSION);
            state.second = second;
        }
    }

    fn begin(&self, number: u64, now: SystemTime) {
        let state = &mut *self.state();
        state.count += 1;
        if self.style.reopen && !matches!(self.target, Target::Command(_)) {
            state.shared = None;
        }
        if self.style.nosplit || self.target.has_session() {
            let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let id = format!("{seconds}-{}-{}", std::process::id(), state.count);
            let fixed = self.style.nosplit.then(|| self.target.name(now, &id));
            state.sessions.insert(number, Own { id, fixed, open: None });
        }
    }
}

impl State {
    /// Closes a file into which nothing can be written; a command is kept, as only a reload can start it anew.
    fn forget(&mut self, file: &Arc<File>, target: &Target) {
        if matches!(target, Target::Command(_)) {
            return;
        }
        let broken = |open: &mut Open| Arc::ptr_eq(&open.file, file);
        self.shared.take_if(broken);
        for own in self.sessions.values_mut() {
            own.open.take_if(broken);
        }
    }
}

/// Says once a second what is wrong.
fn complain(state: &mut State, why: &dyn std::fmt::Display) {
    if state.complained != state.second {
        state.complained = state.second;
        let _ = writeln!(io::stderr(), "{} logging/file: {why}", std::process::id());
    }
}

/// Note on a connection: the writers that know of the session, which ends when the note goes.
#[derive(Default)]
pub struct Guards(Vec<Guard>);

struct Guard(Weak<Writer>, u64);

impl Guards {
    /// Tells the writer that a session begins, unless it knows.
    pub fn begin(&mut self, writer: &Arc<Writer>, number: u64, now: SystemTime) {
        if self.0.iter().all(|guard| guard.0.as_ptr() != Arc::as_ptr(writer)) {
            writer.begin(number, now);
            self.0.push(Guard(Arc::downgrade(writer), number));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(writer) = self.0.upgrade() {
            writer.state().sessions.remove(&self.1);
        }
    }
}

#[cfg(test)]
mod tests;
