//! What clients are told when their process dies of a fault of its own.
//!
//! A session says which socket may be told something, and takes that back while a line is half-written or when the
//! client no longer speaks plain text. When the process dies by a signal that faults raise (an invalid address, a full
//! stack, `abort`), the handler writes the same words to all of these sockets and lets the process die as before. A
//! session costs nothing for it but a store in memory. Nobody can do that after SIGKILL: the process itself is asked
//! nothing any more, and when its parent hears of it the descriptors are closed.

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::sys;

/// No socket.
const NONE: RawFd = -1;
/// So much of what a client has sent is read away, 512 bytes at a time.
const READS: usize = 64;

struct LastWords {
    words: Vec<u8>,
    /// By place.
    sockets: Box<[AtomicI32]>,
}

/// Those of this process; none in one that serves nobody.
static OWN: OnceLock<LastWords> = OnceLock::new();

/// Lets the clients at so many places be told these words. Once in a process.
pub(super) fn prepare(words: Vec<u8>, places: usize) {
    if words.is_empty() {
        return;
    }
    let sockets = (0..places).map(|_| AtomicI32::new(NONE)).collect();
    if OWN.set(LastWords { words, sockets }).is_ok() {
        sys::before_death(speak);
    }
}

/// From now on the client at this place may be told something at this socket, or no more at any.
pub(super) fn set(place: usize, socket: Option<RawFd>) {
    if let Some(at) = OWN.get().and_then(|own| own.sockets.get(place)) {
        at.store(socket.unwrap_or(NONE), SeqCst);
    }
}

/// Tells the client at this place alone.
pub(super) fn tell(place: usize) {
    if let Some(own) = OWN.get()
        && let Some(at) = own.sockets.get(place)
    {
        own.say(at);
    }
}

/// Tells all. Runs in a handler of signals: no lock, no memory that is not there already.
fn speak() {
    if let Some(own) = OWN.get() {
        own.sockets.iter().for_each(|at| own.say(at));
    }
}

impl LastWords {
    /// Says the words once, without waiting.
    fn say(&self, at: &AtomicI32) {
        let socket = at.swap(NONE, SeqCst);
        if socket == NONE || send(socket, &self.words, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_err() {
            return;
        }
        let _ = shutdown(socket, Shutdown::Write);
        // closing with bytes unread would send a reset, which takes the words back from the client
        let mut unread = [0; 512];
        for _ in 0..READS {
            match recv(socket, &mut unread, MsgFlags::MSG_DONTWAIT) {
                Ok(1..) => {}
                _ => break,
            }
        }
    }
}
