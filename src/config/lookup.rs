//! Finding the file of a name, and keeping what was read until it changes (catalogue 2.1, 2.4).
//!
//! Between two refreshes an answer costs a lock and a clone, and no system call. A refresh, once at the start
//! of a session, looks at the stamp of every path that some answer came from, and reads again only what moved.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::fault::Fault;
use super::folders::folders;
use super::lines::{Line, Lines};
use super::map::{FoundMap, Map};
use super::read::{Reading, read_name};
use super::settings::Settings;
use super::stamp::{Seen, State, Watch, state};

/// The configuration of one process: the folders searched, and what was read from them.
#[derive(Debug, Default)]
pub struct Lookup {
    dirs: Vec<PathBuf>,
    /// Faults of the folders themselves.
    faults: Vec<Fault>,
    /// The home directory that counts, if not `$HOME`.
    home: Option<PathBuf>,
    kept: RwLock<Kept>,
    changes: AtomicU64,
    refreshing: Mutex<()>,
    settings: Mutex<Option<Built>>,
}

/// The settings as of a number of changes, and what was wrong with them.
#[derive(Clone, Debug)]
struct Built {
    at: u64,
    settings: Arc<Settings>,
    /// Whether they come from files without an error.
    sound: bool,
    faults: Arc<[Fault]>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: BTreeMap<Box<str>, Arc<Reading>>,
    maps: BTreeMap<Box<str>, Arc<FoundMap>>,
    /// What to look at to see whether any of these has changed; none when something was added since it was made.
    watch: Option<Watch>,
}

impl Kept {
    /// Every path that some answer came from.
    fn seen(&self) -> impl Iterator<Item = &Seen> {
        let lines = self.lines.values().flat_map(|reading| &reading.seen);
        lines.chain(self.maps.values().flat_map(|entry| &entry.seen))
    }
}

impl Lookup {
    /// The three folders of catalogue 2.1, the first that has the file winning, name by name:
    /// `$QPSMTPD_CONFIG`; `explicit`, else `config` in the working directory, else `config` beside the program
    /// (`$PROCESS`, if set, stands for the program); `$QMAIL/control`, else `/var/qmail/control`.
    ///
    /// Relative folders stay relative, so that a working directory below one the user may not search works.
    pub fn standard(explicit: Option<&Path>) -> Lookup {
        let own = Path::new("config");
        let variable = |name: &str| env::var_os(name).map(PathBuf::from);
        let (dirs, faults) = folders(explicit, own, &variable, env::current_exe().ok());
        Lookup {
            dirs,
            faults,
            ..Lookup::default()
        }
    }

    /// These folders, the first that has the file winning, name by name.
    pub fn with_dirs(dirs: Vec<PathBuf>) -> Lookup {
        Lookup {
            dirs,
            ..Lookup::default()
        }
    }

    /// No folder at all: only what is [`set`](Lookup::set) is there.
    pub fn in_memory() -> Lookup {
        Lookup::default()
    }

    /// Takes `home` for `$HOME`: the home directory of the user the daemon will serve as.
    pub fn with_home(mut self, home: PathBuf) -> Lookup {
        self.home = Some(home);
        self
    }

    /// The folders that are searched, in order.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Gives `name` these lines, whatever the folders say.
    pub fn set(&self, name: &str, lines: &[&str]) {
        let reading = Reading {
            found: true,
            lines: Lines::of(name, lines),
            ..Reading::default()
        };
        let mut kept = self.write();
        kept.lines.insert(name.into(), Arc::new(reading));
        // A map made of the text that was there before.
        kept.maps.retain(|map, entry| **map != *name || entry.text.is_none());
        drop(kept);
        self.moved();
    }

    /// Gives the map `name` these pairs, whatever the folders say.
    pub fn set_map(&self, name: &str, pairs: &[(&str, &str)]) {
        let entry = FoundMap::of(Map::of(pairs.iter().copied()));
        self.write().maps.insert(name.into(), Arc::new(entry));
        self.moved();
    }

