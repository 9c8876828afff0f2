//! The wire over a descriptor: nonblocking reads and writes, and mio to wait between them.
//!
//! Each thread has one poll, made on its first wait and used for all its sessions. Registration is edge-triggered, as
//! mio's always is: a read that fills less than the buffer has emptied the socket, and what comes later gives a new
//! edge, so a command costs one wait and one read.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::session::wire::{Heard, Wire};

/// What the daemon wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// To go on.
    No,
    /// To end between transactions, and by the deadline in any case.
    FinishBy(Instant),
    /// To end at once.
    Now,
}

/// How a session learns that the daemon ends.
pub trait Ending: Send + Sync {
    /// Descriptors of which one becomes readable when [`Ending::leave`] may have changed; the same for all sessions of
    /// a thread.
    fn fds(&self) -> [Option<RawFd>; 2];
    /// Called when a descriptor has become readable, so that asking what the daemon wants can be cheap.
    fn woken(&self) {}
    /// What the daemon wants now; asked before every wait.
    fn leave(&self) -> Leave;
    /// Hears at which socket the client may be told a line of text if this process dies; none while a line is
    /// half-written, and before the socket is closed.
    fn last_words(&self, _socket: Option<RawFd>) {}
    /// The session has died; the client may be told.
    fn died(&self) {}
    /// Nobody has said anything for a while: what the session does not need to wait may be given back.
    fn rests(&self) {}
}

/// A session that nobody ends from outside.
pub struct NoEnding;

impl Ending for NoEnding {
    fn fds(&self) -> [Option<RawFd>; 2] {
        [None; 2]
    }
    fn leave(&self) -> Leave {
        Leave::No
    }
}

/// The two directions of a connection, nonblocking.
pub trait Ends: Read + Write + Send {
    /// The descriptor that is read from.
    fn input(&self) -> RawFd;
    /// The descriptor that is written to.
    fn output(&self) -> RawFd;
}

