//! The data source name of Perl's DBI for MySQL and MariaDB.

use crate::plugin::Target;

/// Where Debian and most others have the server's socket.
const SOCKET: &str = "/run/mysqld/mysqld.sock";
/// The port of the server.
const PORT: u16 = 3306;

/// What a data source name says.
#[derive(Debug, PartialEq, Eq)]
pub struct Dsn {
    /// Where the server is.
    pub at: Target,
    /// The database.
    pub name: String,
}

impl Dsn {
    /// Reads `dbi:mysql:dbname=vpopmail;host=127.0.0.1;port=3306`, with `database` or `db` for `dbname` and
    /// `mysql_socket` for host and port. `localhost`, or no host, is the socket where there is one, as to the libraries
    /// of MySQL. Other attributes of the driver (`mysql_...`, `mariadb_...`) are passed over.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Dsn, String> {
        let mut parts = text.trim().splitn(3, ':');
        let (dbi, driver) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let known = ["mysql", "mariadb"]
            .iter()
            .any(|known| driver.eq_ignore_ascii_case(known));
        let rest = match parts.next() {
            Some(rest) if dbi.eq_ignore_ascii_case("dbi") && known => rest,
            _ => return Err(format!("'{text}' does not begin with dbi:mysql:")),
        };
        let (mut name, mut host, mut port, mut socket) = ("", "", PORT, None);
        for (at, part) in rest.split(';').map(str::trim).enumerate() {
            match part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                Some(("dbname" | "database" | "db", value)) => name = value,
                Some(("host" | "hostname", value)) => host = value,
                Some(("port", value)) => port = value.parse().map_err(|_| format!("'{value}' is no port"))?,
                Some(("mysql_socket" | "mariadb_socket", value)) => socket = Some(value),
                Some((key, _)) if key.starts_with("mysql_") || key.starts_with("mariadb_") => {}
                Some((key, _)) => return Err(format!("'{key}' is none of dbname, host, port, mysql_socket")),
                None if part.is_empty() => {}
                None if at == 0 => name = part,
                None => return Err(format!("'{part}' has no value")),
            }
        }
        if name.is_empty() {
            return Err("dbname is missing".to_owned());
        }
        let local = || matches!(host, "" | "localhost") && std::path::Path::new(SOCKET).exists();
        let at = match socket.or_else(|| local().then_some(SOCKET)) {
            Some(path) => Target::Unix(path.into()),
            None if host.is_empty() => Target::Tcp("localhost".to_owned(), port),
            None => Target::Tcp(host.to_owned(), port),
        };
        Ok(Dsn {
            at,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_sources() {
        let tcp = |host: &str, port| Target::Tcp(host.to_owned(), port);
        for (text, at) in [
            ("dbi:mysql:dbname=vpopmail;host=127.0.0.1", tcp("127.0.0.1", 3306)),
            (
                "DBI:mysql:database=vpopmail;host=db.example.com;port=3307",
                tcp("db.example.com", 3307),
            ),
            (
                "dbi:MariaDB:vpopmail;host=db.example.com;mysql_read_timeout=3",
                tcp("db.example.com", 3306),
            ),
            (
                "dbi:mysql:db=vpopmail;mysql_socket=/run/db.sock",
                Target::Unix("/run/db.sock".into()),
            ),
        ] {
            assert_eq!(
                Dsn::parse(text),
                Ok(Dsn {
                    at,
                    name: "vpopmail".to_owned()
                }),
                "{text}"
            );
        }
        for bad in [
            "",
            "mysql:dbname=x",
            "dbi:Pg:dbname=x",
            "dbi:mysql",
            "dbi:mysql:",
            "dbi:mysql:host=x",
            "dbi:mysql:dbname=x;port=y",
            "dbi:mysql:dbname=x;hots=y",
            "dbi:mysql:dbname=x;host",
        ] {
            assert!(Dsn::parse(bad).is_err(), "{bad}");
        }
    }
}
