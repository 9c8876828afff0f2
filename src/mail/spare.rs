//! Buffers kept for the next message, so that receiving a message makes none.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many buffers are kept.
const MOST: usize = 4;

/// Buffers that nobody uses now, shared by the sessions of a process.
#[derive(Debug)]
pub struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// None yet.
    pub const fn new() -> Spares {
        Spares(Mutex::new(Vec::new()))
    }

    /// A buffer as it was when it was given, if there is one.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.kept().pop()
    }

    /// Keeps a buffer; it is dropped if enough are kept.
    pub fn give(&self, buffer: Vec<u8>) {
        let mut kept = self.kept();
        if kept.len() < MOST {
            kept.push(buffer);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Spares {
    fn default() -> Self {
        Spares::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_kept_as_they_were() {
        let spares = Spares::new();
        assert_eq!(spares.take(), None);
        (0..9).for_each(|n| spares.give(vec![n; 3]));
        let kept: Vec<Vec<u8>> = std::iter::from_fn(|| spares.take()).collect();
        assert_eq!(kept, [vec![3; 3], vec![2; 3], vec![1; 3], vec![0; 3]]);
    }
}
