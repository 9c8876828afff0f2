//! A reader of constant databases (cdb, 32 bits), as qmail-newmrh and tinycdb write them.
//!
//! The file is read with `pread`, record by record: a mapping would kill the process by SIGBUS when somebody
//! truncates the file in place. Nothing in the file is trusted: every position and length is checked against
//! the size, and a search ends after as many slots as the table has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longest value that is read, in bytes.
const MAX_VALUE: u32 = 1 << 20;
/// 256 pairs of position and number of slots.
const HEADER: usize = 2048;

/// An open database. Records are read when asked for.
#[derive(Debug)]
pub(super) struct Cdb {
    file: File,
    size: u64,
    header: Box<[u8; HEADER]>,
}

impl Cdb {
    /// Opens a database and checks that its tables lie within it.
    pub(super) fn open(path: &Path) -> io::Result<Cdb> {
        // The kind is checked first: opening a pipe would wait for its other end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut header = Box::new([0; HEADER]);
        file.read_exact_at(&mut header[..], 0)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => corrupt(),
                _ => error,
            })?;
        let cdb = Cdb { file, size, header };
        for table in 0..256 {
            let (position, slots) = cdb.table(table);
            let end = u64::from(position) + u64::from(slots) * 8;
            if slots > 0 && ((position as usize) < HEADER || end > size) {
                return Err(corrupt());
            }
        }
        Ok(cdb)
    }

    /// Whether no record is in it.
    pub(super) fn is_empty(&self) -> bool {
        (0..256).all(|table| self.table(table).1 == 0)
    }

    /// The first value stored under `key`.
    ///
    /// # Errors
    /// When the file cannot be read or points outside itself.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let hash = key
            .iter()
            .fold(5381u32, |h, byte| h.wrapping_mul(33) ^ u32::from(*byte));
        let (position, slots) = self.table((hash & 0xff) as usize);
        if slots == 0 {
            return Ok(None);
        }
        let first = (hash >> 8) % slots;
        for step in 0..slots {
            let slot = (u64::from(first) + u64::from(step)) % u64::from(slots);
            let (found, record) = self.pair(u64::from(position) + slot * 8)?;
            if record == 0 {
                return Ok(None);
            }
            if found == hash
                && let Some(value) = self.record(u64::from(record), key)?
            {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of the record at `position` if its key is `key`.
    fn record(&self, position: u64, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (key_length, value_length) = self.pair(position)?;
        let start = position + 8;
        let end = start + u64::from(key_length) + u64::from(value_length);
        if end > self.size {
            return Err(corrupt());
        }
        if key_length as usize != key.len() {
            return Ok(None);
        }
        let mut found = vec![0; key.len()];
        self.file.read_exact_at(&mut found, start)?;
        if found != key {
            return Ok(None);
        }
        if value_length > MAX_VALUE {
            return Err(corrupt());
        }
        let mut value = vec![0; value_length as usize];
        self.file.read_exact_at(&mut value, start + u64::from(key_length))?;
        Ok(Some(value))
    }

    fn table(&self, number: usize) -> (u32, u32) {
        split(&self.header[number * 8..number * 8 + 8])
    }

    fn pair(&self, position: u64) -> io::Result<(u32, u32)> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, position)?;
        Ok(split(&bytes))
    }
}

/// Two little-endian numbers from eight bytes.
fn split(bytes: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (number(0), number(4))
}

fn corrupt() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "not a constant database, or a truncated one",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cdb2::CDBWriter;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn written(pairs: &[(Vec<u8>, Vec<u8>)]) -> (TempDir, std::path::PathBuf) {
        let dir = TempDir::new().expect("a folder");
        let path = dir.path().join("x.cdb");
        let mut writer = CDBWriter::create(&path).expect("a writer");
        for (key, value) in pairs {
            writer.add(key, value).expect("room");
        }
        writer.finish().expect("written");
        (dir, path)
    }

    fn pair(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
        (key.into(), value.into())
    }

    #[test]
    fn finds_what_another_wrote() {
        let (_dir, path) = written(&[
            pair("example.com", ""),
            pair("a", "1"),
            pair("a", "2"),
            pair("", "none"),
        ]);
        let cdb = Cdb::open(&path).expect("open");
        let get = |key: &str| {
            cdb.get(key.as_bytes())
                .expect("sound")
                .map(|value| String::from_utf8(value).expect("text"))
        };
        assert_eq!(get("example.com").as_deref(), Some(""));
        assert_eq!(get("a").as_deref(), Some("1"), "the first of equals");
        assert_eq!(get("").as_deref(), Some("none"));
        assert_eq!(get("example.org"), None);
        assert!(!cdb.is_empty());
    }

    #[test]
    fn finds_every_key_of_many() {
        let pairs: Vec<_> = (0..3000)
            .map(|n| pair(&format!("host{n}.example"), &n.to_string()))
            .collect();
        let (_dir, path) = written(&pairs);
        let cdb = Cdb::open(&path).expect("open");
        for (key, value) in &pairs {
            assert_eq!(cdb.get(key).expect("sound").as_ref(), Some(value));
        }
        assert_eq!(cdb.get(b"host3000.example").expect("sound"), None);
    }

    #[test]
    fn an_empty_one_is_empty() {
        let (_dir, path) = written(&[]);
        let cdb = Cdb::open(&path).expect("open");
        assert!(cdb.is_empty());
        assert_eq!(cdb.get(b"x").expect("sound"), None);
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let dir = TempDir::new().expect("a folder");
        let path = dir.path().join("x.cdb");
        for bytes in [Vec::new(), b"example.com\n".to_vec(), vec![b'x'; 5000]] {
            fs::write(&path, bytes).expect("written");
            assert!(Cdb::open(&path).is_err());
        }
        assert!(Cdb::open(dir.path()).is_err(), "a folder");
    }

    #[test]
    fn a_file_cut_while_open_is_an_error_and_no_signal() {
        let (_dir, path) = written(&[pair("key", "value")]);
        let cdb = Cdb::open(&path).expect("open");
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(2050))
            .expect("cut");
        assert!(cdb.get(b"key").is_err());
    }

    proptest! {
        /// Whatever happens to the bytes, the answer is a value, nothing or an error, never a panic or a hang.
        #[test]
        fn damage_does_no_harm(
            spots in proptest::collection::vec((0usize..2600, any::<u8>()), 1..40),
            keep in 0usize..2600,
        ) {
            let (_dir, path) = written(&[pair("one", "1"), pair("two", "2"), pair("three", "3")]);
            let mut bytes = fs::read(&path).expect("read");
            for (at, byte) in spots {
                if let Some(spot) = bytes.get_mut(at) {
                    *spot = byte;
                }
            }
            bytes.truncate(keep.max(bytes.len() / 2));
            fs::write(&path, bytes).expect("written");
            if let Ok(cdb) = Cdb::open(&path) {
                for key in ["one", "two", "three", "four"] {
                    let _ = cdb.get(key.as_bytes());
                }
            }
        }
    }
}