impl Ends for TcpStream {
    fn input(&self) -> RawFd {
        self.as_raw_fd()
    }
    fn output(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl Ends for socket2::Socket {
    fn input(&self) -> RawFd {
        self.as_raw_fd()
    }
    fn output(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl Ends for UnixStream {
    fn input(&self) -> RawFd {
        self.as_raw_fd()
    }
    fn output(&self) -> RawFd {
        self.as_raw_fd()
    }
}

/// stdin and stdout, whatever they are; made nonblocking while this value lives.
pub struct Stdio {
    input: File,
    output: File,
}

impl Stdio {
    /// Takes stdin and stdout.
    ///
    /// # Errors
    /// They are closed.
    pub fn open() -> io::Result<Stdio> {
        let stdio = Stdio {
            input: File::from(io::stdin().as_fd().try_clone_to_owned()?),
            output: File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        stdio.set_nonblocking(true)?;
        Ok(stdio)
    }

    /// Both ends of the client's socket, if stdin is one: the client's and ours.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let socket = TcpStream::from(self.input.as_fd().try_clone_to_owned().ok()?);
        Some((socket.peer_addr().ok()?, socket.local_addr().ok()?))
    }

    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        for end in [&self.input, &self.output] {
            // a UnixStream is only the door to FIONBIO here, which works on any descriptor
            UnixStream::from(end.as_fd().try_clone_to_owned()?).set_nonblocking(on)?;
        }
        Ok(())
    }
}

impl Read for Stdio {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Stdio {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ends for Stdio {
    fn input(&self) -> RawFd {
        self.input.as_raw_fd()
    }
    fn output(&self) -> RawFd {
        self.output.as_raw_fd()
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        // others may share the open files: a terminal, a pipe
        let _ = self.set_nonblocking(false);
    }
}

/// After so long a silence a session rests.
const REST: Duration = Duration::from_secs(1);

const CLIENT: Token = Token(0);
const ENDING: Token = Token(1);

/// What a thread waits with.
struct Waiter {
    poll: Poll,
    events: Events,
    ending: [Option<RawFd>; 2],
}

thread_local! {
    static WAITER: RefCell<Option<Waiter>> = const { RefCell::new(None) };
}

/// Runs `work` with the thread's waiter.
fn with_waiter<T>(work: impl FnOnce(&mut Waiter) -> io::Result<T>) -> io::Result<T> {
    WAITER.with_borrow_mut(|slot| {
        let waiter = match slot {
            Some(waiter) => waiter,
            None => slot.insert(Waiter {
                poll: Poll::new()?,
                events: Events::with_capacity(8),
                ending: [None; 2],
            }),
        };
        work(waiter)
    })
}

/// Which way a wait looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// A wire over any pair of ends.
pub struct PolledWire<E: Ends> {
    ends: E,
    ending: Arc<dyn Ending>,
    /// Registered with the thread's poll; a regular file cannot be, and never blocks.
    registered: Option<Way>,
    waitable: bool,
    /// A read may find something without waiting first.
    readable: bool,
    /// The client has closed; no further edge will come.
    hung_up: bool,
    /// It carries something else than text, into which nobody may write a line.
    sealed: bool,
    /// The daemon knows that nobody says anything.
    rests: bool,
}

impl<E: Ends> PolledWire<E> {
    /// A wire over nonblocking ends.
    pub fn new(ends: E, ending: Arc<dyn Ending>) -> PolledWire<E> {
        ending.last_words(Some(ends.output()));
        PolledWire {
            ends,
            ending,
            registered: None,
            waitable: true,
            readable: true,
            hung_up: false,
            sealed: false,
            rests: false,
        }
    }

    /// Waits for the client or the deadline; `Leaving` if the daemon does not want to wait that long.
    fn wait(&mut self, way: Way, deadline: Instant, busy: bool) -> io::Result<Option<Heard>> {
        let (until, then) = match self.ending.leave() {
            Leave::No => (deadline, Heard::TimedOut),
            Leave::Now => return Ok(Some(Heard::Leaving)),
            Leave::FinishBy(_) if !busy => return Ok(Some(Heard::Leaving)),
            Leave::FinishBy(grace) if grace < deadline => (grace, Heard::Leaving),
            Leave::FinishBy(_) => (deadline, Heard::TimedOut),
        };
        if !self.waitable {
            self.readable = true;
            return Ok(None);
        }
        let now = Instant::now();
        if now >= until {
            return Ok(Some(then));
        }
        self.register(way)?;
        let longest = until - now;
        let wait = if self.rests { longest } else { longest.min(REST) };
        with_waiter(|waiter| {
            match waiter.poll.poll(&mut waiter.events, Some(wait)) {
                Err(why) if why.kind() == ErrorKind::Interrupted => return Ok(()),
                other => other?,
            }
            if waiter.events.is_empty() && wait < longest {
                self.rests = true;
                self.ending.rests();
            }
            for event in &waiter.events {
                if event.token() == ENDING {
                    self.ending.woken();
                } else {
                    self.readable |= event.is_readable();
                    self.hung_up |= event.is_read_closed() || event.is_error();
                }
            }
            Ok(())
        })?;
        Ok(None)
    }

    /// Registers the descriptor of this direction, and the daemon's word once per thread.
    fn register(&mut self, way: Way) -> io::Result<()> {
        if self.registered == Some(way) {
            return Ok(());
        }
        let (fd, interest) = match way {
            Way::In => (self.ends.input(), Interest::READABLE),
            Way::Out => (self.ends.output(), Interest::WRITABLE),
        };
        let (old, ending) = (self.registered.take(), self.ending.fds());
        let old = old.map(|way| match way {
            Way::In => self.ends.input(),
            Way::Out => self.ends.output(),
        });
        let done = with_waiter(|waiter| {
            let registry = waiter.poll.registry();
            if waiter.ending != ending && ending != [None; 2] {
                for stale in std::mem::take(&mut waiter.ending).into_iter().flatten() {
                    let _ = registry.deregister(&mut SourceFd(&stale));
                }
                for fd in ending.into_iter().flatten() {
                    registry.register(&mut SourceFd(&fd), ENDING, Interest::READABLE)?;
                }
                waiter.ending = ending;
            }
            if let Some(old) = old {
                registry.deregister(&mut SourceFd(&old))?;
            }
            registry.register(&mut SourceFd(&fd), CLIENT, interest)
        });
        match done {
            Ok(()) => self.registered = Some(way),
            // epoll does not take regular files; they never block
            Err(why) if why.kind() == ErrorKind::PermissionDenied => self.waitable = false,
            Err(why) => return Err(why),
        }
        // what arrived before the registration gives an edge with it, or shows in the next read
        self.readable = true;
        Ok(())
    }
}

impl<E: Ends> Wire for PolledWire<E> {
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, busy: bool) -> io::Result<Heard> {
        loop {
            if self.readable || self.hung_up {
                match self.ends.read(buffer) {
                    Ok(0) => return Ok(Heard::End),
                    Ok(count) => {
                        self.rests = false;
                        self.readable = count == buffer.len();
                        return Ok(Heard::Bytes(count));
                    }
                    Err(why) if why.kind() == ErrorKind::WouldBlock => self.readable = false,
                    Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                    Err(why) => return Err(why),
                }
            }
            if let Some(end) = self.wait(Way::In, deadline, busy)? {
                return Ok(end);
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            match self.ends.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    // the rule is that all goes at once
                    if !self.sealed && count < whole {
                        self.ending.last_words(bytes.is_empty().then_some(self.ends.output()));
                    }
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    if self.wait(Way::Out, deadline, true)?.is_some() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn seal(&mut self) {
        self.sealed = true;
        self.ending.last_words(None);
    }
}

impl<E: Ends> Drop for PolledWire<E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ending.died();
        }
        self.ending.last_words(None);
        let Some(way) = self.registered else { return };
        let fd = match way {
            Way::In => self.ends.input(),
            Way::Out => self.ends.output(),
        };
        // closing takes it out of the poll only if nobody else has the file open; stdin is shared
        let _ = with_waiter(|waiter| waiter.poll.registry().deregister(&mut SourceFd(&fd)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pair() -> (UnixStream, PolledWire<UnixStream>) {
        let (client, server) = UnixStream::pair().expect("a pair of sockets");
        server.set_nonblocking(true).expect("nonblocking");
        (client, PolledWire::new(server, Arc::new(NoEnding)))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn bytes_come_in_order_and_then_the_end() {
        let (mut client, mut wire) = pair();
        let mut buffer = [0; 4];
        client.write_all(b"abcdef").expect("written");
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::Bytes(4)));
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::Bytes(2)));
        let writer = std::thread::spawn(move || {
            client.write_all(b"xy").expect("written");
        });
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::Bytes(2)));
        writer.join().expect("joined");
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::End));
    }

