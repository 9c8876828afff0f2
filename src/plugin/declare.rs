//! What a plugin declares of itself, and what it is given when it is loaded.

use std::path::PathBuf;

use super::{Arg, ArgSpec, BadWord, Hook, OnError, Plugin, Set, Word, read_args};
use crate::config::{Fault, Line, Lines, Lookup};
use crate::session::Loglevel;

/// A plugin's entry in the register; made by [`plugin!`](crate::plugin!).
pub struct Declaration {
    /// Its name in config/plugins, with its folder: `queue/maildir`.
    pub name: &'static str,
    /// What it does, one or more lines.
    pub about: &'static str,
    /// Its arguments.
    pub args: &'static [ArgSpec],
    /// The hooks it serves.
    pub hooks: &'static [Hook],
    /// The configuration files it reads.
    pub files: &'static [&'static str],
    /// Makes an instance from a line of config/plugins.
    pub load: fn(&mut Loading<'_>) -> Option<Box<dyn Plugin>>,
}

/// The arguments that every plugin has.
pub const COMMON: [ArgSpec; 2] = [
    ArgSpec {
        name: "loglevel",
        place: None,
        wants: Loglevel::WANTS,
        also: &[],
        default: None,
        required: || false,
        help: "The level of all records of this plugin, or how many levels to shift them.",
    },
    ArgSpec {
        name: "on_error",
        place: None,
        wants: OnError::WANTS,
        also: &[],
        default: Some(|| OnError::Defer.show()),
        required: || false,
        help: "What becomes of a failure of this plugin where it could refuse something: the client is asked to try \
               again (defer), or the next plugin is asked (skip).",
    },
];

/// Reads files that have no name in the configuration, one per user, say, by the rules of catalogue 2.2.
#[derive(Debug, Default)]
pub struct Files(Lookup);

impl Files {
    /// The lines of a file as it is now; none if it is missing.
    ///
    /// # Errors
    /// It may be there and cannot be read.
    pub fn read(&self, path: &std::path::Path) -> Result<Option<Lines>, Fault> {
        self.0.read_path(path)
    }
}

/// A plugin line while its plugin is being loaded.
pub struct Loading<'a> {
    /// The plugin's name as written, for faults.
    pub name: String,
    line: Line,
    words: Vec<Word>,
    lookup: &'a Lookup,
    faults: Vec<Fault>,
    pub(super) loglevel: Option<Loglevel>,
    pub(super) on_error: Option<OnError>,
}

impl<'a> Loading<'a> {
    /// Starts with a line and its arguments.
    pub fn new(name: String, line: Line, words: Vec<Word>, lookup: &'a Lookup) -> Loading<'a> {
        Loading {
            name,
            line,
            words,
            lookup,
            faults: Vec::new(),
            loglevel: None,
            on_error: None,
        }
    }

    /// The lines of a setting, as they are now.
    pub fn config(&self, name: &str) -> Lines {
        self.lookup.lines(name)
    }

    /// The file or folder of this name in the first configuration folder that has it.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let mut paths = self.lookup.dirs().iter().map(|dir| dir.join(name));
        paths.find(|path| path.exists())
    }

    /// A reader of files that have no name in the configuration.
    pub fn files(&self) -> Files {
        Files(Lookup::with_dirs(self.lookup.dirs().to_vec()))
    }

    /// The folders of the configuration, in the order in which they are looked through.
    pub fn config_dirs(&self) -> &[PathBuf] {
        self.lookup.dirs()
    }

    /// Reads the arguments; those that every plugin has are kept here, unless the plugin has its own of that name.
    pub fn read(&mut self, specs: &[ArgSpec], set: &mut dyn FnMut(&str, &str, &str) -> Set) {
        let own = |name: &str| specs.iter().any(|spec| spec.name == name);
        let common = COMMON.iter().filter(|spec| !own(spec.name));
        let all: Vec<&ArgSpec> = specs.iter().chain(common).collect();
        let (mut loglevel, mut on_error) = (None, None);
        let bad = read_args(&self.words, &all, &mut |field, name, word| match field {
            "loglevel" if !own(field) => Loglevel::set(&mut loglevel, name, word),
            "on_error" if !own(field) => OnError::set(&mut on_error, name, word),
            _ => set(field, name, word),
        });
        (self.loglevel, self.on_error) = (loglevel, on_error);
        for bad in bad {
            self.bad_word(&bad);
        }
    }

    fn bad_word(&mut self, bad: &BadWord) {
        let message = format!("{}: {}", self.name, bad.why);
        let word = &self.words[bad.at.min(self.words.len() - 1)];
        let fault = self.line.fault(word.start..word.start + word.text.len(), message);
        self.faults.push(if bad.warning { fault.as_warning() } else { fault });
    }

    /// A fault of the line as a whole.
    pub fn fault(&mut self, why: impl std::fmt::Display) {
        let message = format!("{}: {why}", self.name);
        self.faults.push(self.line.blame(&self.line, message));
    }

    /// A remark that does not keep the plugin from being loaded.
    pub fn warn(&mut self, why: impl std::fmt::Display) {
        let message = format!("{}: {why}", self.name);
        self.faults.push(self.line.blame(&self.line, message).as_warning());
    }

    /// A fault in a line of another file, which the plugin read while loading.
    pub fn fault_in(&mut self, line: &Line, why: impl std::fmt::Display) {
        let message = format!("{}: {why}", self.name);
        self.faults.push(line.blame(line, message));
    }

    /// A remark about a line of another file.
    pub fn warn_in(&mut self, line: &Line, why: impl std::fmt::Display) {
        let message = format!("{}: {why}", self.name);
        self.faults.push(line.blame(line, message).as_warning());
    }

    /// Whether anything so far keeps the plugin from being loaded.
    pub fn failed(&self) -> bool {
        self.faults.iter().any(Fault::is_error)
    }

    /// The faults found.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }
}
