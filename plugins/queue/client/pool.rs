//! Connections that are kept for a further message of the same worker.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Open;

/// The most connections that are kept; a worker with one session at a time uses one.
const MOST: usize = 8;

/// Those that are kept, each with the time since when.
#[derive(Default)]
pub struct Pool(Mutex<Vec<(Instant, Open)>>);

impl Pool {
    /// Takes a connection to this host that has not waited longer than `keep` and still lives; ends all others.
    pub fn take(&self, host: Option<usize>, keep: Duration) -> Option<Open> {
        loop {
            let (since, mut open) = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let wanted = Some(open.host) == host && since.elapsed() <= keep;
            match open.link.is_quiet() {
                true if wanted => return Some(open),
                true => open.link.quit(),
                false => {}
            }
        }
    }

    /// Keeps a connection.
    pub fn put(&self, open: Open) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.len() < MOST {
            true => kept.push((Instant::now(), open)),
            false => {
                drop(kept);
                open.link.quit();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let kept = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        kept.drain(..).for_each(|(_, open)| open.link.quit());
    }
}
