//! Connections that a plugin under test makes: to a closure that plays the server, or to a socket of this machine.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::session::remote::{Dial, Lost, Target};
use crate::session::trust::{ClientTls, RemoteTls};
use crate::session::wire::{Heard, Wire};

type Player = Arc<dyn Fn(UnixStream) + Send + Sync>;
type Judge = Arc<dyn Fn(&ClientTls) -> Result<(), String> + Send + Sync>;

#[derive(Default)]
struct State {
    players: HashMap<Target, Player>,
    judge: Option<Judge>,
    real: Option<Arc<dyn Dial>>,
    dialled: Vec<Target>,
}

/// The way to other servers, as the test has laid it: [`KitDial::at`] puts a closure in a server's place. Everything
/// else is looked for on this machine: a unix socket, an address, `localhost`. Clones are the same.
#[derive(Clone, Default)]
pub struct KitDial(Arc<Mutex<State>>);

impl KitDial {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever connects to `target` (`mx.example:25`) talks to `player`, which gets the other end of the connection,
    /// in a thread of its own for each.
    ///
    /// # Panics
    /// If it is no target.
    pub fn at(&self, target: &str, player: impl Fn(UnixStream) + Send + Sync + 'static) {
        match Target::parse(target, 0) {
            Ok(target) => self.state().players.insert(target, Arc::new(player)),
            Err(why) => panic!("{why}"),
        };
    }

    /// What comes of encrypting a connection: an error is a handshake that fails; after a success both sides go on in
    /// clear. Without this there is no TLS.
    pub fn encrypts(&self, judge: impl Fn(&ClientTls) -> Result<(), String> + Send + Sync + 'static) {
        self.state().judge = Some(Arc::new(judge));
    }

    /// Leaves all that no closure plays to another, such as the daemon's own.
    pub fn leave_to(&self, other: impl Dial + 'static) {
        self.state().real = Some(Arc::new(other));
    }

    /// Takes the list of those that were connected to so far, or tried.
    pub fn dialled(&self) -> Vec<Target> {
        std::mem::take(&mut self.state().dialled)
    }
}

impl Dial for KitDial {
    fn connect(&self, to: &Target, until: Instant) -> Result<Box<dyn Wire>, Lost> {
        let mut state = self.state();
        state.dialled.push(to.clone());
        let (player, real) = (state.players.get(to).cloned(), state.real.clone());
        drop(state);
        if let Some(player) = player {
            let (ours, theirs) = UnixStream::pair()?;
            std::thread::spawn(move || player(theirs));
            return Ok(Box::new(Timed(ours)));
        }
        match (real, to) {
            (Some(real), _) => real.connect(to, until),
            (None, Target::Unix(path)) => Ok(Box::new(Timed(UnixStream::connect(path)?))),
            (None, Target::Tcp(host, port)) => {
                let ip: Option<IpAddr> = match host.as_str() {
                    "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
                    other => other.parse().ok(),
                };
                let ip = ip.ok_or_else(|| Lost::because(format_args!("there is no host {host}")))?;
                let left = left(until)?;
                Ok(Box::new(Timed(TcpStream::connect_timeout(&(ip, *port).into(), left)?)))
            }
        }
    }

    fn encrypt(
        &self,
        clear: Box<dyn Wire>,
        how: &ClientTls,
        until: Instant,
    ) -> Result<(Box<dyn Wire>, RemoteTls), Lost> {
        let (judge, real) = {
            let state = self.state();
            (state.judge.clone(), state.real.clone())
        };
        match (judge, real) {
            (Some(judge), _) => {
                judge(how).map_err(Lost::Failed)?;
                let facts = RemoteTls {
                    version: "TLSv1.3",
                    cipher: "TLS_AES_256_GCM_SHA384",
                    fingerprint: "00".to_owned(),
                };
                Ok((clear, facts))
            }
            (None, Some(real)) => real.encrypt(clear, how, until),
            (None, None) => Err(Lost::because("TLS: there is none in this test")),
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// A socket that blocks for a limited time.
trait Blocking: Read + Write + Send {
    fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()>;
    fn finish(&self) -> io::Result<()>;
}

macro_rules! blocking {
    ($($socket:ty)*) => {$(
        impl Blocking for $socket {
            fn limit(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
                self.set_read_timeout(read)?;
                self.set_write_timeout(write)
            }
            fn finish(&self) -> io::Result<()> {
                self.shutdown(Shutdown::Write)
            }
        }
    )*};
}

blocking! { TcpStream UnixStream }

/// A wire over it.
struct Timed<S>(S);

impl<S: Blocking> Wire for Timed<S> {
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, _: bool) -> io::Result<Heard> {
        let mut first = true;
        loop {
            let left = match left(deadline) {
                Ok(left) => left,
                // what is there already is read in any case
                Err(_) if first => Duration::from_millis(1),
                Err(_) => return Ok(Heard::TimedOut),
            };
            first = false;
            self.0.limit(Some(left), None)?;
            match self.0.read(buffer) {
                Ok(0) => return Ok(Heard::End),
                Ok(count) => return Ok(Heard::Bytes(count)),
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(why) => return Err(why),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.limit(None, Some(left(deadline)?))?;
            match self.0.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::remote::Remote;
    use crate::session::trust::Trust;

    #[test]
    fn closures_play_servers() {
        let kit = KitDial::default();
        kit.at("mx.example:25", |mut client| {
            let _ = client.write_all(b"220 played\r\n");
        });
        let dial: Arc<dyn Dial> = Arc::new(kit.clone());
        let soon = Instant::now() + Duration::from_secs(20);
        let to = |host: &str| Target::Tcp(host.to_owned(), 25);
        let mut remote = Remote::connect(&dial, &to("mx.example"), soon).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(remote.line(100, soon), Ok(&b"220 played"[..]));
        assert_eq!(remote.line(100, soon), Err(Lost::Closed));
        let other = Remote::connect(&dial, &to("elsewhere.example"), soon).map(|_| ());
        assert_eq!(other, Err(Lost::because("there is no host elsewhere.example")));
        assert_eq!(kit.dialled(), [to("mx.example"), to("elsewhere.example")]);
    }

    #[test]
    fn encryption_is_what_the_test_says() {
        let kit = KitDial::default();
        kit.at("mx.example:25", |mut client| {
            let _ = client.write_all(b"220 played\r\n");
        });
        let dial: Arc<dyn Dial> = Arc::new(kit.clone());
        let soon = Instant::now() + Duration::from_secs(20);
        let tls = ClientTls::new(Trust::Anyone, "mx.example");
        let encrypted = || {
            let remote = Remote::connect(&dial, &Target::Tcp("mx.example".to_owned(), 25), soon);
            let mut remote = remote.unwrap_or_else(|why| panic!("{why}"));
            remote.encrypt(&tls, soon).map(|facts| facts.version)
        };
        assert!(encrypted().is_err());
        kit.encrypts(|how| match how.name.as_str() {
            "mx.example" => Ok(()),
            _ => Err("another name".to_owned()),
        });
        assert_eq!(encrypted(), Ok("TLSv1.3"));
        kit.encrypts(|_| Err("handshake failed".to_owned()));
        assert_eq!(encrypted(), Err(Lost::because("handshake failed")));
    }
}
