//! `qpsmtpctl passwd`: writes the entries of flat_auth_pw.

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

pub use crate::plugin::Scheme;

/// The file, in the folder of the configuration.
pub const FILE: &str = "flat_auth_pw";
/// The longest password, in bytes.
const LONGEST: u64 = 1024;

/// What is to be done.
#[derive(Debug)]
pub struct Order {
    /// The file; none for the one of the configuration.
    pub file: Option<PathBuf>,
    /// The user, with its domain.
    pub user: String,
    /// In which form to store the password; none to remove the user.
    pub scheme: Option<Scheme>,
}

/// Does what is ordered, with the password from the terminal or the first line of stdin.
pub fn run(order: &Order) -> ExitCode {
    let file = order.file.clone().unwrap_or_else(file_of_configuration);
    let done = check_user(&order.user).and_then(|()| {
        let entry = match order.scheme {
            Some(scheme) => Some(scheme.store(&password()?)?),
            None => None,
        };
        change(&file, &order.user, entry.as_deref())
    });
    match done {
        Ok(what) => super::show(&format!("{}: {} {what}\n", file.display(), order.user)),
        Err(why) => {
            crate::prefork::tell(format_args!("qpsmtpctl passwd: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn file_of_configuration() -> PathBuf {
    let folder = std::env::var_os("QPSMTPD_CONFIG").map_or_else(|| PathBuf::from("config"), PathBuf::from);
    folder.join(FILE)
}

/// A user must be one that the plugin can find again in a line.
fn check_user(user: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("'{}': {why}", user.escape_debug()));
    let whole = user
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    match () {
        () if !whole => wrong("a user is a name, @ and a domain"),
        () if user.contains(':') => wrong("a user has no ':', which separates it from the password"),
        () if user.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            wrong("a user has no blank or control character")
        }
        () if user.starts_with(['#', '$']) => wrong("such a line would mean something else"),
        () => Ok(()),
    }
}

/// Asks twice at a terminal, without echo; else takes the first line of stdin.
fn password() -> Result<String, String> {
    let stdin = io::stdin();
    let password = match stdin.is_terminal() {
        false => line(&mut stdin.lock())?,
        true => {
            let first = hidden("Password: ")?;
            if hidden("Again: ")? != first {
                return Err("the two passwords differ".to_owned());
            }
            first
        }
    };
    match () {
        () if password.is_empty() => Err("the password is empty".to_owned()),
        () if password.chars().any(char::is_control) => Err("the password has a control character".to_owned()),
        () => Ok(password),
    }
}

fn line(from: &mut impl BufRead) -> Result<String, String> {
    let mut line = Vec::new();
    let read = io::Read::take(from, LONGEST + 1).read_until(b'\n', &mut line);
    read.map_err(|why| format!("stdin: {why}"))?;
    if line.len() as u64 > LONGEST {
        return Err(format!("the password has more than {} bytes", LONGEST - 1));
    }
    let text = String::from_utf8(line).map_err(|_| "the password is no UTF-8".to_owned())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads a line from the terminal without showing it.
fn hidden(prompt: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let said = |why: &dyn std::fmt::Display| format!("the terminal: {why}");
    eprint!("{prompt}");
    let before = tcgetattr(&stdin).map_err(|why| said(&why))?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).map_err(|why| said(&why))?;
    let read = line(&mut stdin.lock());
    let restored = tcsetattr(&stdin, SetArg::TCSAFLUSH, &before);
    eprintln!();
    restored.map_err(|why| said(&why))?;
    read
}

/// Puts an entry into the file, or takes the user out of it; says which.
///
/// The file is replaced as a whole, so that nobody reads half of it, and keeps its mode and owner; a new one is for its
/// owner alone.
fn change(path: &Path, user: &str, entry: Option<&str>) -> Result<&'static str, String> {
    // what a symbolic link points to is changed, not the link
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let wrong = |why: io::Error| format!("{}: {why}", path.display());
    // two at a time would lose the entry of one
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let lock = File::open(folder.unwrap_or(Path::new("."))).map_err(wrong)?;
    lock.lock().map_err(wrong)?;
    let (old, meta) = match File::open(path) {
        Ok(mut file) => {
            let mut text = String::new();
            io::Read::read_to_string(&mut file, &mut text).map_err(wrong)?;
            (text, Some(file.metadata().map_err(wrong)?))
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => (String::new(), None),
        Err(why) => return Err(wrong(why)),
    };
    let (new, what) = edited(&old, user, entry)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = write(&beside, &new, meta.as_ref()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(wrong)?;
    if meta.is_none() {
        eprintln!("{} is new, and for its owner alone", path.display());
    }
    lock.sync_all().map_err(wrong)?;
    Ok(what)
}

fn write(path: &Path, text: &str, like: Option<&fs::Metadata>) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The text with the entry of the user in place of the first one of it, or at its end.
fn edited(old: &str, user: &str, entry: Option<&str>) -> Result<(String, &'static str), String> {
    let is_own = |line: &str| {
        line.split_once(':')
            .is_some_and(|(name, _)| crate::plugin::same_user(name.trim(), user))
    };
    let had = old.lines().any(is_own);
    let mut left = entry;
    let mut new = String::new();
    for line in old.lines() {
        match is_own(line) {
            false => new.extend([line, "\n"]),
            true => new.extend(left.take().map(|entry| format!("{user}:{entry}\n"))),
        }
    }
    new.extend(left.map(|entry| format!("{user}:{entry}\n")));
    match (entry, had) {
        (None, false) => Err(format!("there is no user {user}")),
        (None, true) => Ok((new, "removed")),
        (Some(_), true) => Ok((new, "changed")),
        (Some(_), false) => Ok((new, "added")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_such_as_can_be_found_again() {
        assert_eq!(check_user("joe+tag@example.com"), Ok(()));
        for bad in [
            "joe",
            "@example.com",
            "joe@",
            "jo:e@example.com",
            "jo e@x.org",
            "joe@x.org\n",
            "#joe@x.org",
            "$joe@x.org",
            "",
        ] {
            assert!(check_user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entries_take_the_place_of_those_that_are_there() {
        let old = "# users\njoe@Example.com:one:two\n\nann@x.org:three\njoe@example.com:four";
        let (new, what) = edited(old, "joe@example.com", Some("five")).expect("changed");
        assert_eq!(
            (&*new, what),
            ("# users\njoe@example.com:five\n\nann@x.org:three\n", "changed")
        );
        let (new, what) = edited(old, "jim@x.org", Some("five")).expect("added");
        assert_eq!((new, what), (format!("{old}\njim@x.org:five\n"), "added"));
        let (new, what) = edited(old, "ann@X.org", None).expect("removed");
        assert_eq!((new, what), (old.replace("ann@x.org:three\n", "") + "\n", "removed"));
        assert!(edited(old, "jim@x.org", None).is_err());
    }

    #[test]
    fn the_file_keeps_its_mode_and_a_new_one_is_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("flat_auth_pw");
        let mode = || fs::metadata(&file).expect("the file").mode() & 0o7777;
        assert_eq!(change(&file, "joe@x.org", Some("a")), Ok("added"));
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(change(&link, "ann@x.org", Some("b")), Ok("added"));
        assert_eq!(mode(), 0o640);
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert_eq!(
            fs::read_to_string(&file).expect("the file"),
            "joe@x.org:a\nann@x.org:b\n"
        );
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 2);
        assert!(change(&folder.path().join("none/x"), "joe@x.org", Some("a")).is_err());
    }

    #[test]
    fn lines_have_a_limit() {
        assert_eq!(line(&mut &b"secret\r\nmore"[..]), Ok("secret".to_owned()));
        assert!(line(&mut &[b'x'; 2000][..]).is_err());
        assert!(line(&mut &b"\xff\n"[..]).is_err());
    }
}
