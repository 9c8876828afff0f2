//! Whom to serve as: the choice of the user, the directories it needs, and the way down from root.

use std::ffi::CString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::{
    Gid, Group, Uid, User, fchown, getgroups, getresgid, getresuid, initgroups, setgid, setresgid, setresuid, setuid,
};

use super::{Level, Log};

/// The user that serves if root starts the daemon and names none.
const USUAL: &str = "smtpd";
/// Who serves where there is no such user.
const FALLBACK: &str = "nobody";

/// A user to become.
#[derive(Debug)]
pub(super) struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    home: PathBuf,
}

impl Account {
    /// The user's number.
    pub(super) fn uid(&self) -> Uid {
        self.uid
    }

    /// The number of its group.
    pub(super) fn gid(&self) -> Gid {
        self.gid
    }

    /// The home directory.
    pub(super) fn into_home(self) -> PathBuf {
        self.home
    }
}

/// Chooses the user: `asked`, else `smtpd`, else `nobody` for root; anyone else stays who they are, which
/// is `None`.
pub(super) fn choose(asked: Option<&str>, log: Log<'_>) -> Result<Option<Account>, String> {
    if !Uid::effective().is_root() {
        return match asked {
            Some(name) if find(name)?.is_none_or(|a| a.uid != Uid::effective()) => {
                Err(format!("cannot become user {name}: only root can become someone else"))
            }
            _ => Ok(None),
        };
    }
    let account = match asked {
        Some(name) => find(name)?.ok_or_else(|| format!("there is no user {name}"))?,
        None => match find(USUAL)? {
            Some(account) => account,
            None => {
                let words = format!("there is no user {USUAL}; serving as {FALLBACK} (see --user)");
                log(Level::Warning, &words);
                find(FALLBACK)?.ok_or(format!("there is neither a user {USUAL} nor {FALLBACK}"))?
            }
        },
    };
    match account.uid.is_root() || account.gid.as_raw() == 0 {
        true => Err(format!(
            "user {} is root or of its group; mail is not served so",
            account.name
        )),
        false => Ok(Some(account)),
    }
}

/// The home directory of the user that a daemon started now would serve as, if that is not who starts it.
pub fn home_of_server(asked: Option<&str>) -> Option<PathBuf> {
    choose(asked, &|_, _| {}).ok().flatten().map(|account| account.home)
}

fn find(name: &str) -> Result<Option<Account>, String> {
    let user = User::from_name(name).map_err(|e| format!("cannot look up user {name}: {e}"))?;
    Ok(user.map(|u| Account {
        name: u.name,
        uid: u.uid,
        gid: u.gid,
        home: u.dir,
    }))
}

/// Becomes that user for good and makes sure of it.
pub(super) fn become_user(account: &Account) -> Result<(), String> {
    let fault = |what: &'static str| {
        let name = account.name.clone();
        move |e: nix::Error| format!("cannot become user {name}: {what}: {e}")
    };
    let name = CString::new(account.name.as_str()).map_err(|e| e.to_string())?;
    let (uid, gid) = (account.uid, account.gid);
    initgroups(&name, gid).map_err(fault("initgroups"))?;
    setgid(gid)
        .and_then(|()| setresgid(gid, gid, gid))
        .map_err(fault("setgid"))?;
    setuid(uid)
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(fault("setuid"))?;

    let (users, groups) = (
        getresuid().map_err(fault("getuid"))?,
        getresgid().map_err(fault("getgid"))?,
    );
    let supplementary = getgroups().map_err(fault("getgroups"))?;
    let down = [users.real, users.effective, users.saved].iter().all(|u| *u == uid)
        && [groups.real, groups.effective, groups.saved].iter().all(|g| *g == gid)
        && !supplementary.contains(&Gid::from_raw(0));
    if !down || setuid(Uid::from_raw(0)).is_ok() || setgid(Gid::from_raw(0)).is_ok() {
        return Err(format!("became user {} and could still be root", account.name));
    }
    Ok(())
}

/// The names of the present user and group, or their numbers where they have none.
pub(super) fn present() -> (String, String) {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let user = User::from_uid(uid).ok().flatten().map_or(uid.to_string(), |u| u.name);
    let group = Group::from_gid(gid).ok().flatten().map_or(gid.to_string(), |g| g.name);
    (user, group)
}

