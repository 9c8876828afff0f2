//! The listening sockets.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use nix::libc::SOMAXCONN;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::unix;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port.
    Port {
        /// The address, or `None` for all of this machine's.
        address: Option<IpAddr>,
        /// The port, or 0 for one that is free.
        port: u16,
    },
    /// A unix socket. The path has no blanks in it.
    File(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Port {
                address: Some(address),
                port,
            } => SocketAddr::new(*address, *port).fmt(f),
            Listen::Port { address: None, port } => write!(f, "all addresses, port {port}"),
            Listen::File(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Binds all of them but those that a former master has left, in the order given; the fault names the one that could
/// not be had.
pub(super) fn bind_all(wanted: &[Listen], mut bound: Vec<(Listen, Socket)>) -> Result<Vec<Socket>, String> {
    let mut have = |one: &Listen| match bound.iter().position(|(place, _)| place == one) {
        Some(number) => Ok(bound.remove(number).1),
        None => bind(one, wanted).map_err(|e| format!("cannot listen on {one}: {e}")),
    };
    wanted.iter().map(&mut have).collect()
}

fn bind(one: &Listen, all: &[Listen]) -> io::Result<Socket> {
    let any4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let (address, port) = match one {
        Listen::Port { address, port } => (*address, *port),
        Listen::File(path) => return unix::bind(path),
    };
    match address {
        Some(address) => {
            // `[::]` also takes IPv4 unless someone asked for 0.0.0.0 beside it.
            let also_four = Listen::Port {
                address: Some(any4),
                port,
            };
            socket(SocketAddr::new(address, port), all.contains(&also_four))
        }
        None => socket(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), false)
            // A kernel without IPv6, or with it switched off.
            .or_else(|e| match e.raw_os_error() {
                Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL) => socket(SocketAddr::new(any4, port), false),
                _ => Err(e),
            }),
    }
}

fn socket(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    // Inherited by what is accepted: replies are short and each is waited for.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(SOMAXCONN)?;
    Ok(socket)
}

/// Ends listening for every process that shares the socket; the kernel refuses who comes now.
pub(super) fn close_for_all(listener: &Socket) {
    // Fails only if it is closed already.
    let _ = listener.shutdown(std::net::Shutdown::Both);
}

/// A number below 2^48 for a listener, the same in every program that has it, whatever others it has.
pub(super) fn mark(listener: &Socket) -> u64 {
    let mut hasher = DefaultHasher::new();
    name(listener).hash(&mut hasher);
    hasher.finish() >> 16
}

/// Where a socket listens, in words.
pub(super) fn name(listener: &Socket) -> String {
    let address = listener.local_addr().ok();
    let port = address.as_ref().and_then(SockAddr::as_socket);
    let path = address.as_ref().and_then(SockAddr::as_pathname);
    match (port, path) {
        (Some(port), _) => port.to_string(),
        (_, Some(path)) => format!("unix:{}", path.display()),
        _ => "unix".to_owned(),
    }
}

/// The same, with IPv4 as IPv4.
pub(super) fn shown(listener: &Socket) -> String {
    let address = listener.local_addr().ok().and_then(|address| address.as_socket());
    address.map_or_else(|| name(listener), |address| canonical(address).to_string())
}

/// The address that stands for someone who has none, because he came by a unix socket.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// An address of a connection, [`NOWHERE`] at a unix socket.
pub(super) fn place(address: &SockAddr) -> SocketAddr {
    address.as_socket().map_or(NOWHERE, canonical)
}

/// The address with IPv4 as IPv4 even if it came in over a socket for both.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn listen(text: Option<&str>, port: u16) -> Listen {
        Listen::Port {
            address: text.map(|t| t.parse().unwrap()),
            port,
        }
    }

    #[test]
    fn binds_in_order_and_names_what_cannot_be_had() {
        let two = bind_all(
            &[listen(Some("127.0.0.1"), 0), listen(Some("127.0.0.2"), 0)],
            Vec::new(),
        )
        .unwrap();
        let first = two[0].local_addr().unwrap().as_socket().unwrap();
        assert_eq!(first.ip().to_string(), "127.0.0.1");
        assert_eq!(
            two[1].local_addr().unwrap().as_socket().unwrap().ip().to_string(),
            "127.0.0.2"
        );
        let fault = bind_all(&[listen(Some("127.0.0.1"), first.port())], Vec::new()).unwrap_err();
        assert!(fault.contains(&format!("127.0.0.1:{}", first.port())), "{fault}");
    }

    #[test]
    fn all_addresses_take_both_families() {
        let all = bind_all(&[listen(None, 0)], Vec::new()).unwrap().remove(0);
        let port = all.local_addr().unwrap().as_socket().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_, peer) = loop {
            match all.accept() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!(place(&peer), client.local_addr().unwrap());
    }

    #[test]
    fn both_wildcards_live_side_by_side() {
        let free = bind_all(&[listen(None, 0)], Vec::new())
            .unwrap()
            .remove(0)
            .local_addr()
            .unwrap()
            .as_socket()
            .unwrap()
            .port();
        assert!(bind_all(&[listen(Some("0.0.0.0"), free), listen(Some("::"), free)], Vec::new()).is_ok());
    }

    #[test]
    fn closing_reaches_every_copy() {
        let one = bind_all(&[listen(Some("127.0.0.1"), 0)], Vec::new()).unwrap().remove(0);
        let copy = one.try_clone().unwrap();
        close_for_all(&one);
        assert!(TcpStream::connect(copy.local_addr().unwrap().as_socket().unwrap()).is_err());
    }
}
