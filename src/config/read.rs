//! Reading one file by the rules of catalogue 2.2: comments, blanks, `$include`.
//!
//! A reading remembers every path it looked at, present or absent, with a stamp, so that the lookup can
//! tell later, without reading, whether a new reading would give the same.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{Fault, Severity};
use super::lines::{Line, Lines, Place};
use super::stamp::{Seen, Stamp, is_absence};
use super::text;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most bytes that one lookup reads with all its includes, a file counting for at least [`FILE_COST`].
const MAX_TOTAL: u64 = 64 << 20;
/// What opening a file costs of that, so that includes that double at each level come to an end.
const FILE_COST: u64 = 4096;
/// Most faults that are told of one name.
const MAX_FAULTS: usize = 100;
/// How deep includes may nest.
const MAX_DEPTH: usize = 20;

/// What reading one name gave.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Whether the file is there, be it empty.
    pub(super) found: bool,
    pub(super) lines: Lines,
    pub(super) faults: Vec<Fault>,
    pub(super) seen: Vec<Seen>,
    /// Where the file was, when it could be looked for last.
    pub(super) path: Option<PathBuf>,
    /// The folders that could not be looked into.
    pub(super) shut: Vec<PathBuf>,
}

impl Reading {
    /// Why the lines are not what is meant: something could not be read.
    pub(super) fn error(&self) -> Option<&Fault> {
        self.faults.iter().find(|fault| fault.is_error())
    }

    /// The reading that comes after `old`. What was found is not gone because its folder cannot be looked into any more.
    pub(super) fn after(mut self, old: &Reading) -> Reading {
        let folder = old.path.as_deref().and_then(Path::parent);
        if !self.found
            && let Some(folder) = folder.filter(|folder| self.shut.iter().any(|shut| shut == folder))
        {
            let place = Place::of_file(folder);
            let is_of_folder = |fault: &&mut Fault| fault.place.as_ref() == Some(&place);
            let told = self.faults.iter_mut().filter(is_of_folder);
            told.for_each(|fault| fault.severity = Severity::Error);
            self.path.clone_from(&old.path);
        }
        self
    }
}

/// Reads `name` from the first of `dirs` that has it. An absolute name is a path.
pub(super) fn read_name(dirs: &[PathBuf], name: &str) -> Reading {
    let mut reader = Reader {
        dirs,
        ..Reader::default()
    };
    let found = reader.find(Path::new(name), |meta| !meta.is_dir());
    match &found {
        Some((path, meta)) => reader.file(path, meta, None),
        None => reader.tell_of_folders(),
    }
    // Doubling includes look at the same paths over and over.
    reader.seen.sort_by(|a, b| a.path().cmp(b.path()));
    reader.seen.dedup_by(|a, b| a.path() == b.path());
    Reading {
        found: found.is_some(),
        lines: reader.lines.into_iter().collect(),
        faults: reader.faults,
        seen: reader.seen,
        path: found.map(|(path, _)| path),
        shut: reader.shut,
    }
}

#[derive(Default)]
struct Reader<'a> {
    dirs: &'a [PathBuf],
    lines: Vec<Line>,
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    /// The files being read, outermost first: identity and name.
    open: Vec<((u64, u64), Arc<Path>)>,
    total: u64,
    shut: Vec<PathBuf>,
}

