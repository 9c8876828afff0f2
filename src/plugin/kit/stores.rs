//! Databases and directories that a plugin under test asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::session::stores::{Bound, Database, DirectoryLogin, Row, Stores};

/// Answers as the test told it; everything else does not exist.
#[derive(Clone, Default)]
pub struct KitStores(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    rows: HashMap<Vec<String>, Row>,
    entries: HashMap<String, (String, String)>,
    failure: Option<String>,
}

impl KitStores {
    /// The row that answers a question with these values.
    pub fn row_is(&self, values: &[&str], row: &[Option<&str>]) {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let row = row.iter().map(|field| field.map(str::to_owned)).collect();
        self.known().rows.insert(values, row);
    }

    /// The entry of a directory that a filter finds: its name and its password.
    pub fn entry_is(&self, filter: &str, name: &str, password: &str) {
        let entry = (name.to_owned(), password.to_owned());
        self.known().entries.insert(filter.to_owned(), entry);
    }

    /// From now on nobody can be asked.
    pub fn fails(&self, why: &str) {
        self.known().failure = Some(why.to_owned());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stores for KitStores {
    fn row(&self, _: &Database, _: &str, values: &[&str], _: std::time::Duration) -> Result<Option<Row>, String> {
        let known = self.known();
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        match &known.failure {
            Some(why) => Err(why.clone()),
            None => Ok(known.rows.get(&values).cloned()),
        }
    }

    fn bind(&self, login: &DirectoryLogin<'_>) -> Result<Bound, String> {
        let known = self.known();
        match (&known.failure, known.entries.get(login.filter)) {
            (Some(why), _) => Err(why.clone()),
            (None, None) => Ok(Bound::Nobody),
            (None, Some((name, password))) if password == login.password => Ok(Bound::Yes(name.clone())),
            (None, Some((name, _))) => Ok(Bound::WrongPassword(name.clone())),
        }
    }
}
