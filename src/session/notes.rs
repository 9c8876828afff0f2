//! What plugins remember of a client or of a transaction.
//!
//! A note is found by its type, so that plugins share one by sharing its type and a misspelt name does not compile.
//! Notes under names exist besides, for scripts.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;

/// The notes on one connection or one transaction.
#[derive(Default)]
pub struct Notes {
    typed: Vec<(TypeId, Box<dyn Any + Send>)>,
    named: BTreeMap<String, String>,
}

impl Notes {
    /// The note of this type, if there is one.
    pub fn get<T: Any + Send>(&self) -> Option<&T> {
        let wanted = TypeId::of::<T>();
        let (_, note) = self.typed.iter().find(|(id, _)| *id == wanted)?;
        note.downcast_ref()
    }

    /// The note of this type, made empty if there is none.
    pub fn entry<T: Any + Send + Default>(&mut self) -> &mut T {
        let wanted = TypeId::of::<T>();
        let at = match self.typed.iter().position(|(id, _)| *id == wanted) {
            Some(at) => at,
            None => {
                self.typed.push((wanted, Box::new(T::default())));
                self.typed.len() - 1
            }
        };
        match self.typed[at].1.downcast_mut() {
            Some(note) => note,
            None => unreachable!("a note is stored under its own type"),
        }
    }

    /// Keeps a note, in place of an older one of its type.
    pub fn put<T: Any + Send>(&mut self, note: T) {
        self.take::<T>();
        self.typed.push((TypeId::of::<T>(), Box::new(note)));
    }

    /// Takes a note away.
    pub fn take<T: Any + Send>(&mut self) -> Option<T> {
        let wanted = TypeId::of::<T>();
        let at = self.typed.iter().position(|(id, _)| *id == wanted)?;
        self.typed.swap_remove(at).1.downcast().ok().map(|note| *note)
    }

    /// The text kept under a name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    /// Keeps a text under a name.
    pub fn set_text(&mut self, name: &str, text: impl Into<String>) {
        self.named.insert(name.to_owned(), text.into());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.typed.clear();
        self.named.clear();
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notes({} typed, {:?})", self.typed.len(), self.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Count(u32);

    #[test]
    fn a_note_is_found_by_its_type() {
        let mut notes = Notes::default();
        assert!(notes.get::<Count>().is_none());
        notes.entry::<Count>().0 += 2;
        notes.put(7u64);
        assert_eq!(notes.get(), Some(&Count(2)));
        notes.put(Count(9));
        assert_eq!(notes.take::<Count>(), Some(Count(9)));
        assert!(notes.get::<Count>().is_none());
        assert_eq!(notes.get(), Some(&7u64));
    }
}
