//! Telling the service manager how the daemon is (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names.
//!
//! Where nobody asked to be told, nothing is done. What does not arrive is the manager's loss: it will act on silence.

use std::env;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
}

/// The manager wants a sign of life every so often.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

impl Notifier {
    /// The manager that the environment names.
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok();
        let to = env::var_os("NOTIFY_SOCKET").and_then(|name| open(name.as_encoded_bytes()).ok());
        let every = interval(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        let watchdog = every.filter(|_| to.is_some()).map(|every| Watchdog {
            every,
            due: Instant::now(),
        });
        Self { to, watchdog }
    }

    /// All is well: started, or loaded anew or not, as the status says.
    pub(super) fn ready(&self, status: &str) {
        self.tell("READY=1", status);
    }

    /// A new configuration is being loaded.
    pub(super) fn reloading(&self) {
        let mut words = String::from("RELOADING=1");
        // Type=notify-reload wants to know when it began.
        if let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
            let microseconds = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000;
            let _ = write!(words, "\nMONOTONIC_USEC={microseconds}");
        }
        self.tell(&words, "loading the configuration anew");
    }

    /// The daemon ends, for which it may take so long.
    pub(super) fn stopping(&self, grace: Duration) {
        let words = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", grace.as_micros());
        self.tell(&words, "ending; open transactions may finish");
    }

    /// Another process is the daemon from now on; this one says no more.
    pub(super) fn replaced_by(&mut self, pid: Pid) {
        self.tell(&format!("MAINPID={pid}"), "another release takes over");
        *self = Self::default();
    }

    /// When the next sign of life is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Gives a sign of life if it is due; `status` says how things stand.
    pub(super) fn beat(&mut self, status: impl FnOnce() -> String) {
        let now = Instant::now();
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) {
            watchdog.due = now + watchdog.every;
            self.tell("WATCHDOG=1", &status());
        }
    }

    fn tell(&self, words: &str, status: &str) {
        if let Some((socket, manager)) = &self.to {
            let _ = socket.send_to_addr(format!("{words}\nSTATUS={status}\n").as_bytes(), manager);
        }
    }
}

/// A socket to write from, and the address `name`: a path, or `@` and an abstract name.
fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name {
        [b'/', ..] => SocketAddr::from_pathname(String::from_utf8_lossy(name).as_ref())?,
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// How often to give a sign of life: twice as often as asked for, if this process is meant.
fn interval(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let microseconds: u64 = microseconds?.parse().ok()?;
    (meant && microseconds > 0).then(|| Duration::from_micros(microseconds / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn speaks_to_paths_and_abstract_names() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let to = Some(open(path.as_os_str().as_encoded_bytes()).unwrap());
        let told = Notifier { to, watchdog: None };
        told.ready("generation 1");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=generation 1\n");
        told.reloading();
        assert!(heard(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));

        let name = format!("qpsmtpd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let to = Some(open(format!("@{name}").as_bytes()).unwrap());
        let told = Notifier { to, watchdog: None };
        told.stopping(Duration::from_secs(2));
        assert!(heard(&manager).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\n"));
        let mut told = told;
        told.replaced_by(Pid::from_raw(7));
        assert!(heard(&manager).starts_with("MAINPID=7\n"));
        assert!(told.to.is_none(), "no word from one who is not the daemon any more");
        assert!(open(b"relative").is_err() && open(b"").is_err());
    }

    #[test]
    fn beats_when_it_is_due_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut told = Notifier {
            to: Some(open(path.as_os_str().as_encoded_bytes()).unwrap()),
            watchdog: Some(Watchdog {
                every: Duration::from_secs(3600),
                due: Instant::now(),
            }),
        };
        told.beat(|| "busy".into());
        assert_eq!(heard(&manager), "WATCHDOG=1\nSTATUS=busy\n");
        told.beat(|| "never".into());
        assert!(manager.recv(&mut [0; 8]).is_err());
        assert!(told.due().unwrap() > Instant::now() + Duration::from_secs(3000));
        Notifier::default().beat(|| unreachable!("nobody listens"));
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        assert_eq!(interval(Some("60000000"), None, 7), Some(Duration::from_secs(30)));
        assert_eq!(interval(Some("60000000"), Some("7"), 7), Some(Duration::from_secs(30)));
        assert_eq!(interval(Some("60000000"), Some("8"), 7), None);
        assert_eq!(interval(Some("0"), None, 7), None);
        assert_eq!(interval(None, None, 7), None);
    }
}
