//! Writing into maildirs so that a crash at any moment leaves a message whole or not at all.
//!
//! Of each file: made under a name that nobody else makes, written in one go, synced, and moved from `tmp` to `new`;
//! then `new` is synced. That is six system calls for a message that fits into memory. What a killed process left in
//! `tmp` is removed after 36 hours, as the maildir format has it.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::place::Mode;
use crate::plugin::{Message, host_name, sweep};

/// How long the handle of a directory is used before it is looked whether the path still leads there.
const FRESH: Duration = Duration::from_secs(1);
/// How many handles of directories are kept.
const MOST_OPEN: usize = 64;

/// One file to write.
pub struct Copy {
    /// The maildir.
    pub dir: PathBuf,
    /// The lines above the header of the message.
    pub top: String,
}

/// All that a process keeps from one delivery to the next.
#[derive(Default)]
pub struct Store {
    /// The mode of what is made.
    pub mode: Mode,
    names: OnceLock<Names>,
    open: Mutex<HashMap<PathBuf, Arc<New>>>,
}

/// The directory `new` of a maildir.
struct New {
    handle: File,
    seen: Instant,
}

/// What makes the names of files unique.
struct Names {
    process: u32,
    host: String,
    counter: AtomicU32,
}

/// A file in `tmp` or, later, in `new`; removed unless the delivery is complete.
struct Written {
    /// The maildir.
    root: PathBuf,
    name: String,
    published: bool,
    keep: bool,
}

impl Store {
    /// Writes all copies of a message and makes them visible; all or none of them.
    ///
    /// # Errors
    /// Those of the file system; nothing of the message is left behind then.
    pub fn deliver(&self, copies: &[Copy], message: &Message, now: SystemTime) -> io::Result<()> {
        let mut header = Vec::with_capacity(message.header.bytes());
        message.header.write_to(&mut header)?;
        let mut written = Vec::with_capacity(copies.len());
        for copy in copies {
            let (mut file, entry) = self.create(&copy.dir, now)?;
            written.push(entry);
            match message.body.in_memory() {
                Some(body) => write_all(&mut file, &mut [copy.top.as_bytes(), &header, body].map(IoSlice::new))?,
                None => {
                    write_all(&mut file, &mut [copy.top.as_bytes(), &header].map(IoSlice::new))?;
                    message.body.copy_to(&mut file)?;
                }
            }
            if self.mode.is_shared() {
                file.set_permissions(Permissions::from_mode(self.mode.of_files()))?;
            }
            file.sync_all()?;
        }
        self.publish(written).inspect_err(|_| {
            // what was known of the directories may be wrong
            self.open().clear();
        })
    }

