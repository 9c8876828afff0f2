//! What has been read from the wire and not been dealt with: one buffer, small for commands, large for messages.

use crate::mail::spare::Spares;

/// For the commands of a client that says one at a time: what the buffer begins with. Of many idle clients it is a good
/// part of their memory.
const FIRST: usize = 1024;
/// For commands; also the first piece of a message.
pub(super) const SMALL: usize = 2 * 1024;
/// While a message comes in.
pub(super) const LARGE: usize = 64 * 1024;
/// Large buffers that no message needs now. To make one costs more than all else that is done for a small message:
/// its 64 KiB must be zeroed.
static SPARES: Spares = Spares::new();

/// The buffer.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Something has filled it to the brim: the client says more at a time than FIRST.
    filled: bool,
    /// The small buffer, while a large one takes its place.
    small: Vec<u8>,
}

impl Input {
    /// The bytes that have been read and not been consumed.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Forgets the first `count` of them.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// A place to read into, in a buffer of at least this size (for SMALL, of FIRST as long as that is enough); see
    /// [`Input::came`].
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        let least = if least == SMALL && !self.filled { FIRST } else { least };
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let full = self.end == self.bytes.len();
        let size = least.max(if full { self.end * 2 } else { 0 });
        if self.bytes.len() < size {
            match (size == LARGE).then(|| SPARES.take()).flatten() {
                Some(mut spare) => {
                    spare[..self.end].copy_from_slice(&self.bytes[..self.end]);
                    self.small = std::mem::replace(&mut self.bytes, spare);
                }
                None => self.bytes.resize(size, 0),
            }
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes have been read into the room.
    pub(super) fn came(&mut self, count: usize) {
        self.end += count;
        self.filled |= self.end == self.bytes.len();
    }

    /// Gives memory back that only a message needed.
    pub(super) fn shrink(&mut self) {
        let left = self.end - self.start;
        if self.bytes.len() <= SMALL || left > SMALL {
            return;
        }
        let mut small = std::mem::take(&mut self.small);
        small.resize(SMALL, 0);
        small[..left].copy_from_slice(self.buffered());
        let large = std::mem::replace(&mut self.bytes, small);
        (self.start, self.end) = (0, left);
        if large.len() == LARGE {
            SPARES.give(large);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(input: &mut Input, least: usize, bytes: &[u8]) {
        input.room(least)[..bytes.len()].copy_from_slice(bytes);
        input.came(bytes.len());
    }

    #[test]
    fn begins_small_and_grows_for_who_says_much_at_a_time() {
        let mut input = Input::default();
        put(&mut input, SMALL, b"EHLO x\r\n");
        input.consume(8);
        assert_eq!(input.room(SMALL).len(), FIRST);
        put(&mut input, SMALL, &[b'x'; FIRST]);
        assert_eq!(input.room(SMALL).len(), SMALL - FIRST);
        input.consume(FIRST);
        assert_eq!(input.room(SMALL).len(), SMALL);
    }

    #[test]
    fn what_is_left_survives_every_change_of_the_buffer() {
        let mut input = Input::default();
        put(&mut input, SMALL, b"DATA\r\nX");
        input.consume(6);
        put(&mut input, LARGE, b"abc");
        assert_eq!((input.buffered(), input.bytes.len()), (&b"Xabc"[..], LARGE));
        input.consume(2);
        input.shrink();
        assert_eq!((input.buffered(), input.bytes.len()), (&b"bc"[..], SMALL));
        put(&mut input, LARGE, &[b'y'; LARGE - 2]);
        assert_eq!(input.room(LARGE).len(), LARGE);
        assert!(input.buffered().starts_with(b"bcyy"));
        input.shrink();
        assert_eq!(input.bytes.len(), 2 * LARGE, "too much is left for the small one");
        input.consume(LARGE);
        input.shrink();
        assert_eq!((input.buffered(), input.bytes.len()), (&b""[..], SMALL));
    }
}
