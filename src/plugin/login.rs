//! Logging in at another server: what a client of AUTH says (RFC 4616, RFC 2195).

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::password::hmac_md5;
use super::{base64, unbase64};

/// A user and a password of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login {{ user: {:?} }}", self.user)
    }
}

impl Login {
    /// With a user and a password.
    pub fn new(user: &str, password: &str) -> Login {
        Login {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Reads a file with one line `user:password`; lines that begin with `#` are comments. Comes with a remark if
    /// all users of the system can read it.
    ///
    /// # Errors
    /// It cannot be read, or has another form. The words hold nothing of what is in it.
    pub fn read(file: &Path) -> Result<(Login, Option<String>), String> {
        let about = |why: &dyn fmt::Display| format!("{}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|why| about(&why))?;
        let mut lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let found = lines
            .next()
            .and_then(|line| line.trim_end_matches('\r').split_once(':'));
        let login = match (found, lines.next()) {
            (Some((user, password)), None) if !user.is_empty() && !password.is_empty() => Login::new(user, password),
            _ => return Err(about(&"must hold one line 'user:password'")),
        };
        let open = std::fs::metadata(file).is_ok_and(|found| found.mode() & 0o004 != 0);
        Ok((
            login,
            open.then(|| about(&"every user of this system can read the password in it")),
        ))
    }

    /// What follows `AUTH PLAIN`.
    pub fn plain(&self) -> String {
        base64(format!("\0{}\0{}", self.user, self.password).as_bytes())
    }

    /// The first answer of LOGIN.
    pub fn user(&self) -> String {
        base64(self.user.as_bytes())
    }

    /// The second answer of LOGIN.
    pub fn password(&self) -> String {
        base64(self.password.as_bytes())
    }

    /// The answer of CRAM-MD5 to a challenge; none if that is not base64.
    pub fn cram_md5(&self, challenge: &str) -> Option<String> {
        let challenge = String::from_utf8(unbase64(challenge.trim())?).ok()?;
        let digest = hmac_md5(&self.password, &challenge);
        Some(base64(format!("{} {digest}", self.user).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn answers_are_those_of_the_rfcs() {
        let login = Login::new("tim", "tanstaaftanstaaf");
        // RFC 2195, 2; RFC 4616, 4
        let challenge = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
        let answer = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw";
        assert_eq!(login.cram_md5(challenge).as_deref(), Some(answer));
        assert_eq!(login.cram_md5("?"), None);
        assert_eq!(login.plain(), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
        assert_eq!(
            (login.user(), login.password()),
            ("dGlt".into(), "dGFuc3RhYWZ0YW5zdGFhZg==".into())
        );
        assert_eq!(format!("{login:?}"), "Login { user: \"tim\" }");
    }

    #[test]
    fn files_with_a_login() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("login");
        let read = |text: &str| {
            fs::write(&file, text).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
            Login::read(&file)
        };
        assert_eq!(read("# ours\ntim:a:b c\n"), Ok((Login::new("tim", "a:b c"), None)));
        for bad in ["", "tim\n", "tim:\n", ":x\n", "tim:x\njoe:y\n", "# only\n"] {
            let why = read(bad).expect_err(bad);
            assert!(why.ends_with("login: must hold one line 'user:password'"), "{why}");
        }
        fs::write(&file, "tim:x\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
        assert!(Login::read(&file).is_ok_and(|(_, remark)| remark.is_some_and(|why| why.contains("every user"))));
        fs::remove_file(&file).expect("removed");
        assert!(Login::read(&file).is_err());
    }
}
