//! Databases and directories, as far as this program was built with the libraries that reach them.

use crate::session::stores::Stores;

/// Asks databases and directories.
#[derive(Default)]
pub struct Libraries {
    #[cfg(feature = "mysql")]
    databases: super::sql::Databases,
}

impl Stores for Libraries {
    #[cfg(feature = "mysql")]
    fn row(
        &self,
        database: &crate::session::stores::Database,
        question: &str,
        values: &[&str],
        wait: std::time::Duration,
    ) -> Result<Option<crate::session::stores::Row>, String> {
        self.databases.row(database, question, values, wait)
    }

    #[cfg(feature = "ldap")]
    fn bind(
        &self,
        login: &crate::session::stores::DirectoryLogin<'_>,
    ) -> Result<crate::session::stores::Bound, String> {
        super::ldap::bind(login)
    }
}
