//! Connections that we make: TCP and unix sockets, and TLS over them.
//!
//! Each has a poll of its own, for it is waited for while the client's socket is registered with the thread's, and it
//! may outlive the session and serve the next one, in another thread.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::dns::SystemDns;
use super::tls;
use super::wire::Ends;
use crate::session::remote::{Dial, Lost, Target};
use crate::session::services::{Dns, Resolver};
use crate::session::trust::{ClientTls, RemoteTls};
use crate::session::wire::{Heard, Wire};

/// The most addresses of a host that are tried.
const MOST_ADDRESSES: usize = 8;

/// Makes connections with the sockets and the name servers of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialler;

impl Dial for Dialler {
    fn connect(&self, to: &Target, until: Instant) -> Result<Box<dyn Wire>, Lost> {
        match to {
            Target::Unix(path) => Ok(Box::new(Polled::new(unix(path, until)?)?)),
            Target::Tcp(host, port) => {
                let addresses = addresses(host, until)?;
                Ok(Box::new(Polled::new(tcp(&addresses, *port, until)?)?))
            }
        }
    }

    fn encrypt(
        &self,
        clear: Box<dyn Wire>,
        how: &ClientTls,
        until: Instant,
    ) -> Result<(Box<dyn Wire>, RemoteTls), Lost> {
        tls::encrypt(clear, how, until)
    }
}

/// The time that is left.
fn left(until: Instant) -> Result<Duration, Lost> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(Lost::TimedOut),
        left => Ok(left),
    }
}

/// The addresses of a host.
pub(super) fn addresses(host: &str, until: Instant) -> Result<Vec<IpAddr>, Lost> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    match SystemDns.addresses(host, left(until)?) {
        Dns::Found(addresses) if !addresses.is_empty() => Ok(addresses),
        Dns::Found(_) | Dns::NoData => Err(Lost::because(format_args!("{host} has no address"))),
        Dns::NoName => Err(Lost::because(format_args!("there is no host {host}"))),
        Dns::Failed(why) => Err(Lost::because(format_args!(
            "the addresses of {host} are not to be had: {why}"
        ))),
    }
}

/// Connects to the first of the addresses that answers; those that remain share the time that is left.
pub(super) fn tcp(addresses: &[IpAddr], port: u16, until: Instant) -> Result<TcpStream, Lost> {
    let addresses = &addresses[..addresses.len().min(MOST_ADDRESSES)];
    let mut reasons = Vec::new();
    for (tried, ip) in addresses.iter().enumerate() {
        let remaining = (addresses.len() - tried) as u32;
        let share = left(until)? / remaining;
        match TcpStream::connect_timeout(&SocketAddr::new(*ip, port), share) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(why) => reasons.push((ip, Lost::from(why))),
        }
    }
    match reasons.as_slice() {
        [(_, why)] => Err(why.clone()),
        _ => {
            let all: Vec<String> = reasons.iter().map(|(ip, why)| format!("{ip}: {why}")).collect();
            Err(Lost::Failed(all.join(", ")))
        }
    }
}

/// Connects to a unix socket.
pub(super) fn unix(path: &Path, until: Instant) -> Result<UnixStream, Lost> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // a server with a full queue makes who connects wait, as long as a write may take
    socket.set_write_timeout(Some(left(until)?))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A wire over a nonblocking socket.
struct Polled<E: Ends> {
    ends: E,
    poll: Poll,
    events: Events,
}

impl<E: Ends> Polled<E> {
    fn new(ends: E) -> io::Result<Polled<E>> {
        let poll = Poll::new()?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&ends.input()), Token(0), both)?;
        Ok(Polled {
            ends,
            poll,
            events: Events::with_capacity(4),
        })
    }

    /// Waits until something may have changed; false if the deadline came first.
    fn wait(&mut self, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(why) if why.kind() != ErrorKind::Interrupted => Err(why),
            _ => Ok(true),
        }
    }
}

