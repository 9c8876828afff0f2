//! Where others keep their users: databases, which speak SQL, and directories, which speak LDAP. Nothing here knows how
//! they are asked.

use std::time::Duration;

use super::remote::Target;
use super::trust::ClientTls;

/// A database server, and what is wanted of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Database {
    /// Where it is.
    pub at: Target,
    /// The database.
    pub name: String,
    /// Who asks.
    pub user: String,
    /// The password for that.
    pub password: String,
}

/// The fields of a row; none for NULL.
pub type Row = Vec<Option<String>>;

/// A login at a directory: who it is is searched, then that entry must accept the password.
pub struct DirectoryLogin<'a> {
    /// Where it is.
    pub at: &'a Target,
    /// How to encrypt, and whether from the first byte (ldaps) or by StartTLS; none for not at all.
    pub tls: Option<(&'a ClientTls, AtOnce)>,
    /// Who searches, and the password for that; none for an anonymous search.
    pub searcher: Option<(&'a str, &'a str)>,
    /// Where to search, all that is below it included.
    pub base: &'a str,
    /// What to search, as RFC 4515 writes it, already escaped.
    pub filter: &'a str,
    /// The password that is tried; never empty, for that would be anonymous and accepted by most.
    pub password: &'a str,
    /// How long all of it may take.
    pub wait: Duration,
}

/// Whether TLS begins with the first byte.
pub type AtOnce = bool;

/// What came of a login at a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The entry of this name has accepted the password.
    Yes(String),
    /// The entry of this name has refused it.
    WrongPassword(String),
    /// There is no such entry.
    Nobody,
    /// There is more than one.
    Several,
}

/// Someone who asks them; blocks no longer than it is told.
pub trait Stores: Send + Sync {
    /// The first row that answers a question, whose question marks stand for the values; none if there is no row.
    ///
    /// # Errors
    /// Why there is no answer; no password is in it.
    fn row(
        &self,
        _database: &Database,
        _question: &str,
        _values: &[&str],
        _wait: Duration,
    ) -> Result<Option<Row>, String> {
        Err("this program was built without databases".to_owned())
    }

    /// Logs in at a directory.
    ///
    /// # Errors
    /// Why there is no answer; no password is in it.
    fn bind(&self, _login: &DirectoryLogin<'_>) -> Result<Bound, String> {
        Err("this program was built without directories".to_owned())
    }
}

/// Asks nobody.
pub struct NoStores;

impl Stores for NoStores {}
