//! Servers of the tests that say in memory what is laid down for them, packet by packet, at once or when waited for;
//! that fail to take what is written; and that note until when there would have been waiting. No time passes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::plugin::{ClientTls, Dial, Heard, Lost, RemoteTls, Target, Wire};

/// The packets of a server, one for each time that it is waited for. One that begins with '!' is there before that; a
/// '!' alone is the end.
pub type Packets<'a> = &'a [&'static str];

/// What a server of SMTP or LMTP says to a message for two, up to the answers to it.
pub const GO: [&str; 6] = [
    "220 x\r\n",
    "250 x\r\n",
    "250 ok\r\n",
    "250 ok\r\n",
    "250 ok\r\n",
    "354 go\r\n",
];

#[derive(Default)]
struct State {
    /// What is said on the connections that are still to be made, and on those that are.
    coming: VecDeque<VecDeque<&'static str>>,
    made: Vec<VecDeque<&'static str>>,
    /// What was written to each of them.
    told: Vec<String>,
    /// A write with this in it fails.
    fails_at: Option<&'static str>,
    /// Until when there was waiting.
    deadlines: Vec<Instant>,
}

/// The way to these servers.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

/// One connection.
struct Connection {
    number: usize,
    memory: Memory,
}

impl Memory {
    /// With what is said on each connection, one after the other; then nobody answers any more.
    pub fn new(connections: &[Packets<'_>]) -> Memory {
        let memory = Memory::default();
        memory.state().coming = connections.iter().map(|one| one.iter().copied().collect()).collect();
        memory
    }

    /// Lets a write with this in it fail: nobody knows how much of it has arrived.
    pub fn fails_at(self, text: &'static str) -> Memory {
        self.state().fails_at = Some(text);
        self
    }

    /// A further packet on the last connection.
    pub fn says(&self, packet: &'static str) {
        self.state().made.last_mut().expect("a connection").push_back(packet);
    }

    /// What was written to each of the servers that were connected to.
    pub fn told(&self) -> Vec<String> {
        self.state().told.clone()
    }

    /// Until when there was waiting, each time.
    pub fn deadlines(&self) -> Vec<Instant> {
        self.state().deadlines.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dial for Memory {
    fn connect(&self, _: &Target, until: Instant) -> Result<Box<dyn Wire>, Lost> {
        let mut state = self.state();
        state.deadlines.push(until);
        let Some(packets) = state.coming.pop_front() else {
            return Err(Lost::because("nobody answers"));
        };
        state.made.push(packets);
        state.told.push(String::new());
        let number = state.made.len() - 1;
        let memory = self.clone();
        Ok(Box::new(Connection { number, memory }))
    }

    fn encrypt(&self, _: Box<dyn Wire>, _: &ClientTls, _: Instant) -> Result<(Box<dyn Wire>, RemoteTls), Lost> {
        Err(Lost::because("there is no TLS"))
    }
}

impl Wire for Connection {
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, _: bool) -> io::Result<Heard> {
        let mut state = self.memory.state();
        let waits = deadline > Instant::now() + Duration::from_millis(5);
        if waits {
            state.deadlines.push(deadline);
        }
        let packets = &mut state.made[self.number];
        let is_there = packets.front().is_some_and(|packet| packet.starts_with('!'));
        if !waits && !is_there {
            return Ok(Heard::TimedOut);
        }
        let packet = packets
            .pop_front()
            .unwrap_or_default()
            .trim_start_matches('!')
            .as_bytes();
        buffer[..packet.len()].copy_from_slice(packet);
        match packet.len() {
            0 => Ok(Heard::End),
            length => Ok(Heard::Bytes(length)),
        }
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut state = self.memory.state();
        state.deadlines.push(deadline);
        let text = String::from_utf8_lossy(bytes);
        state.told[self.number].push_str(&text);
        match state.fails_at.is_some_and(|part| text.contains(part)) {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}
