//! Descriptors that this process was born with: listening sockets that whoever started it has opened for it, as systemd
//! does (sd_listen_fds(3)), and others, which are none of its business.

use std::env;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use nix::sys::prctl::set_dumpable;
use socket2::{Domain, Socket, Type};

use super::heritage::{self, Heritage};
use super::sys;

/// The first descriptor that may be a listening socket.
const FIRST: i32 = 3;

/// What this process was born with.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Sockets that whoever started it has opened for it.
    pub listeners: Vec<Socket>,
    /// What these call themselves, in the same order; it may be fewer.
    pub names: Vec<String>,
    /// What a former master has left, whose place it is to take.
    pub heritage: Option<Heritage>,
}

/// Takes what a former master has left, or the listening sockets that `LISTEN_FDS` promises, and closes all other
/// descriptors beyond standard error.
///
/// A daemon calls it first of all. The fault names a descriptor that is no listening TCP or unix socket.
pub fn inherited() -> Result<Inherited, String> {
    let mut open = sys::descriptors_from_outside(FIRST);
    let told = env::var(heritage::VARIABLE).ok();
    let heritage = Heritage::take(told.as_deref(), &mut open)?;
    if heritage.as_ref().is_some_and(Heritage::began_as_root) {
        // As after giving up root, which the former master has done before: there may be keys in our memory that our
        // user cannot read. It fails for a bad argument only.
        let _ = set_dumpable(false);
    }
    let mut inherited = Inherited {
        listeners: Vec::new(),
        names: Vec::new(),
        heritage,
    };
    inherited.listeners = match &mut inherited.heritage {
        Some(heritage) => heritage.given(),
        None => promised_listeners(open)?,
    };
    if !inherited.listeners.is_empty() {
        // The sockets that a former master was given come in the same order, and with them this variable.
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        inherited.names = names.split(':').map(str::to_owned).collect();
    }
    Ok(inherited)
}

fn promised_listeners(given: Vec<(RawFd, OwnedFd)>) -> Result<Vec<Socket>, String> {
    let promised = promised(
        env::var("LISTEN_PID").ok().as_deref(),
        env::var("LISTEN_FDS").ok().as_deref(),
        std::process::id(),
    );
    let (sockets, others): (Vec<_>, Vec<_>) = given.into_iter().partition(|(number, _)| *number < FIRST + promised);
    drop(others);
    if sockets.len() != promised as usize {
        return Err(format!("LISTEN_FDS is {promised}, and not all of them are open"));
    }
    sockets
        .into_iter()
        .map(|(number, socket)| listener(socket).map_err(|e| format!("descriptor {number}: {e}")))
        .collect()
}

/// How many sockets were meant for the process `own`.
fn promised(pid: Option<&str>, number: Option<&str>, own: u32) -> i32 {
    let meant = pid.and_then(|pid| pid.parse().ok()) == Some(own);
    let number = number.and_then(|number| number.parse().ok());
    number.filter(|n| meant && (0..=1024).contains(n)).unwrap_or(0)
}

/// Makes sure that it is a listening TCP or unix socket, and sets what our own ones have.
pub(super) fn listener(socket: OwnedFd) -> io::Result<Socket> {
    let socket = Socket::from(socket);
    let family = socket.local_addr()?.domain();
    let tcp = family == Domain::IPV4 || family == Domain::IPV6;
    let stream = socket.r#type()? == Type::STREAM && (tcp || family == Domain::UNIX);
    if !stream || !socket.is_listener()? {
        return Err(io::Error::other("no listening TCP or unix socket"));
    }
    socket.set_nonblocking(true)?;
    if tcp {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_what_is_meant_for_this_process_counts() {
        assert_eq!(promised(Some("42"), Some("2"), 42), 2);
        assert_eq!(promised(Some("43"), Some("2"), 42), 0);
        assert_eq!(promised(None, Some("2"), 42), 0);
        assert_eq!(promised(Some("42"), None, 42), 0);
        assert_eq!(promised(Some("42"), Some("-1"), 42), 0);
        assert_eq!(promised(Some("42"), Some("all"), 42), 0);
    }

    #[test]
    fn only_listening_sockets_will_do() {
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = good.local_addr().unwrap();
        let taken = listener(OwnedFd::from(good)).unwrap();
        assert_eq!(taken.local_addr().unwrap().as_socket(), Some(address));
        assert_eq!(taken.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = std::net::TcpStream::connect(address).unwrap();
        assert!(listener(OwnedFd::from(client)).is_err());
        let place = tempfile::tempdir().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
        assert!(listener(OwnedFd::from(unix)).is_ok());
        let (one, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(listener(OwnedFd::from(one)).is_err());
        assert!(listener(OwnedFd::from(std::fs::File::open("/dev/null").unwrap())).is_err());
    }
}