impl Reader<'_> {
    /// The first path of that name which is there and passes `fits`; an absolute name is taken as it is.
    fn find(&mut self, name: &Path, fits: impl Fn(&Metadata) -> bool) -> Option<(PathBuf, Metadata)> {
        let candidates: Vec<PathBuf> = if name.is_absolute() {
            vec![name.to_owned()]
        } else {
            self.dirs.iter().map(|dir| dir.join(name)).collect()
        };
        for path in candidates {
            let meta = fs::metadata(&path);
            self.seen.push(Seen::new(path.clone(), &meta));
            match meta {
                Ok(meta) if fits(&meta) => return Some((path, meta)),
                Ok(_) => {}
                Err(error) if is_absence(&error) => {}
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => self.unreadable(&path, &error),
                // The folder may not be searched: the next one counts, as if it were not there.
                Err(error) => {
                    let dir = path.parent().unwrap_or(&path);
                    let fault = Fault::warning(format!("cannot look into this folder: {error}"));
                    self.fault(fault.at(Place::of_file(dir)));
                    self.shut.push(dir.to_owned());
                }
            }
        }
        None
    }

    /// A folder where a file is looked for is no file that is missing.
    fn tell_of_folders(&mut self) {
        let there = self.seen.iter().filter(|look| look.is_there());
        let folders: Vec<PathBuf> = there.map(|look| look.path().to_owned()).collect();
        for folder in folders {
            self.unreadable(&folder, &io::ErrorKind::IsADirectory.into());
        }
    }

    /// Adds the lines of one file; `from` is the include line that asked for it.
    fn file(&mut self, path: &Path, meta: &Metadata, from: Option<&Line>) {
        let identity = Stamp::of(meta).identity();
        if self.open.iter().any(|(open, _)| *open == identity) {
            let chain: Vec<String> = self.open.iter().map(|(_, name)| name.display().to_string()).collect();
            let message = format!("circular $include: {} -> {}", chain.join(" -> "), path.display());
            self.blame(from, path, message);
            return;
        }
        if self.open.len() >= MAX_DEPTH {
            self.blame(from, path, format!("$include nested more than {MAX_DEPTH} deep"));
            return;
        }
        let bytes = match self.bytes(path, meta) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(path, &error),
        };
        let name: Arc<Path> = Arc::from(path);
        self.open.push((identity, name.clone()));
        self.text(&bytes, &name);
        self.open.pop();
    }

    fn bytes(&mut self, path: &Path, meta: &Metadata) -> io::Result<Vec<u8>> {
        // Opening a pipe would wait for its other end; /dev/null is a usual way to say "empty".
        if !meta.is_file() {
            let null = path.canonicalize().is_ok_and(|path| path == Path::new("/dev/null"));
            return if null {
                Ok(Vec::new())
            } else {
                Err(io::Error::other("not a regular file"))
            };
        }
        let room = MAX_TOTAL.saturating_sub(self.total);
        if room < FILE_COST {
            return Err(io::Error::other("too much is included"));
        }
        let most = MAX_FILE.min(room);
        let mut bytes = Vec::new();
        File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
        let size = bytes.len() as u64;
        if size > most {
            return Err(io::Error::other("too large"));
        }
        self.total += size.max(FILE_COST);
        Ok(bytes)
    }

    fn text(&mut self, bytes: &[u8], file: &Arc<Path>) {
        for (line, fault) in text::entries(bytes, file) {
            fault.into_iter().for_each(|fault| self.fault(fault));
            match text::include_path(&line) {
                Some("") => self.fault(line.fault(0..line.len(), "$include needs a path")),
                Some(path) => self.include(&line, path),
                None => self.lines.push(line),
            }
        }
    }

    /// Notes a fault, once, and no more of them than anybody would read.
    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Notes that a file or folder cannot be read. Where the system says so, as when it is out of descriptors, that may
    /// be over before anything about the file has changed, so that the next refresh reads it again.
    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        if error.raw_os_error().is_some() {
            let same = |look: &&mut Seen| look.path() == path;
            self.seen.iter_mut().filter(same).for_each(Seen::unsettle);
        }
        self.fault(Fault::error(format!("cannot read: {error}")).at(Place::of_file(path)));
    }

    fn include(&mut self, line: &Line, path: &str) {
        let Some((found, meta)) = self.find(Path::new(path), |_| true) else {
            return;
        };
        if !meta.is_dir() {
            self.file(&found, &meta, Some(line));
            return;
        }
        let names = match names_in(&found) {
            Ok(names) => names,
            Err(error) => return self.unreadable(&found, &error),
        };
        for name in names {
            let path = found.join(name);
            let look = fs::metadata(&path);
            self.seen.push(Seen::new(path.clone(), &look));
            match look {
                Ok(meta) if meta.is_file() => self.file(&path, &meta, Some(line)),
                Err(error) if !is_absence(&error) => self.unreadable(&path, &error),
                _ => {}
            }
        }
    }

    fn blame(&mut self, from: Option<&Line>, path: &Path, message: String) {
        self.fault(match from {
            Some(line) => line.fault(0..line.len(), message),
            None => Fault::error(message).at(Place::of_file(path)),
        });
    }
}