impl<E: Ends + AsFd> Wire for Polled<E> {
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, _busy: bool) -> io::Result<Heard> {
        loop {
            match self.ends.read(buffer) {
                Ok(0) => return Ok(Heard::End),
                Ok(count) => return Ok(Heard::Bytes(count)),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    if !self.wait(deadline)? {
                        return Ok(Heard::TimedOut);
                    }
                }
                Err(why) => return Err(why),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.ends.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    if !self.wait(deadline)? {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        SockRef::from(&self.ends).shutdown(Shutdown::Write)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::*;
    use crate::session::remote::Remote;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn dial(to: &Target) -> Result<Remote, Lost> {
        let dialler: Arc<dyn Dial> = Arc::new(Dialler);
        Remote::connect(&dialler, to, soon())
    }

    /// Greets, repeats a line, and closes.
    fn echo(stream: &mut (impl Read + Write)) {
        stream.write_all(b"hello\r\n").expect("written");
        let mut line = [0; 5];
        stream.read_exact(&mut line).expect("read");
        stream.write_all(&line).expect("written");
    }

    fn converse(remote: Result<Remote, Lost>) {
        let mut remote = remote.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(remote.line(100, soon()), Ok(&b"hello"[..]));
        assert_eq!(remote.look(), Ok(&b""[..]));
        remote.write(b"echo\n", soon()).expect("written");
        assert_eq!(remote.line(100, soon()), Ok(&b"echo"[..]));
        assert_eq!(remote.line(100, soon()), Err(Lost::Closed));
    }

    #[test]
    fn hosts_and_addresses_of_both_families() {
        for (ip, host) in [
            (IpAddr::from(Ipv4Addr::LOCALHOST), "127.0.0.1"),
            (Ipv4Addr::LOCALHOST.into(), "localhost"),
            (Ipv6Addr::LOCALHOST.into(), "::1"),
        ] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                eprintln!("SKIPPED: no address {ip} here");
                continue;
            };
            let port = listener.local_addr().expect("an address").port();
            let server = std::thread::spawn(move || echo(&mut listener.accept().expect("a client").0));
            converse(dial(&Target::Tcp(host.to_owned(), port)));
            server.join().expect("joined");
        }
    }

    #[test]
    fn unix_sockets() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let path = dir.path().join("socket");
        let target = Target::Unix(path.clone());
        assert!(dial(&target).is_err_and(|why| why.to_string().contains("No such file")));
        let listener = UnixListener::bind(&path).expect("bound");
        let server = std::thread::spawn(move || echo(&mut listener.accept().expect("a client").0));
        converse(dial(&target));
        server.join().expect("joined");
        assert!(dial(&target).is_err_and(|why| why.to_string().contains("refused")));
    }

    #[test]
    fn the_next_address_is_tried() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let others: [IpAddr; 2] = [Ipv4Addr::new(127, 0, 0, 2).into(), Ipv4Addr::LOCALHOST.into()];
        let stream = tcp(&others, port, soon()).expect("connected");
        assert_eq!(stream.peer_addr().map(|to| to.ip()).ok(), Some(others[1]));
        drop((listener, stream));
        let why = tcp(&others, port, soon())
            .map(|_| ())
            .expect_err("nobody there")
            .to_string();
        assert!(why.contains("127.0.0.2: ") && why.contains(", 127.0.0.1: "), "{why}");
        assert_eq!(tcp(&others, port, Instant::now()).map(|_| ()), Err(Lost::TimedOut));
    }

    #[test]
    fn a_full_queue_is_not_waited_for_longer_than_allowed() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let path = dir.path().join("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.bind(&SockAddr::unix(&path).expect("an address")).expect("bound");
        socket.listen(0).expect("listens");
        let mut waiting = Vec::new();
        let why = loop {
            match unix(&path, Instant::now() + Duration::from_millis(20)) {
                Ok(stream) => waiting.push(stream),
                Err(why) => break why,
            }
        };
        assert_eq!(why, Lost::TimedOut);
    }

    #[test]
    fn silence_and_deafness_end_with_the_deadline() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("nonblocking");
        let mut wire = Polled::new(ours).expect("a wire");
        let short = || Instant::now() + Duration::from_millis(20);
        assert_eq!(wire.read(&mut [0; 4], short(), false).ok(), Some(Heard::TimedOut));
        let sent = wire.write(&vec![b'x'; 1 << 22], short());
        assert_eq!(sent.map_err(|why| why.kind()), Err(ErrorKind::TimedOut));
    }
}
