//! vpopmail's files, and those of qmail that lead to them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::plugin::Map;

/// The largest text file that is read, in bytes; who has more users has databases.
const MOST: u64 = 16 * 1024 * 1024;

/// The folder of qmail's users/assign and users/cdb.
pub struct Tree<'a>(pub &'a Path);

/// What is stored of a user; empty where nothing is.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// A hash of the password.
    pub crypt: String,
    /// The password.
    pub clear: String,
}

impl Tree<'_> {
    /// A user; none if there is no such domain or user. Both names are in lower case.
    ///
    /// # Errors
    /// A file that should be there cannot be read; which, and why.
    pub fn find(&self, local: &str, domain: &str) -> Result<Option<User>, String> {
        // a name with a colon or NUL would be looked for in another field
        if local.contains([':', '\0', '\n']) || domain.contains([':', '\0', '\n']) {
            return Ok(None);
        }
        let Some(folder) = self.folder(domain)? else {
            return Ok(None);
        };
        let line = match database(&folder.join("vpasswd.cdb"))? {
            Some(map) => map
                .get(local.as_bytes())
                .map_err(|fault| fault.to_string())?
                .map(|value| String::from_utf8_lossy(&value).into_owned()),
            None => {
                let text = text(&folder.join("vpasswd"))?;
                let found = text
                    .lines()
                    .find_map(|line| line.strip_prefix(local)?.strip_prefix(':'));
                found.map(str::to_owned)
            }
        };
        Ok(line.map(|line| user(&line)))
    }

    /// The folder of a domain.
    fn folder(&self, domain: &str) -> Result<Option<PathBuf>, String> {
        if let Some(map) = database(&self.0.join("cdb"))? {
            let value = map.get(format!("!{domain}-").as_bytes());
            let value = value.map_err(|fault| fault.to_string())?;
            let home = |value: Vec<u8>| {
                Some(PathBuf::from(
                    String::from_utf8_lossy(value.split(|b| *b == 0).nth(3)?).as_ref(),
                ))
            };
            return Ok(value.and_then(home));
        }
        let text = text(&self.0.join("assign"))?;
        let found = domains(&text).find(|(name, _)| *name == domain);
        Ok(found.map(|(_, folder)| folder))
    }

    /// The folders of all domains in users/assign.
    pub fn folders(&self) -> Vec<PathBuf> {
        let text = text(&self.0.join("assign")).unwrap_or_default();
        let mut folders: Vec<PathBuf> = domains(&text).map(|(_, folder)| folder).collect();
        folders.dedup();
        folders
    }
}

/// Domains and their folders: `+example.com-:example.com:89:89:/home/vpopmail/domains/example.com:-::`.
fn domains(text: &str) -> impl Iterator<Item = (&str, PathBuf)> {
    text.lines().filter_map(|line| {
        let mut fields = line.strip_prefix('+')?.split(':');
        let domain = fields.next()?.strip_suffix('-')?;
        Some((domain, fields.nth(3)?.into()))
    })
}

/// What follows the name in a line of vpasswd: `crypt:uid:gid:gecos:dir:quota[:clear]`.
fn user(line: &str) -> User {
    let mut fields = line.trim_end_matches(['\n', '\0']).splitn(7, ':');
    let mut field = |at| fields.nth(at).unwrap_or_default().to_owned();
    User {
        crypt: field(0),
        clear: field(5),
    }
}

/// A database; none if there is no such file.
fn database(path: &Path) -> Result<Option<Map>, String> {
    match fs::metadata(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        _ => Map::open(path).map(Some).map_err(|fault| fault.to_string()),
    }
}

fn text(path: &Path) -> Result<String, String> {
    let read = || match fs::metadata(path)?.len() {
        _ if !fs::metadata(path)?.is_file() => Err(std::io::Error::other("not a regular file")),
        length if length > MOST => Err(std::io::Error::other("too large, a database is needed")),
        _ => Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()),
    };
    read().map_err(|why| format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_vpasswd() {
        let user = |line| {
            let user = super::user(line);
            (user.crypt, user.clear)
        };
        let pair = |crypt: &str, clear: &str| (crypt.to_owned(), clear.to_owned());
        assert_eq!(user("$1$x:1:0:Joe:/home/joe:NOQUOTA:cl:ear"), pair("$1$x", "cl:ear"));
        assert_eq!(user("$1$x:1:0:Joe:/home/joe:NOQUOTA\n"), pair("$1$x", ""));
        assert_eq!(user(""), pair("", ""));
    }

    #[test]
    fn lines_of_assign() {
        let text = "=alias:alias:7790:2108:/var/qmail/alias:::\n+a.example-:a.example:89:89:/d/a:-::\n+user-:user:1:1:/home/user:-::\n.\n";
        let found: Vec<_> = domains(text).collect();
        assert_eq!(found, [("a.example", "/d/a".into()), ("user", "/home/user".into())]);
    }
}
