//! The wire between a client and the protocol: bytes in, bytes out, every wait with a deadline.

use std::io;
use std::time::Instant;

/// What came of waiting for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many bytes were read; at least one.
    Bytes(usize),
    /// The client has closed its side.
    End,
    /// The deadline passed.
    TimedOut,
    /// The daemon is ending and this session shall end, too.
    Leaving,
}

/// A connection as the protocol sees it. TCP, TLS, stdin and tests implement it.
pub trait Wire: Send {
    /// Reads what there is into `buffer`, waiting for the first byte until `deadline`.
    ///
    /// With `busy`, the session is in the middle of a transaction and may finish it when the daemon ends: `Leaving`
    /// is then only answered when its grace is over. Without, it is answered at once.
    ///
    /// # Errors
    /// Those of the connection; the session ends on any of them.
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, busy: bool) -> io::Result<Heard>;

    /// Writes all bytes before the deadline.
    ///
    /// # Errors
    /// `TimedOut` when the client does not take them in time, else those of the connection.
    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()>;

    /// What is written from now on is no text; nobody else may write a line in between.
    fn seal(&mut self) {}

    /// Says that no more will be written; what the other side writes can still be read.
    ///
    /// # Errors
    /// Those of the connection, or it is one of a kind that cannot be closed by halves.
    fn finish(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
