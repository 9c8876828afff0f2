//! Databases: the one door to mysql, a client of MariaDB and MySQL.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{OptsBuilder, Pool, PoolConstraints, PoolOpts, Row as Answer, Value};

use super::dial;
use crate::session::remote::Target;
use crate::session::stores::{Database, Row};

/// The most connections that a worker keeps to one database.
const MOST_KEPT: usize = 4;
/// From so many databases on, those that have been asked are forgotten: more than one means that a setting has changed.
const MOST_DATABASES: usize = 4;
/// The longest answer, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Connections that are kept from one question to the next.
#[derive(Default)]
pub struct Databases(Mutex<HashMap<Database, Pool>>);

impl Databases {
    /// The first row that answers a question.
    ///
    /// # Errors
    /// The server is not there, refuses, or takes too long: for a connection, and each time it is read from.
    pub fn row(
        &self,
        database: &Database,
        question: &str,
        values: &[&str],
        wait: Duration,
    ) -> Result<Option<Row>, String> {
        let asked = || {
            let mut connection = self.pool(database, wait)?.try_get_conn(wait)?;
            let values: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
            connection.exec_first::<Answer, _, _>(question, values)
        };
        let row = asked().map_err(|why: mysql::Error| told(&why))?;
        Ok(row.map(|row| row.unwrap().into_iter().map(text).collect()))
    }

    fn pool(&self, database: &Database, wait: Duration) -> Result<Pool, mysql::Error> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(database) {
            return Ok(pool.clone());
        }
        if pools.len() >= MOST_DATABASES {
            pools.clear();
        }
        let pool = Pool::new(options(database, wait)?)?;
        pools.insert(database.clone(), pool.clone());
        Ok(pool)
    }
}

fn options(database: &Database, wait: Duration) -> Result<OptsBuilder, mysql::Error> {
    let kept = PoolConstraints::new_const::<0, MOST_KEPT>();
    let options = OptsBuilder::new()
        .user(Some(&database.user))
        .pass(Some(&database.password))
        .db_name(Some(&database.name))
        .prefer_socket(false)
        .max_allowed_packet(Some(MOST_BYTES))
        .tcp_connect_timeout(Some(wait))
        .read_timeout(Some(wait))
        .write_timeout(Some(wait))
        .pool_opts(PoolOpts::new().with_constraints(kept));
    Ok(match &database.at {
        Target::Unix(path) => options.socket(Some(path.to_string_lossy())),
        Target::Tcp(host, port) => {
            let addresses = dial::addresses(host, Instant::now() + wait).map_err(std::io::Error::from)?;
            let first = addresses.first().map(ToString::to_string);
            options.ip_or_hostname(first).tcp_port(*port)
        }
    })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// The error in words, on one line.
fn told(why: &mysql::Error) -> String {
    let text = why.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}
