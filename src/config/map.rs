//! A map from keys to values: a cdb file, a plain text file in its stead, or a test's pairs.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cdb::Cdb;
use super::fault::Fault;
use super::lines::{Lines, Place};
use super::stamp::Seen;

/// A map from keys to values. A clone shares it.
#[derive(Clone, Default)]
pub struct Map(Arc<Source>);

enum Source {
    Cdb {
        cdb: Cdb,
        file: Arc<Path>,
        damaged: AtomicBool,
    },
    Lines(HashMap<Box<[u8]>, Box<[u8]>>),
    Pairs(HashMap<Box<[u8]>, Box<[u8]>>),
}

impl Default for Source {
    fn default() -> Source {
        Source::Pairs(HashMap::new())
    }
}

impl Map {
    /// The value of `key`, compared byte by byte.
    ///
    /// # Errors
    /// The file is damaged, or was exchanged under our hands.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match &*self.0 {
            Source::Lines(pairs) | Source::Pairs(pairs) => Ok(pairs.get(key).map(|value| value.to_vec())),
            Source::Cdb { cdb, file, damaged } => cdb.get(key).map_err(|why| {
                damaged.store(true, Ordering::Relaxed);
                Fault::error(format!("cannot read: {why}")).at(Place::of_file(file))
            }),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        match &*self.0 {
            Source::Lines(pairs) | Source::Pairs(pairs) => pairs.is_empty(),
            Source::Cdb { cdb, .. } => cdb.is_empty(),
        }
    }

    /// Whether it was made of the lines of a text file, and so holds no more than they do.
    pub fn is_text(&self) -> bool {
        matches!(&*self.0, Source::Lines(_))
    }

    /// A map of these pairs.
    pub fn of<K: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (K, V)>) -> Map {
        let boxed = |(key, value): (K, V)| (Box::from(key.as_ref()), Box::from(value.as_ref()));
        Map(Arc::new(Source::Pairs(pairs.into_iter().map(boxed).collect())))
    }

    /// A map of lines: the first word, in lower case as qmail-newmrh would write it, is the key and the rest the
    /// value. The first line of a key wins, as it would in a cdb.
    pub(super) fn of_lines(lines: &Lines) -> Map {
        let mut pairs = HashMap::new();
        for line in lines {
            let (key, value) = line.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((line, ""));
            let key = key.to_ascii_lowercase().into_bytes().into_boxed_slice();
            pairs.entry(key).or_insert_with(|| Box::from(value.trim().as_bytes()));
        }
        Map(Arc::new(Source::Lines(pairs)))
    }

    /// Opens a cdb file.
    ///
    /// # Errors
    /// A fault that names the file.
    pub fn open(path: &Path) -> Result<Map, Fault> {
        let fault = |error| Fault::error(format!("cannot read: {error}")).at(Place::of_file(path));
        let cdb = Cdb::open(path).map_err(fault)?;
        Ok(Map(Arc::new(Source::Cdb {
            cdb,
            file: Arc::from(path),
            damaged: AtomicBool::new(false),
        })))
    }

    /// The fault of a file that turned out to be damaged while it was searched.
    pub(super) fn fault(&self) -> Option<Fault> {
        match &*self.0 {
            Source::Cdb { file, damaged, .. } if damaged.load(Ordering::Relaxed) => {
                let fault = Fault::error("damaged: a record lies outside the file");
                Some(fault.at(Place {
                    file: file.clone(),
                    line: 0,
                }))
            }
            _ => None,
        }
    }
}

/// A map that was looked for in the folders of the configuration.
#[derive(Debug)]
pub(super) struct FoundMap {
    pub(super) map: Map,
    pub(super) fault: Option<Fault>,
    /// What was looked at.
    pub(super) seen: Vec<Seen>,
    /// The database, be it one that cannot be read.
    cdb: Option<PathBuf>,
    /// The text the map was made of, if there was no cdb.
    pub(super) text: Option<Lines>,
}

impl FoundMap {
    /// A map that comes from no file.
    pub(super) fn of(map: Map) -> FoundMap {
        FoundMap {
            map,
            fault: None,
            seen: Vec::new(),
            cdb: None,
            text: None,
        }
    }

    /// Looks for `name.cdb` in the folders, and else takes the text. What was a database stays one though nobody can
    /// look at it any more.
    pub(super) fn find(dirs: &[PathBuf], name: &str, old: Option<&FoundMap>, text: impl FnOnce() -> Lines) -> FoundMap {
        let was = old.and_then(|old| old.cdb.as_deref());
        let mut seen = Vec::new();
        for dir in dirs {
            let path = dir.join(format!("{name}.cdb"));
            let look = Seen::look(path.clone());
            let is_database = look.is_there() || (look.is_hidden() && was == Some(&*path));
            seen.push(look);
            if is_database {
                let (map, fault) = match Map::open(&path) {
                    Ok(map) => (map, None),
                    Err(fault) => {
                        // what the system refuses now it may grant later, with the same file
                        seen.iter_mut().for_each(Seen::unsettle);
                        (Map::default(), Some(fault))
                    }
                };
                return FoundMap {
                    fault,
                    seen,
                    cdb: Some(path),
                    ..FoundMap::of(map)
                };
            }
        }
        let text = text();
        FoundMap {
            seen,
            text: Some(text.clone()),
            ..FoundMap::of(Map::of_lines(&text))
        }
    }
}

impl Debug for Map {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::Lines(pairs) | Source::Pairs(pairs) => write!(f, "Map({} pairs)", pairs.len()),
            Source::Cdb { file, .. } => write!(f, "Map({})", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_in_lower_case_and_values() {
        let map = Map::of_lines(&Lines::of("m", ["Example.COM", "a  one two ", "a again"]));
        assert_eq!(map.get(b"example.com"), Ok(Some(Vec::new())));
        assert_eq!(map.get(b"a"), Ok(Some(b"one two".to_vec())));
        assert_eq!(map.get(b"Example.COM"), Ok(None));
        assert!(!map.is_empty());
        assert!(Map::default().is_empty());
    }

    #[test]
    fn damage_found_while_searching_is_a_fault() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let path = dir.path().join("m.cdb");
        let mut writer = cdb2::CDBWriter::create(&path).expect("a writer");
        writer.add(b"key", b"value").expect("room");
        writer.finish().expect("written");
        let map = Map::open(&path).expect("sound");
        assert_eq!(map.get(b"key"), Ok(Some(b"value".to_vec())));
        assert_eq!(map.fault(), None);
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(2050))
            .expect("cut");
        assert!(map.get(b"key").is_err());
        let fault = map.fault().expect("a fault");
        assert_eq!(
            fault.to_string(),
            format!("{}: damaged: a record lies outside the file", path.display())
        );
    }
}
