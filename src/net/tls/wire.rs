//! An encrypted wire over any other.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::DerefMut;
use std::time::Instant;

use rustls::{ConnectionCommon, Error, PeerIncompatible, SideData};

use crate::session::wire::{Heard, Wire};

/// Bytes read at a time: one record of the greatest size.
const INPUT: usize = 16 * 1024 + 256 + 5;

/// A connection under TLS, at either side of it.
pub(super) struct TlsWire<T, S>
where
    T: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    clear: Box<dyn Wire>,
    tls: T,
    incoming: Box<[u8]>,
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
}

impl<T, S> TlsWire<T, S>
where
    T: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    pub(super) fn new(clear: Box<dyn Wire>, tls: T) -> TlsWire<T, S> {
        TlsWire {
            clear,
            tls,
            incoming: vec![0; INPUT].into_boxed_slice(),
            start: 0,
            end: 0,
            outgoing: Vec::new(),
        }
    }

    /// The state of rustls.
    pub(super) fn connection(&self) -> &T {
        &self.tls
    }

    /// Agrees with the other side on everything.
    ///
    /// # Errors
    /// Why it came to nothing; the other side has been sent the alert that belongs to it.
    pub(super) fn handshake(&mut self, deadline: Instant) -> Result<(), Failed> {
        // a server that has closed already may have left words that say more than the failure to write to it
        let _ = self.send(deadline);
        while self.tls.is_handshaking() {
            match self.advance(deadline, false).map_err(Failed::Error)? {
                Heard::Bytes(_) => {}
                Heard::End => return Err(Failed::Closed),
                Heard::TimedOut => return Err(Failed::TimedOut),
                Heard::Leaving => return Err(Failed::Leaving),
            }
        }
        Ok(())
    }

    /// Deals with a piece of what has come in, or waits for more; answers the client where TLS itself has to.
    fn advance(&mut self, deadline: Instant, busy: bool) -> io::Result<Heard> {
        if self.start == self.end {
            // who sends without saying anything never makes the wire wait
            if Instant::now() >= deadline {
                return Ok(Heard::TimedOut);
            }
            match self.clear.read(&mut self.incoming, deadline, busy)? {
                Heard::Bytes(count) => (self.start, self.end) = (0, count),
                other => return Ok(other),
            }
        }
        let mut rest = &self.incoming[self.start..self.end];
        let taken = self.tls.read_tls(&mut rest)?;
        // nothing is taken after the other side's good-bye
        self.start = if taken == 0 { self.end } else { self.start + taken };
        let state = self.tls.process_new_packets();
        let sent = self.send(deadline);
        match state {
            Ok(_) => sent.map(|()| Heard::Bytes(taken)),
            Err(why) => Err(io::Error::new(ErrorKind::InvalidData, why)),
        }
    }

    /// Sends what rustls has ready.
    fn send(&mut self, deadline: Instant) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing)?;
        }
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let sent = self.clear.write(&self.outgoing, deadline);
        self.outgoing.clear();
        sent
    }
}

/// Why a handshake came to nothing.
pub(super) enum Failed {
    /// The other side closed the connection.
    Closed,
    /// Not done in time.
    TimedOut,
    /// The daemon is ending.
    Leaving,
    /// Anything else.
    Error(io::Error),
}

impl Failed {
    /// In words, where the other side is a client.
    pub(super) fn at_client(&self) -> String {
        match self {
            Failed::Closed => "the client closed the connection".to_owned(),
            Failed::TimedOut => "not done in time".to_owned(),
            Failed::Leaving => "the daemon is ending".to_owned(),
            Failed::Error(why) => words(why),
        }
    }
}

/// Why a handshake failed, in words where rustls only has names.
fn words(why: &io::Error) -> String {
    use PeerIncompatible::*;
    let tls = why.get_ref().and_then(|why| why.downcast_ref::<Error>());
    let explained = match tls {
        Some(Error::PeerIncompatible(
            // what clients send who know nothing newer than 1.1
            SignatureAlgorithmsExtensionRequired
            | SupportedVersionsExtensionRequired
            | Tls12NotOffered
            | Tls12NotOfferedOrEnabled,
        )) => "the client speaks neither TLS 1.2 nor 1.3, or not the one that is enabled",
        Some(Error::PeerIncompatible(NoCipherSuitesInCommon)) => "the client has none of the ciphers that are enabled",
        Some(Error::PeerIncompatible(NoKxGroupsInCommon)) => "the client has none of the groups for the key exchange",
        Some(Error::InvalidMessage(_)) => "what the client sent is no TLS",
        Some(Error::NoCertificatesPresented) => "the client showed no certificate",
        _ => return why.to_string(),
    };
    format!("{explained} ({why})")
}

impl<T, S> Wire for TlsWire<T, S>
where
    T: DerefMut<Target = ConnectionCommon<S>> + Send,
    S: SideData,
{
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, busy: bool) -> io::Result<Heard> {
        loop {
            match self.tls.reader().read(buffer) {
                Ok(0) => return Ok(Heard::End),
                Ok(count) => return Ok(Heard::Bytes(count)),
                Err(why) if why.kind() == ErrorKind::WouldBlock => {}
                // the end without good-bye; commands and messages show by themselves whether they are complete
                Err(why) if why.kind() == ErrorKind::UnexpectedEof => return Ok(Heard::End),
                Err(why) => return Err(why),
            }
            match self.advance(deadline, busy)? {
                Heard::Bytes(_) => {}
                other => return Ok(other),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.tls.writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.send(deadline)?;
        }
        Ok(())
    }
}

impl<T, S> Drop for TlsWire<T, S>
where
    T: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    fn drop(&mut self) {
        if self.tls.is_handshaking() {
            return;
        }
        // so that the client knows that nothing was cut off; if it does not take it at once, it has left anyway
        self.tls.send_close_notify();
        let _ = self.send(Instant::now());
    }
}