    /// The lines of a file; none if it is missing. An absolute name is a path.
    pub fn lines(&self, name: &str) -> Lines {
        self.reading(name).lines.clone()
    }

    /// The lines of a file as [`Lookup::lines`] has them, if they are all that it says.
    ///
    /// # Errors
    /// It is there and cannot be read, or something that it includes.
    pub fn sound_lines(&self, name: &str) -> Result<Lines, Fault> {
        let reading = self.reading(name);
        match reading.error() {
            None => Ok(reading.lines.clone()),
            Some(fault) => Err(fault.clone().without_line()),
        }
    }

    /// Whether some folder has the file, be it empty.
    pub fn exists(&self, name: &str) -> bool {
        self.reading(name).found
    }

    /// The first line, which is the value of a file that holds one.
    pub fn first(&self, name: &str) -> Option<Line> {
        self.reading(name).lines.first().cloned()
    }

    /// The map `name`: from the first `name.cdb` in the order of the folders, else from the text file `name`.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn map(&self, name: &str) -> Result<Map, Fault> {
        let entry = self.map_entry(name);
        match (&entry.fault, &entry.text) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Some(_)) => self.sound_lines(name).map(|_| entry.map.clone()),
            (None, None) => Ok(entry.map.clone()),
        }
    }

    fn map_entry(&self, name: &str) -> Arc<FoundMap> {
        if let Some(entry) = self.read().maps.get(name) {
            return entry.clone();
        }
        let entry = Arc::new(self.find_map(name, None));
        let mut kept = self.write();
        kept.watch = None;
        kept.maps.entry(name.into()).or_insert(entry).clone()
    }

    /// Reads a file that has no name in the configuration (one per user, say) by the same rules, without keeping
    /// it; `None` if it is missing.
    ///
    /// # Errors
    /// It may be there and cannot be read.
    pub fn read_path(&self, path: &Path) -> Result<Option<Lines>, Fault> {
        let fault = |why: &str| Fault::error(format!("{}: {why}", path.display()));
        let absolute = std::path::absolute(path).map_err(|why| fault(&why.to_string()))?;
        let name = absolute.to_str().ok_or_else(|| fault("not UTF-8"))?;
        let reading = read_name(&self.dirs, name);
        // nobody knows whether it is there
        let wrong = reading.faults.iter().find(|fault| fault.is_error() || !reading.found);
        match wrong {
            Some(fault) => Err(fault.clone().without_line()),
            None => Ok(reading.found.then_some(reading.lines)),
        }
    }

    /// Sees what has changed since the names were first asked for. Call it at the start of a session.
    ///
    /// Each file that is there costs a `stat`, and each folder one for all that are not there: files created later
    /// are seen, and those that did not change are not read.
    pub fn refresh(&self) {
        let _one = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.read().watch.as_ref().is_some_and(Watch::is_quiet) {
            return;
        }
        let mut watch = Watch::folders(self.read().seen());
        self.read_again();
        let mut kept = self.write();
        watch.complete(kept.seen());
        kept.watch = Some(watch);
    }

    /// Looks at every path, and reads again what has moved.
    fn read_again(&self) {
        let stale: Vec<(Box<str>, Arc<Reading>)> = {
            let kept = self.read();
            let stale = kept
                .lines
                .iter()
                .filter(|(_, reading)| state(&reading.seen) != State::Same);
            stale.map(|(name, reading)| (name.clone(), reading.clone())).collect()
        };
        let mut moved = false;
        for (name, old) in stale {
            let new = read_name(&self.dirs, &name).after(&old);
            moved |= self.replace(name, &old, new);
        }
        moved |= self.refresh_maps();
        if moved {
            self.moved();
        }
    }

    /// Every file some answer came from, included ones among them.
    pub fn files_read(&self) -> Vec<PathBuf> {
        let kept = self.read();
        let there = kept.seen().filter(|look| look.is_there());
        there.map(|look| look.path().to_owned()).collect()
    }

    /// A number that moves whenever a refresh saw a change.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What is wrong with the files read so far and with the core settings.
    pub fn faults(&self) -> Vec<Fault> {
        let built = self.built();
        let kept = self.read();
        let mut faults = self.faults.clone();
        for reading in kept.lines.values() {
            faults.extend(reading.faults.iter().cloned());
        }
        for entry in kept.maps.values() {
            faults.extend(entry.fault.clone().or_else(|| entry.map.fault()));
        }
        faults.extend(built.faults.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        faults.retain(|fault| seen.insert(fault.to_string()));
        faults
    }

    /// The core settings, built anew only after a change. While a file is faulty, what held before holds.
    pub fn settings(&self) -> Arc<Settings> {
        self.built().settings
    }

    fn built(&self) -> Built {
        let at = self.changes();
        let mut kept = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*kept
            && built.at == at
        {
            return built.clone();
        }
        let all_read = Cell::new(true);
        let source = |name: &str| {
            let reading = self.reading(name);
            all_read.set(all_read.get() && reading.error().is_none());
            reading.lines.clone()
        };
        let (settings, faults) = match &self.home {
            Some(home) => Settings::read_for(&source, Some(home)),
            None => Settings::read(&source),
        };
        let sound = all_read.get() && !faults.iter().any(Fault::is_error);
        let before = kept.as_ref().filter(|before| before.sound && !sound);
        let built = Built {
            at,
            settings: before.map_or_else(|| Arc::new(settings), |before| before.settings.clone()),
            sound: sound || before.is_some(),
            faults: faults.into(),
        };
        kept.insert(built).clone()
    }

    /// The readings kept, to tell whether a refresh made new ones.
    #[cfg(test)]
    pub(super) fn readings(&self) -> Vec<*const ()> {
        self.read()
            .lines
            .values()
            .map(|reading| Arc::as_ptr(reading).cast())
            .collect()
    }

    /// Whether a refresh would find that nothing has changed.
    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        self.read().watch.as_ref().is_some_and(Watch::is_quiet)
    }

    fn reading(&self, name: &str) -> Arc<Reading> {
        if let Some(reading) = self.read().lines.get(name) {
            return reading.clone();
        }
        let reading = Arc::new(read_name(&self.dirs, name));
        let mut kept = self.write();
        kept.watch = None;
        kept.lines.entry(name.into()).or_insert(reading).clone()
    }

    /// Puts a new reading in the place of an old one. Lines that read the same stay the same lines, so that
    /// nothing derived from them is made again; only then is the answer `false`.
    fn replace(&self, name: Box<str>, old: &Arc<Reading>, mut new: Reading) -> bool {
        let equal = new.lines == old.lines && new.found == old.found && new.faults == old.faults;
        if new.lines == old.lines {
            new.lines = old.lines.clone();
        }
        let mut kept = self.write();
        // Somebody may have set it meanwhile.
        if kept.lines.get(&name).is_some_and(|now| Arc::ptr_eq(now, old)) {
            kept.lines.insert(name, Arc::new(new));
        }
        !equal
    }

    fn find_map(&self, name: &str, old: Option<&FoundMap>) -> FoundMap {
        FoundMap::find(&self.dirs, name, old, || self.lines(name))
    }

    fn refresh_maps(&self) -> bool {
        let entries: HashMap<Box<str>, Arc<FoundMap>> = self
            .read()
            .maps
            .iter()
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        let mut moved = false;
        for (name, entry) in entries {
            let text_moved = entry.text.as_ref().is_some_and(|text| !self.lines(&name).same(text));
            let old = &entry;
            let now = if text_moved { State::Moved } else { state(&entry.seen) };
            // An unsure one is opened again as well: what changed without a trace is then read afresh.
            if now != State::Same {
                let entry = Arc::new(self.find_map(&name, Some(old)));
                self.write().maps.insert(name, entry);
                moved |= now == State::Moved;
            }
        }
        moved
    }

    fn moved(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    // A panic elsewhere never leaves these half-written: every change is one insertion.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}
