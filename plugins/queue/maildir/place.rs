//! Where a recipient's maildir lies, and the mode of what is made there.

use crate::plugin::*;

/// The longest name of a file or directory, in bytes (Linux, NAME_MAX).
const MAX_NAME: usize = 255;

/// A path below the plugin's directory, with placeholders for parts of an address.
pub struct Pattern(Vec<Part>);

enum Part {
    Text(String),
    Local,
    Domain,
    Both,
}

impl Pattern {
    /// Reads a pattern such as `%d/%l`.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            parts.push(Part::Text(rest[..at].to_owned()));
            parts.push(match rest.as_bytes().get(at + 1) {
                Some(b'l') => Part::Local,
                Some(b'd') => Part::Domain,
                Some(b'u') => Part::Both,
                _ => return Err(format!("only %l, %d and %u are known in '{text}'")),
            });
            rest = &rest[at + 2..];
        }
        parts.push(Part::Text(rest.to_owned()));
        if text.starts_with('/') || text.split('/').any(|name| matches!(name, "." | "..")) {
            return Err(format!("'{text}' must lie below the directory"));
        }
        Ok(Pattern(parts))
    }

    /// The place of a recipient; `me` is the domain of one without a domain. None if the address would give a name
    /// that is empty, `.`, `..` or too long: then it could leave the directory or not be made.
    pub fn fill(&self, who: &Address, me: &str) -> Option<String> {
        let domain = || who.host().unwrap_or(me).to_lowercase();
        let mut place = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => place.push_str(text),
                Part::Local => push_safe(&mut place, who.user()),
                Part::Domain => push_safe(&mut place, &domain()),
                Part::Both => {
                    push_safe(&mut place, who.user());
                    place.push('@');
                    push_safe(&mut place, &domain());
                }
            }
        }
        let place = place.trim_end_matches('/');
        let safe = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME;
        place.split('/').all(safe).then(|| place.to_owned())
    }
}

fn push_safe(place: &mut String, text: &str) {
    let foreign = |c: char| !c.is_ascii() && !c.is_control() && !c.is_whitespace();
    let safe = |c: char| c.is_ascii_alphanumeric() || "-+_.,@=".contains(c) || foreign(c);
    place.extend(text.chars().map(|c| if safe(c) { c } else { '_' }));
}

/// The mode of directories: three octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u32);

impl Default for Mode {
    fn default() -> Mode {
        Mode(0o700)
    }
}

impl Mode {
    /// The mode of directories.
    pub fn of_dirs(self) -> u32 {
        self.0
    }

    /// The mode of files.
    pub fn of_files(self) -> u32 {
        self.0 & 0o666
    }

    /// Whether others than the owner have rights, which a umask may take away.
    pub fn is_shared(self) -> bool {
        self.0 & 0o077 != 0
    }
}

impl Arg for Mode {
    const WANTS: &'static str = "a mode of three octal digits";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let digits = match word.len() {
            4 => word.strip_prefix('0').unwrap_or_default(),
            _ => word,
        };
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| digits.len() == 3);
        // the owner must be able to use what is made
        let mode = mode.filter(|mode| mode & 0o700 == 0o700);
        *slot =
            Some(Mode(mode.ok_or_else(|| {
                format!("'{word}' is not {} that begin with 7", Self::WANTS)
            })?));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pattern: &str, local: &str, host: Option<&str>) -> Option<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.fill(&Address::new(local, host), "me.example")
    }

    #[test]
    fn placeholders() {
        assert_eq!(
            fill("%d/%l/", "Joe", Some("A.Example")).as_deref(),
            Some("a.example/Joe")
        );
        assert_eq!(
            fill("x-%u", "a/b c\u{e9}", Some("[IPv6:::1]")).as_deref(),
            Some("x-a_b_cé@_ipv6___1_")
        );
        assert_eq!(
            fill("%d/%l", "postmaster", None).as_deref(),
            Some("me.example/postmaster")
        );
    }

    #[test]
    fn no_way_out_of_the_directory() {
        for local in [".", "..", "", &"x".repeat(256)] {
            assert_eq!(fill("%l", local, Some("b.c")), None, "{local}");
            assert_eq!(fill("a/%l/b", local, Some("b.c")), None, "{local}");
        }
        assert_eq!(fill("%l", "../../etc", Some("b.c")).as_deref(), Some(".._.._etc"));
        assert_eq!(fill("%l", "...", Some("b.c")).as_deref(), Some("..."));
        for pattern in ["/%l", "../%l", "%l/..", "./%u", "%x", "%", "a%"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn modes() {
        let mode = |word: &str| {
            let mut slot = None;
            Mode::set(&mut slot, "mode", word).map(|_| slot.unwrap().of_dirs())
        };
        assert_eq!((mode("700"), mode("0770")), (Ok(0o700), Ok(0o770)));
        for bad in ["7", "800", "07000", "077", "x", "600"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