/// Makes the directory and what is missing above it, 0700, as the property of `owner` (`None`: ours).
///
/// A directory that exists is left as it is, except that an empty one of root's is given to the owner, if no link of
/// somebody else leads there: a start as root may have left it. What belongs to somebody else is only warned of.
pub(super) fn own_directory(path: &Path, owner: Option<&Account>, log: Log<'_>) -> Result<(), String> {
    let fault = |e: std::io::Error| format!("cannot make the directory {}: {e}", path.display());
    let fresh = match path.metadata() {
        Ok(found) if !found.is_dir() => return Err(format!("{} is no directory", path.display())),
        Ok(_) => false,
        Err(_) => {
            if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
                own_directory(above, owner, log)?;
            }
            DirBuilder::new().mode(0o700).create(path).map_err(fault)?;
            true
        }
    };
    let Some(owner) = owner else { return Ok(()) };
    // By descriptor and without following a link that was not there before, since the directory above may be another's.
    let link = path.symlink_metadata().ok().filter(Metadata::is_symlink);
    let follow = link.is_some() && !fresh;
    let flags = libc::O_DIRECTORY | if follow { 0 } else { libc::O_NOFOLLOW };
    let directory: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(fault)?;
    let found = directory.metadata().map_err(fault)?.uid();
    if found == owner.uid.as_raw() {
        return Ok(());
    }
    let empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let way_is_ours = link.is_none_or(|link| link.uid() == 0);
    if fresh || (way_is_ours && found == 0 && empty()) {
        return fchown(&directory, Some(owner.uid), Some(owner.gid))
            .map_err(|e| format!("cannot give {} to {}: {e}", path.display(), owner.name));
    }
    let words = format!("{} does not belong to user {}", path.display(), owner.name);
    log(Level::Warning, &words);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{lchown, symlink};
    use std::sync::Mutex;

    #[test]
    fn makes_what_is_missing_and_leaves_what_is_there() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b");
        own_directory(&deep, None, &|_, _| {}).unwrap();
        assert_eq!(deep.metadata().unwrap().mode() & 0o777, 0o700);
        own_directory(&deep, None, &|_, _| {}).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        let fault = own_directory(&deep.join("file"), None, &|_, _| {}).unwrap_err();
        assert!(fault.ends_with("is no directory"), "{fault}");
    }

    #[test]
    fn root_gives_what_it_made_and_takes_nothing_away() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: not root");
        }
        let place = tempfile::tempdir().unwrap();
        let account = Account {
            name: "x".into(),
            uid: Uid::from_raw(12345),
            gid: Gid::from_raw(12345),
            home: PathBuf::new(),
        };
        let said = Mutex::new(String::new());
        let log = |_: Level, words: &str| said.lock().unwrap().push_str(words);
        let owner = |name: &str| place.path().join(name).metadata().unwrap().uid();

        own_directory(&place.path().join("new"), Some(&account), &log).unwrap();
        std::fs::create_dir(place.path().join("empty")).unwrap();
        own_directory(&place.path().join("empty"), Some(&account), &log).unwrap();
        assert_eq!((owner("new"), owner("empty")), (12345, 12345));
        assert_eq!(said.lock().unwrap().as_str(), "");

        // the link of somebody else leads where that one wants
        let link = |name: &str, owner| {
            std::fs::create_dir(place.path().join(format!("behind_{name}"))).unwrap();
            symlink(format!("behind_{name}"), place.path().join(name)).unwrap();
            lchown(place.path().join(name), Some(owner), None).unwrap();
            own_directory(&place.path().join(name), Some(&account), &log).unwrap();
        };
        link("of_root", 0);
        assert_eq!(said.lock().unwrap().as_str(), "");
        link("of_another", 12345);
        assert_eq!((owner("behind_of_root"), owner("behind_of_another")), (12345, 0));
        assert!(std::mem::take(&mut *said.lock().unwrap()).contains("does not belong"));

        std::fs::create_dir_all(place.path().join("full/of")).unwrap();
        own_directory(&place.path().join("full"), Some(&account), &log).unwrap();
        assert_eq!(owner("full"), 0);
        let said = said.into_inner().unwrap();
        assert!(said.contains("does not belong"), "{said}");
    }

    #[test]
    fn refuses_to_serve_as_root_or_nobody_known() {
        let (root, none) = (
            choose(Some("root"), &|_, _| {}),
            choose(Some("no-such-user"), &|_, _| {}),
        );
        if Uid::effective().is_root() {
            assert!(root.unwrap_err().contains("is root"));
            assert_eq!(none.unwrap_err(), "there is no user no-such-user");
            assert!(choose(None, &|_, _| {}).unwrap().is_some());
        } else {
            assert!(root.unwrap_err().contains("only root"));
            assert!(choose(None, &|_, _| {}).unwrap().is_none());
        }
    }
}
