//! Unix sockets to listen on: made in the place of what is left of former ones, handed to those who may use them, and
//! removed at the end. And who it is that has connected.

use std::fs::{self, File, OpenOptions, Permissions, set_permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::libc::{O_NOFOLLOW, O_PATH, SOMAXCONN};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, chown};
use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::Listen;
use super::user::Account;
use super::{Level, Log};

/// Who may use the unix sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRights {
    /// The permissions.
    pub mode: u32,
    /// `user`, `user:group` or `:group`; whatever is not said is that of the user who serves.
    pub owner: Option<String>,
}

impl Default for SocketRights {
    fn default() -> Self {
        Self {
            mode: 0o660,
            owner: None,
        }
    }
}

/// Who has connected to a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process; 0 if the kernel does not say.
    pub pid: i32,
}

/// Who is at the other end of a unix socket; somebody unknown if the kernel does not say.
pub(super) fn caller(stream: &Socket) -> Caller {
    match getsockopt(stream, PeerCredentials) {
        Ok(peer) => Caller {
            uid: peer.uid(),
            gid: peer.gid(),
            pid: peer.pid(),
        },
        Err(_) => Caller {
            uid: u32::MAX,
            gid: u32::MAX,
            pid: 0,
        },
    }
}

/// Listens at a path, in the place of a socket at which nobody listens any more. Nobody but this user can connect
/// before [`hand_over`].
pub(super) fn bind(path: &Path) -> io::Result<Socket> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "there is something else than a socket",
            ));
        }
        Ok(_) if !is_stale(path) => return Err(ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let former = umask(Mode::from_bits_truncate(0o177));
    let bound = socket.bind(&SockAddr::unix(path)?);
    umask(former);
    bound?;
    socket.listen(SOMAXCONN)?;
    Ok(socket)
}

/// Whether nobody listens at the socket.
fn is_stale(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

/// Gives a socket to those who may use it.
pub(super) fn hand_over(place: &Listen, rights: &SocketRights, server: Option<&Account>) -> Result<(), String> {
    let Listen::File(path) = place else { return Ok(()) };
    let (user, group) = match &rights.owner {
        None => ("", ""),
        Some(owner) => owner.split_once(':').unwrap_or((owner, "")),
    };
    let uid = match user {
        "" => server.map(Account::uid),
        name => Some(uid_of(name)?),
    };
    let gid = match group {
        "" => server.map(Account::gid),
        name => Some(gid_of(name)?),
    };
    let told = |e: io::Error| format!("cannot hand over the socket {}: {e}", path.display());
    let socket = hold(path).map_err(told)?;
    // another name of what is held, whatever has become of the path
    let held = format!("/proc/self/fd/{}", socket.as_raw_fd());
    // as long as it is ours: root may lack the right to do it to the files of others
    set_permissions(&held, Permissions::from_mode(rights.mode)).map_err(told)?;
    match (uid, gid) {
        (None, None) => Ok(()),
        (uid, gid) => chown(held.as_str(), uid, gid).map_err(|e| told(e.into())),
    }
}

/// Holds on to a socket in the file system: where the folder belongs to the user who serves, that one may put a link to
/// anything in its place, which root must not give away.
fn hold(path: &Path) -> io::Result<File> {
    let flags = O_PATH | O_NOFOLLOW;
    let held = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match held.metadata()?.file_type().is_socket() {
        true => Ok(held),
        false => Err(io::Error::other("something else is there by now")),
    }
}

fn uid_of(name: &str) -> Result<Uid, String> {
    let found = User::from_name(name).map_err(|e| format!("cannot look up user {name}: {e}"))?;
    found
        .map(|user| user.uid)
        .ok_or_else(|| format!("there is no user {name}"))
}

fn gid_of(name: &str) -> Result<Gid, String> {
    let found = Group::from_name(name).map_err(|e| format!("cannot look up group {name}: {e}"))?;
    found
        .map(|group| group.gid)
        .ok_or_else(|| format!("there is no group {name}"))
}

/// Takes the file of a socket that has been closed out of the file system, unless it is another's by now.
pub(super) fn remove(place: &Listen, log: Log<'_>) {
    let Listen::File(path) = place else { return };
    if !is_stale(path) {
        return;
    }
    if let Err(e) = fs::remove_file(path) {
        let words = format!("cannot remove the socket {}, the next start will: {e}", path.display());
        log(Level::Notice, &words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_socket_takes_the_place_of_one_that_is_dead_and_of_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lmtp");
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let client = UnixStream::connect(&path).unwrap();
        let (stream, _) = first.accept().unwrap();
        assert_eq!(caller(&stream).uid, Uid::current().as_raw());
        assert_eq!(caller(&stream).pid, std::process::id().cast_signed());
        drop((client, first));
        let second = bind(&path).unwrap();
        let listen = Listen::File(path.clone());
        remove(&listen, &|_, _| {});
        assert!(path.exists(), "it is in use");
        drop(second);
        remove(&listen, &|_, _| {});
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_socket_is_handed_over_with_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lmtp");
        let _socket = bind(&path).unwrap();
        let listen = Listen::File(path.clone());
        let rights = |owner: Option<&str>| SocketRights {
            owner: owner.map(str::to_owned),
            ..SocketRights::default()
        };
        hand_over(&listen, &rights(None), None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        for (owner, fault) in [
            ("nobody-here", "no user nobody-here"),
            (":nobody-here", "no group nobody-here"),
        ] {
            assert!(
                hand_over(&listen, &rights(Some(owner)), None)
                    .unwrap_err()
                    .contains(fault)
            );
        }
    }

    #[test]
    fn nothing_is_handed_over_that_another_has_put_in_its_place() {
        let place = tempfile::tempdir().unwrap();
        let (path, other) = (place.path().join("lmtp"), place.path().join("other"));
        let _socket = bind(&path).unwrap();
        fs::write(&other, "").unwrap();
        set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(&path).unwrap();
        let listen = Listen::File(path.clone());
        for put in [symlink::<&Path, &Path>, |file: &Path, at: &Path| {
            fs::hard_link(file, at)
        }] {
            put(&other, &path).unwrap();
            let why = hand_over(&listen, &SocketRights::default(), None).unwrap_err();
            assert!(why.contains("cannot hand over the socket"), "{why}");
            assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
            fs::remove_file(&path).unwrap();
        }
    }
}
