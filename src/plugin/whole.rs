//! Something made of a whole file that is no list of lines.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The largest file, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// What was made of a file, and of which text; made again only when the text has changed.
#[derive(Debug)]
pub struct OfFile<T>(Mutex<Option<(String, Arc<T>)>>);

impl<T> Default for OfFile<T> {
    fn default() -> Self {
        OfFile(Mutex::new(None))
    }
}

impl<T> OfFile<T> {
    /// Reads the file as it is now, at most 1 MiB of it, and makes something of it.
    ///
    /// # Errors
    /// It cannot be read, or nothing made of it; with the path.
    pub fn read(&self, path: &Path, make: fn(&str) -> Result<T, String>) -> Result<Arc<T>, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let mut text = String::new();
        // opening a pipe would wait for its other end
        let meta = std::fs::metadata(path).map_err(|why| wrong(why.to_string()))?;
        if !meta.is_file() {
            return Err(wrong("not a regular file".to_owned()));
        }
        let file = File::open(path).map_err(|why| wrong(why.to_string()))?;
        let read = file.take(LARGEST + 1).read_to_string(&mut text);
        read.map_err(|why| wrong(why.to_string()))?;
        if text.len() as u64 > LARGEST {
            return Err(wrong("larger than 1 MiB".to_owned()));
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((from, made)) if *from == text => Ok(made.clone()),
            _ => {
                let made = Arc::new(make(&text).map_err(wrong)?);
                *kept = Some((text, made.clone()));
                Ok(made)
            }
        }
    }
}