/// The names in a folder that do not start with a dot, sorted.
fn names_in(dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    struct Dirs(TempDir);

    impl Dirs {
        /// Two folders, `a` before `b`, with these files.
        fn with<B: AsRef<[u8]>>(files: &[(&str, B)]) -> Dirs {
            let dirs = Dirs(TempDir::new().expect("a folder"));
            for (name, bytes) in files {
                let path = dirs.path(name);
                fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                fs::write(path, bytes).expect("written");
            }
            dirs
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn read(&self, name: &str) -> Reading {
            read_name(&[self.path("a"), self.path("b")], name)
        }

        fn texts(&self, name: &str) -> Vec<String> {
            self.read(name).lines.iter().map(|line| line.text.to_string()).collect()
        }

        fn messages(&self, name: &str) -> Vec<String> {
            let root = format!("{}/", self.0.path().display());
            self.read(name)
                .faults
                .iter()
                .map(|fault| fault.headline().replace(&root, ""))
                .collect()
        }
    }

    #[test]
    fn a_missing_file_differs_from_an_empty_one() {
        let dirs = Dirs::with(&[("a/empty", ""), ("b/folder/x", "")]);
        assert!(dirs.read("empty").found);
        assert!(!dirs.read("missing").found);
        assert!(!dirs.read("folder").found);
        assert!(!dirs.read("empty/x").found);
    }

    #[test]
    fn the_first_folder_wins_name_by_name() {
        let dirs = Dirs::with(&[("a/x", "a"), ("b/x", "b"), ("b/y", "b")]);
        assert_eq!((dirs.texts("x"), dirs.texts("y")), (vec!["a".into()], vec!["b".into()]));
        let absolute = dirs.path("b/x");
        assert_eq!(dirs.texts(absolute.to_str().expect("text")), ["b"]);
    }

    #[test]
    fn includes_files_and_folders_in_place() {
        let dirs = Dirs::with(&[
            (
                "b/x",
                "one\n  $include y\nfour\n$include parts\n$include missing\n$includes\n",
            ),
            ("a/y", "two\n$include z"),
            ("b/z", "three"),
            ("a/parts/10", "six"),
            ("a/parts/05", "five"),
            ("a/parts/.hidden", "never"),
            ("a/parts/20/inner", "never"),
        ]);
        assert_eq!(
            dirs.texts("x"),
            ["one", "two", "three", "four", "five", "six", "$includes"]
        );
        assert_eq!(dirs.messages("x"), [""; 0]);
        assert_eq!(dirs.read("x").lines[2].place.file.as_ref(), dirs.path("b/z"));
        let absolute = format!("$include\t{}", dirs.path("b/z").display());
        fs::write(dirs.path("a/x"), absolute).expect("written");
        assert_eq!(dirs.texts("x"), ["three"]);
    }

    #[test]
    fn the_same_file_twice_is_no_circle() {
        let dirs = Dirs::with(&[("a/x", "$include y\n$include y"), ("a/y", "y")]);
        assert_eq!(dirs.texts("x"), ["y", "y"]);
        assert_eq!(dirs.messages("x"), [""; 0]);
    }

    #[test]
    fn a_circle_costs_only_the_line_that_closes_it() {
        let dirs = Dirs::with(&[("a/x", "one\n$include y\nfour"), ("a/y", "two\n$include x\nthree")]);
        assert_eq!(dirs.texts("x"), ["one", "two", "three", "four"]);
        assert_eq!(dirs.messages("x"), ["a/y:2:1: circular $include: a/x -> a/y -> a/x"]);
    }

    #[test]
    fn a_circle_through_a_link_or_a_folder_is_one() {
        let dirs = Dirs::with(&[("a/x", "one\n$include link"), ("a/all/y", "$include all\nend")]);
        symlink(dirs.path("a/x"), dirs.path("a/link")).expect("a link");
        assert_eq!(dirs.texts("x"), ["one"]);
        assert_eq!(dirs.messages("x").len(), 1);
        fs::write(dirs.path("a/x"), "$include all").expect("written");
        assert_eq!(dirs.texts("x"), ["end"]);
        assert_eq!(dirs.messages("x").len(), 1);
    }

    #[test]
    fn includes_end_somewhere() {
        let names: Vec<(String, String)> = (0..30)
            .map(|n| (format!("a/f{n}"), format!("line{n}\n$include f{}", n + 1)))
            .collect();
        let files: Vec<(&str, &str)> = names
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let dirs = Dirs::with(&files);
        assert_eq!(dirs.texts("f0").len(), MAX_DEPTH);
        assert_eq!(dirs.messages("f0"), ["a/f19:2:1: $include nested more than 20 deep"]);
        // Doubling at each level would read a million files.
        for n in 0..30 {
            fs::write(
                dirs.path(&format!("a/f{n}")),
                format!("$include f{0}\n$include f{0}\nx", n + 1),
            )
            .expect("written");
        }
        let reading = dirs.read("f0");
        assert!(reading.lines.len() as u64 <= MAX_TOTAL / FILE_COST);
        assert!(!reading.faults.is_empty());
        assert!(
            reading.faults.len() < 100,
            "told once, not {} times",
            reading.faults.len()
        );
    }

    #[test]
    fn what_cannot_be_read_is_empty_and_a_fault() {
        let dirs = Dirs::with(&[("a/bare", "$include")]);
        let _socket = std::os::unix::net::UnixListener::bind(dirs.path("a/socket")).expect("a socket");
        assert_eq!(dirs.messages("socket"), ["a/socket: cannot read: not a regular file"]);
        assert!(dirs.read("socket").found);
        symlink("/dev/null", dirs.path("a/null")).expect("a link");
        assert_eq!(dirs.messages("null"), [""; 0]);
        assert!(dirs.read("null").found);
        File::create(dirs.path("a/huge"))
            .and_then(|file| file.set_len(MAX_FILE + 1))
            .expect("written");
        assert_eq!(dirs.messages("huge"), ["a/huge: cannot read: too large"]);
        assert_eq!(dirs.messages("bare"), ["a/bare:1:1: $include needs a path"]);
    }
}
