//! Settings of a recipient's own (catalogue 22.2).

use std::path::PathBuf;

use crate::plugin::*;

plugin! {
    /// Lets each recipient have settings of its own, in a folder that is named after it.
    ///
    /// Plugins with an argument per_recipient ask for them. Where a recipient's folder has no file of the setting's
    /// name, that of config counts. The files follow the rules of those in config, `$include` among them, and are
    /// read with the rights of the daemon. While one cannot be read the client is asked to try again.
    "user_config", UserConfig {
        /// The folder, such as /home/%u/.qpsmtpd: `%u` stands for the user, `%h` for the host, `%a` for the address.
        @1 folder: Template,
    }
    state { files: Files }
    hooks [user_config]
    with [setup, needs]
}

/// A path with places for the parts of an address.
struct Template(Vec<Part>);

enum Part {
    Text(String),
    User,
    Host,
    Address,
}

impl Arg for Template {
    const WANTS: &'static str = "a path with %u, %h or %a in it";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let mut parts = Vec::new();
        let mut rest = word;
        while let Some((text, behind)) = rest.split_once('%') {
            parts.push(Part::Text(text.to_owned()));
            let mut chars = behind.chars();
            parts.push(match chars.next() {
                Some('u') => Part::User,
                Some('h') => Part::Host,
                Some('a') => Part::Address,
                _ => return Err(format!("only %u, %h and %a are known in '{word}'")),
            });
            rest = chars.as_str();
        }
        let constant = parts.is_empty();
        parts.push(Part::Text(rest.to_owned()));
        *slot = Some(Template(parts));
        Ok(constant.then(|| format!("'{word}' is the same for all recipients: there is no %u, %h or %a in it")))
    }
}

impl Template {
    /// The folder of an address; none if a part that is needed is missing, or could lead elsewhere.
    fn fill(&self, who: &Address) -> Option<PathBuf> {
        let sound = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0']);
        let user = || Some(who.user()).filter(|user| sound(user));
        let host = || who.host().filter(|host| sound(host));
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::User => path.push_str(user()?),
                Part::Host => path.push_str(host()?),
                Part::Address => {
                    path.push_str(user()?);
                    path.push('@');
                    path.push_str(host()?);
                }
            }
        }
        Some(path.into())
    }
}

impl UserConfig {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.files = at.files();
        Ok(())
    }

    /// The folder in which the recipients' folders lie.
    fn needs(&self) -> Needs {
        let Some(Part::Text(before)) = self.folder.0.first() else {
            return Needs::default();
        };
        let common = before.rsplit_once('/').map_or("", |(folder, _)| folder);
        Needs {
            read: vec![if before.starts_with('/') {
                format!("{common}/").into()
            } else {
                format!("./{common}").into()
            }],
            ..Needs::default()
        }
    }

    /// Asks for the address as it was written, then in lower case: mailboxes rarely differ in case alone.
    fn user_config(&self, who: &Address, name: &str) -> Told {
        let read = |who: &Address| match self.folder.fill(who) {
            Some(folder) => self.files.read(&folder.join(name)),
            None => Ok(None),
        };
        let lower = who.lower();
        match read(who)? {
            None if lower != *who => Ok(read(&lower)?),
            lines => Ok(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(folder: &str) -> (tempfile::TempDir, Kit) {
        let dir = tempfile::tempdir().unwrap();
        let mut t = Kit::load(&DECLARATION, &format!("{}/{folder}", dir.path().display()));
        t.config("greylisting", &["for all"]);
        (dir, t)
    }

    fn asked(t: &Kit, who: &str) -> String {
        t.user_config(who, "greylisting")
            .iter()
            .map(|line| line.text.to_string())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn each_has_its_own() {
        let (dir, t) = kit("%h/%u/etc");
        let folder = dir.path().join("example.com/joe/etc");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("greylisting"), "# mine\n  black_timeout 5  \n\n").unwrap();
        assert_eq!(asked(&t, "joe@example.com"), "black_timeout 5");
        assert_eq!(asked(&t, "Joe@Example.COM"), "black_timeout 5");
        assert_eq!(asked(&t, "jim@example.com"), "for all");
        std::fs::write(folder.join("greylisting"), "").unwrap();
        assert_eq!(asked(&t, "joe@example.com"), "", "an empty file is an answer");
    }

    #[test]
    fn what_cannot_be_read_is_not_missing() {
        let (dir, mut t) = kit("%u");
        std::fs::create_dir_all(dir.path().join("joe/greylisting")).unwrap();
        t.mail("joe@example.com").declined();
        let joe = t.s.sender().clone();
        let why = t.s.user_config(&joe, "greylisting").unwrap_err().to_string();
        assert!(why.contains("/joe/greylisting: cannot read: is a directory"), "{why}");
        assert_eq!(asked(&t, "jim@example.com"), "for all");
    }

    #[test]
    fn no_address_leads_out_of_its_place() {
        let (dir, t) = kit("home/%u");
        std::fs::create_dir_all(dir.path().join("home/joe")).unwrap();
        std::fs::write(dir.path().join("greylisting"), "outside").unwrap();
        std::fs::write(dir.path().join("home/greylisting"), "outside").unwrap();
        for user in ["../x", "joe/..", "..", ".", "/", "joe/../..", ""] {
            let who = format!("<\"{user}\"@example.com>");
            assert_eq!(asked(&t, &who), "for all", "{user}");
        }
        assert_eq!(asked(&t, "<>"), "for all");
    }

    #[test]
    fn a_missing_host_is_no_empty_one() {
        let (dir, t) = kit("%h");
        std::fs::write(dir.path().join("greylisting"), "outside").unwrap();
        assert_eq!(asked(&t, "postmaster"), "for all");
        let (dir, t) = kit("%a");
        std::fs::create_dir(dir.path().join("joe@example.com")).unwrap();
        std::fs::write(dir.path().join("joe@example.com/greylisting"), "mine").unwrap();
        assert_eq!(asked(&t, "joe@example.com"), "mine");
    }

    #[test]
    fn arguments_are_checked() {
        assert!(Kit::faults(&DECLARATION, "/home/%x")[0].contains("only %u, %h and %a"));
        assert!(Kit::faults(&DECLARATION, "/home/joe")[0].contains("the same for all"));
        assert!(Kit::faults(&DECLARATION, "")[0].contains("argument 'folder' is missing"));
    }
}
