//! Which faults of the configuration have been told: a file that becomes faulty while the daemon runs is logged once by
//! each process.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::config::{Fault, Lookup};

/// What was told, and as of which change of the files.
pub(super) struct Told(Mutex<(u64, HashSet<String>)>);

impl Told {
    /// These were told when the configuration was loaded.
    pub(super) fn of(faults: &[Fault], lookup: &Lookup) -> Told {
        let told = faults.iter().map(Fault::headline).collect();
        Told(Mutex::new((lookup.changes(), told)))
    }

    /// The faults that have come up since. Those that are mended are forgotten.
    pub(super) fn news(&self, lookup: &Lookup) -> Vec<Fault> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = lookup.changes();
        if told.0 == at {
            return Vec::new();
        }
        let faults = lookup.faults();
        let now = faults.iter().map(Fault::headline).collect();
        let before = std::mem::replace(&mut *told, (at, now)).1;
        let is_new = |fault: &Fault| !before.contains(&fault.headline());
        faults.into_iter().filter(is_new).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_fault_is_told_once_until_it_comes_again() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("databytes");
        let lookup = Lookup::with_dirs(vec![dir.path().to_owned()]);
        let put = |text: &str| {
            fs::write(&file, text).expect("written");
            lookup.refresh();
        };
        put("10\n");
        assert_eq!(lookup.settings().databytes, 10);
        let told = Told::of(&[], &lookup);
        let news = || told.news(&lookup).iter().map(Fault::headline).collect::<Vec<_>>();
        assert!(news().is_empty());
        for _ in 0..2 {
            put("ten\n");
            let said = news();
            assert!(
                said.len() == 1 && said[0].ends_with("'ten' is no whole number"),
                "{said:?}"
            );
            assert!(news().is_empty());
            put("ten\n\n");
            assert!(news().is_empty(), "the same fault");
            put("10\n");
            assert!(news().is_empty());
        }
    }
}
