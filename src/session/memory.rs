//! A wire in memory: for tests, the plugin kit and fuzzing. No sockets, no waiting.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::wire::{Heard, Wire};

#[derive(Default)]
struct Ends {
    input: VecDeque<Vec<u8>>,
    closed: bool,
    output: Vec<u8>,
    writes: usize,
}

/// Both ends of a wire in memory; clones are the same wire.
#[derive(Clone, Default)]
pub struct MemoryWire(Arc<Mutex<Ends>>);

impl MemoryWire {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes from the client; each call arrives as a packet of its own.
    pub fn say(&self, bytes: impl Into<Vec<u8>>) {
        self.ends().input.push_back(bytes.into());
    }

    /// The client closes after what it has said; until then silence is a time-out.
    pub fn close(&self) {
        self.ends().closed = true;
    }

    /// Takes what the server has written so far.
    pub fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut self.ends().output)
    }

    /// How many writes the server has made so far.
    pub fn writes(&self) -> usize {
        self.ends().writes
    }
}

impl Wire for MemoryWire {
    fn read(&mut self, buffer: &mut [u8], _deadline: Instant, _busy: bool) -> io::Result<Heard> {
        let mut ends = self.ends();
        let Some(mut packet) = ends.input.pop_front() else {
            return Ok(if ends.closed { Heard::End } else { Heard::TimedOut });
        };
        let count = packet.len().min(buffer.len());
        buffer[..count].copy_from_slice(&packet[..count]);
        if count < packet.len() {
            ends.input.push_front(packet.split_off(count));
        }
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        let mut ends = self.ends();
        ends.output.extend_from_slice(bytes);
        ends.writes += 1;
        Ok(())
    }
}