    /// A new file in `tmp`. A maildir that is not there, or not complete, is made.
    fn create(&self, root: &Path, now: SystemTime) -> io::Result<(File, Written)> {
        let names = self.names.get_or_init(Names::new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(self.mode.of_files());
        let mut made = false;
        loop {
            let name = names.next(now);
            match options.open(root.join("tmp").join(&name)) {
                Ok(file) => {
                    let written = Written {
                        root: root.to_owned(),
                        name,
                        published: false,
                        keep: false,
                    };
                    return Ok((file, written));
                }
                // somebody else's: the next name is another
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound && !made => {
                    make(root, self.mode)?;
                    self.open().remove(root);
                    made = true;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Moves all files to `new` and syncs the directories.
    fn publish(&self, mut written: Vec<Written>) -> io::Result<()> {
        let mut directories: Vec<(&Path, Arc<New>)> = Vec::new();
        for one in &written {
            if !directories.iter().any(|(root, _)| *root == one.root) {
                directories.push((&one.root, self.directory(&one.root)?));
            }
        }
        let directories: Vec<Arc<New>> = directories.into_iter().map(|(_, directory)| directory).collect();
        for one in &mut written {
            fs::rename(one.path(), one.root.join("new").join(&one.name))?;
            one.published = true;
        }
        for directory in directories {
            directory.handle.sync_all()?;
        }
        written.iter_mut().for_each(|one| one.keep = true);
        Ok(())
    }

    /// The directory `new` of a maildir, from those that are open, or opened now.
    fn directory(&self, root: &Path) -> io::Result<Arc<New>> {
        let mut open = self.open();
        if let Some(known) = open.get(root)
            && known.seen.elapsed() < FRESH
        {
            return Ok(known.clone());
        }
        let handle = match File::open(root.join("new")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make(root, self.mode)?;
                File::open(root.join("new"))?
            }
            other => other?,
        };
        if !open.contains_key(root) {
            sweep(&root.join("tmp"), |_| true);
        }
        if open.len() >= MOST_OPEN {
            open.clear();
        }
        let seen = Instant::now();
        let new = Arc::new(New { handle, seen });
        open.insert(root.to_owned(), new.clone());
        Ok(new)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<New>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn new() -> Names {
        Names {
            process: std::process::id(),
            // the characters that mean something in paths and in the flags of a maildir
            host: host_name().replace('/', "\\057").replace(':', "\\072"),
            // two containers may share their host name, process numbers and the clock, but not this
            counter: AtomicU32::new(RandomState::new().hash_one(0) as u32),
        }
    }

    /// `<time>.P<pid>M<usec>Q<counter>.<hostname>`
    fn next(&self, now: SystemTime) -> String {
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (process, host) = (self.process, &self.host);
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        format!(
            "{}.P{process}M{}Q{counter}.{host}",
            time.as_secs(),
            time.subsec_micros()
        )
    }
}

impl Written {
    fn path(&self) -> PathBuf {
        let folder = if self.published { "new" } else { "tmp" };
        self.root.join(folder).join(&self.name)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.keep {
            // what cannot be removed from tmp will be, by age
            let _ = fs::remove_file(self.path());
        }
    }
}

/// Writes all pieces, normally with one system call.
fn write_all(file: &mut File, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut rest = pieces;
    IoSlice::advance_slices(&mut rest, 0); // passes over empty ones
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes a maildir with what is missing of it, parents included.
fn make(root: &Path, mode: Mode) -> io::Result<()> {
    make_dir(root, mode)?;
    for name in ["cur", "new", "tmp"] {
        make_dir(&root.join(name), mode)?;
    }
    Ok(())
}

fn make_dir(dir: &Path, mode: Mode) -> io::Result<()> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let create = || DirBuilder::new().mode(mode.of_dirs()).create(dir);
    let created = match create() {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !parent.exists() => {
            make_dir(parent, mode)?;
            create()
        }
        other => other,
    };
    match created {
        Ok(()) if mode.is_shared() => fs::set_permissions(dir, Permissions::from_mode(mode.of_dirs()))?,
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) => return Err(e),
    }
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn names_have_the_form_of_the_original_and_differ() {
        let names = Names {
            process: 7,
            host: "a".into(),
            counter: AtomicU32::new(u32::MAX),
        };
        let now = UNIX_EPOCH + Duration::new(5, 6_000);
        assert_eq!(names.next(now), "5.P7M6Q4294967295.a");
        assert_eq!(names.next(now), "5.P7M6Q0.a");
        assert!(!Names::new().host.contains(['/', ':']));
    }

    #[test]
    fn a_handle_that_is_not_fresh_is_looked_for_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (root, new) = (dir.path().join("mail"), dir.path().join("mail/new"));
        make(&root, Mode::default()).unwrap();
        let store = Store::default();
        let inode = |handle: &File| handle.metadata().unwrap().ino();
        let known = inode(&store.directory(&root).unwrap().handle);
        fs::rename(&new, root.join("aside")).unwrap();
        fs::create_dir(&new).unwrap();
        let found = |seen: Instant| {
            let handle = File::open(root.join("aside")).unwrap();
            store.open().insert(root.clone(), Arc::new(New { handle, seen }));
            inode(&store.directory(&root).unwrap().handle)
        };
        // a moment that is yet to come is fresh on a slow machine, too
        assert_eq!(found(Instant::now() + 60 * FRESH), known);
        assert_eq!(found(Instant::now() - FRESH), inode(&File::open(&new).unwrap()));
    }

    #[test]
    fn pieces_of_any_length_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = File::create(&path).unwrap();
        write_all(&mut file, &mut [b"".as_slice(), b"a", b"", b"bc"].map(IoSlice::new)).unwrap();
        write_all(&mut file, &mut [IoSlice::new(b"")]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(write_all(&mut full, &mut [IoSlice::new(b"x")]).is_err());
    }
}