    #[test]
    fn data_and_end_together_are_both_seen() {
        let (mut client, mut wire) = pair();
        let mut buffer = [0; 64];
        // registered first, so that one edge tells of both
        let short = Instant::now() + Duration::from_millis(1);
        assert_eq!(wire.read(&mut buffer, short, false).ok(), Some(Heard::TimedOut));
        client.write_all(b"QUIT").expect("written");
        drop(client);
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::Bytes(4)));
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::End));
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up() {
        let (_client, mut wire) = pair();
        let deadline = Instant::now() + Duration::from_millis(20);
        let sent = wire.write(&vec![b'x'; 1 << 22], deadline);
        assert_eq!(sent.map_err(|why| why.kind()), Err(ErrorKind::TimedOut));
    }

    struct Told(Leave);

    impl Ending for Told {
        fn fds(&self) -> [Option<RawFd>; 2] {
            [None; 2]
        }
        fn leave(&self) -> Leave {
            self.0
        }
    }

    #[test]
    fn a_transaction_may_be_finished_and_nothing_else() {
        let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
        server.set_nonblocking(true).expect("nonblocking");
        let mut wire = PolledWire::new(server, Arc::new(Told(Leave::FinishBy(soon()))));
        let mut buffer = [0; 8];
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::Leaving));
        client.write_all(b"x").expect("written");
        assert_eq!(wire.read(&mut buffer, soon(), true).ok(), Some(Heard::Bytes(1)));
    }
}
