//! Stamps of files: how to tell, without reading, that a file is still what it was.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What tells one state of a path from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Stamp {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether a change after this stamp was taken is sure to move the stamp. File times tick coarsely: what
    /// changed within the last second may change again without a trace. Only the time of change counts: the
    /// time of modification can be set to any value, also to one in the future.
    fn settled(&self) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        i64::try_from(now).is_ok_and(|now| self.changed.0 + 1 < now)
    }

    /// What stays the same whatever name leads to the file.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A path that was looked at, and what was found there.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// Nobody knows what is there: it cannot be looked at.
    hidden: bool,
    settled: bool,
}

impl Seen {
    /// Looks at `path`.
    pub(super) fn look(path: PathBuf) -> Seen {
        let meta = fs::metadata(&path);
        Seen::new(path, &meta)
    }

    /// A path that was just looked at.
    pub(super) fn new(path: PathBuf, meta: &io::Result<Metadata>) -> Seen {
        let (stamp, hidden) = looked(meta);
        Seen {
            path,
            stamp,
            hidden,
            settled: stamp.is_none_or(|stamp| stamp.settled()),
        }
    }

    /// What is there could not be read, which may be otherwise next time though nothing about the file has changed.
    pub(super) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// Whether something may be there and cannot be looked at.
    pub(super) fn is_hidden(&self) -> bool {
        self.hidden
    }

    pub(super) fn is_there(&self) -> bool {
        self.stamp.is_some()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that shows by its own stamp if something comes into being at this path; none if something is
    /// there, be it a link that leads nowhere.
    pub(super) fn gap(&self) -> Option<&Path> {
        let nothing = self.stamp.is_none() && fs::symlink_metadata(&self.path).is_err();
        self.path
            .parent()
            .filter(|folder| nothing && !folder.as_os_str().is_empty())
    }

    /// Compares with the state now. One `stat`.
    pub(super) fn state(&self) -> State {
        let (stamp, hidden) = looked(&fs::metadata(&self.path));
        if (stamp, hidden) != (self.stamp, self.hidden) {
            State::Moved
        } else if self.settled {
            State::Same
        } else {
            State::Unsure
        }
    }
}

/// The stamp of what is there, and whether nobody knows.
fn looked(meta: &io::Result<Metadata>) -> (Option<Stamp>, bool) {
    match meta {
        Ok(meta) => (Some(Stamp::of(meta)), false),
        Err(error) => (None, !is_absence(error)),
    }
}

/// Whether an error says that there is nothing.
pub(super) fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// How a path compares with what was seen there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Nothing has changed.
    Same,
    /// It changed so shortly before it was seen that a later change need not show, or it could not be read.
    Unsure,
    /// It has changed, come or gone.
    Moved,
}

/// The fewest paths to look at to be sure that none of many has changed: most of them are names of files that are
/// not there, and one look at their folder answers for all of these.
#[derive(Debug, Default)]
pub(super) struct Watch(Vec<Seen>);

impl Watch {
    /// The folders of those that are not there, to be looked at before the paths themselves are, so that what
    /// comes between is seen later.
    pub(super) fn folders<'a>(seen: impl Iterator<Item = &'a Seen>) -> Watch {
        let folders: BTreeSet<&Path> = seen.filter_map(Seen::gap).collect();
        Watch(folders.into_iter().map(|path| Seen::look(path.to_owned())).collect())
    }

    /// Adds those that these folders do not answer for.
    pub(super) fn complete<'a>(&mut self, seen: impl Iterator<Item = &'a Seen>) {
        let answers = |look: &Seen| {
            look.gap()
                .is_some_and(|gap| self.0.iter().any(|folder| folder.path == gap))
        };
        let mut rest: Vec<Seen> = seen.filter(|look| !answers(look)).cloned().collect();
        rest.sort_by(|a, b| a.path.cmp(&b.path));
        rest.dedup_by(|a, b| a.path == b.path && a.stamp == b.stamp && a.settled == b.settled);
        self.0.extend(rest);
    }

    /// Whether nothing has changed.
    pub(super) fn is_quiet(&self) -> bool {
        state(&self.0) == State::Same
    }
}

/// The worst state of several paths.
pub(super) fn state(seen: &[Seen]) -> State {
    let mut worst = State::Same;
    for look in seen {
        worst = worst.max(look.state());
        if worst == State::Moved {
            break;
        }
    }
    worst
}
