//! The users of vpopmail in a database (catalogue 15.8).

mod dsn;

use std::time::Duration;

use crate::plugin::*;
use dsn::Dsn;

plugin! {
    /// Checks user and password against the table vpopmail of a MariaDB or MySQL database.
    ///
    /// The table has the columns pw_name, pw_domain, pw_passwd (a hash) and pw_clear_passwd, as vpopmail makes it; CRAM-MD5
    /// needs the last. Where the database is, stands in the files vpopmail_mysql_dsn, vpopmail_mysql_user and
    /// vpopmail_mysql_pass, of which changes hold at once. The connection is not encrypted.
    "auth/auth_vpopmail_sql", AuthVpopmailSql {
        /// How many seconds to wait for a connection, and for an answer.
        timeout: u32 = 10,
    }
    files ["vpopmail_mysql_dsn", "vpopmail_mysql_user", "vpopmail_mysql_pass"]
    state { dsn: Cached<Result<Dsn, String>>, decoy: Decoy }
    hooks [auth_plain, auth_login, auth_cram_md5]
    with [setup]
}

const QUESTION: &str = "SELECT pw_passwd, pw_clear_passwd FROM vpopmail WHERE pw_name = ? AND pw_domain = ?";
/// Where the database is, and as whom it is asked.
const FILES: [&str; 3] = ["vpopmail_mysql_dsn", "vpopmail_mysql_user", "vpopmail_mysql_pass"];
/// What the files say when they are missing.
const DEFAULTS: [&str; 3] = ["dbi:mysql:dbname=vpopmail;host=127.0.0.1", "vpopmailuser", "vpoppasswd"];

fn read(lines: &Lines) -> Result<Dsn, String> {
    Dsn::parse(lines.first().map_or(DEFAULTS[0], |line| line))
}

impl AuthVpopmailSql {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let lines = at.config("vpopmail_mysql_dsn");
        if let (Err(why), Some(line)) = (read(&lines), lines.first()) {
            at.fault_in(line, why);
        }
        Ok(())
    }

    fn auth_plain(&self, s: &mut Session, with: &Credentials) -> Answer {
        let Some((local, domain)) = with.user.rsplit_once('@') else {
            info!(s, "skip: the user has no domain");
            return declined();
        };
        let [dsn, name, password] = match FILES.map(|file| s.config(file)) {
            [Ok(dsn), Ok(name), Ok(password)] => [dsn, name, password],
            [Err(why), ..] | [_, Err(why), _] | [.., Err(why)] => return unavailable(s, why),
        };
        let dsn = self.dsn.get(dsn, read);
        let dsn = match &*dsn {
            Ok(dsn) => dsn,
            Err(why) => return unavailable(s, format_args!("vpopmail_mysql_dsn: {why}")),
        };
        let word = |lines: &Lines, default: &str| {
            lines
                .first()
                .map_or_else(|| default.to_owned(), |line| line.to_string())
        };
        let database = Database {
            at: dsn.at.clone(),
            name: dsn.name.clone(),
            user: word(&name, DEFAULTS[1]),
            password: word(&password, DEFAULTS[2]),
        };
        let key = [local.to_lowercase(), domain.to_lowercase()];
        let wait = Duration::from_secs(self.timeout.max(1).into());
        let found = s.services().stores.row(&database, QUESTION, &[&key[0], &key[1]], wait);
        match found.as_ref().map(|row| row.as_deref()) {
            Ok(Some([crypt, clear])) => {
                let stored = Stored {
                    crypt: crypt.as_deref(),
                    clear: clear.as_deref(),
                    ..Stored::default()
                };
                validate_evenly(s, Known::Row(stored), with, &self.decoy)
            }
            Ok(None) => {
                info!(s, "skip: no such user");
                validate_evenly(s, Known::Nobody(declined), with, &self.decoy)
            }
            Ok(Some(_)) => unavailable(s, "the database answered something else"),
            Err(why) => unavailable(s, why),
        }
    }

    fn auth_login(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }

    fn auth_cram_md5(&self, s: &mut Session, with: &Credentials) -> Answer {
        self.auth_plain(s, with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_decides() {
        let mut t = Kit::load(&DECLARATION, "");
        let hash = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        t.stores().row_is(&["joe", "example.com"], &[Some(hash), None]);
        t.stores()
            .row_is(&["tim", "example.com"], &[Some(""), Some("tanstaaftanstaaf")]);
        t.stores().row_is(&["none", "example.com"], &[None, Some("")]);
        t.stores().row_is(&["odd", "example.com"], &[None]);
        let mut login = |user: &str, password: &str| t.auth(&Credentials::password("plain", user, password));
        login("Joe@Example.com", "Hello world!").ok();
        login("joe@example.com", "hello world!").denied("wrong password");
        login("tim@example.com", "tanstaaftanstaaf").ok();
        login("none@example.com", "x").denied("no such user");
        let before = compared();
        login("nobody@example.com", "x").declined();
        assert_eq!(compared() - before, 1, "no faster than a wrong password");
        login("joe", "Hello world!").declined();
        login("odd@example.com", "x").declined();
        assert!(
            t.logged()
                .join("\n")
                .contains("error, the database answered something else")
        );
        let ticket = "<1896.697170952@postoffice.reston.mci.net>";
        let digest = Credentials::digest("tim@example.com", ticket, "b913a602c7eda7a495b4e6e7334d3890");
        t.auth(&digest).ok();
        t.stores().fails("no database");
        t.auth(&Credentials::password("plain", "joe@example.com", "Hello world!"))
            .declined();
        let logged = t.logged().join("\n");
        assert!(
            logged.contains("error, no database") && !logged.contains("Hello"),
            "{logged}"
        );
    }

    #[test]
    fn a_dsn_that_is_none_is_a_fault() {
        let faults = Kit::faults_with(&DECLARATION, "", &[("vpopmail_mysql_dsn", &["dbi:Pg:dbname=x"])]);
        assert!(faults.join("\n").contains("vpopmail_mysql_dsn:1"), "{faults:?}");
    }
}
