//! What a master leaves to the program that it starts in its place, as that program finds it: the sockets that
//! listen, the pid file with its lock, and a line on which to say that it serves.
//!
//! A variable of the environment tells which descriptor is what, in words `key=value`. Words of another release that
//! are not known are passed over, and so are the descriptors that they name.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::Socket;

use super::Listen;
use super::inherit::listener;
use super::keepsake::Left;
use super::probe::SOUND;

/// The variable.
pub(super) const VARIABLE: &str = "QPSMTPD_INHERIT";

/// What the former master leaves to this process.
#[derive(Debug)]
pub struct Heritage {
    /// Sockets that it has bound, and where it was to do so.
    pub(super) bound: Vec<(Listen, Socket)>,
    /// Sockets that it has itself been given by whoever started it.
    pub(super) given: Vec<Socket>,
    /// The socket of the status page.
    pub(super) show: Option<TcpListener>,
    /// Its pid file, locked.
    pub(super) pid_file: Option<File>,
    /// The nice value before the master made itself nicer.
    pub(super) nice: Option<i32>,
    /// Whether root has started the first master of this line.
    pub(super) root: bool,
    /// The former master's number.
    pub(super) master: u32,
    kept: Vec<Left>,
    line: UnixStream,
}

impl Heritage {
    /// Takes what the variable says out of `open`, the descriptors that this process was born with; none if nothing
    /// was left to it.
    ///
    /// # Errors
    /// A descriptor is not what it was said to be.
    pub(super) fn take(text: Option<&str>, open: &mut Vec<(RawFd, OwnedFd)>) -> Result<Option<Heritage>, String> {
        let words = text
            .unwrap_or_default()
            .split(' ')
            .filter_map(|word| word.split_once('='));
        let words: Vec<(&str, &str)> = words.collect();
        let word = |key: &str| words.iter().find(|word| word.0 == key).map(|word| word.1);
        let Some(master) = word("from").and_then(|from| from.parse().ok()) else {
            return Ok(None);
        };
        let line: Option<RawFd> = word("line").and_then(|number| number.parse().ok());
        let line = open.iter().find(|(number, _)| Some(*number) == line);
        // a program that some session has started may have the variable and nothing to inherit
        if line.and_then(|(_, line)| maker(line)) != Some(master) {
            return Ok(None);
        }
        let mut open: HashMap<RawFd, OwnedFd> = open.drain(..).collect();
        let mut take = |number: &str| {
            let found = number.parse().ok().and_then(|number| open.remove(&number));
            found.ok_or_else(|| format!("{VARIABLE}: descriptor {number} is not open"))
        };
        let socket = |fd: OwnedFd| listener(fd).map_err(|e| format!("{VARIABLE}: {e}"));
        let (mut bound, mut given, mut show, mut pid_file, mut line) = (Vec::new(), Vec::new(), None, None, None);
        let (mut nice, mut root, mut kept) = (None, false, Vec::new());
        for (key, value) in words {
            match key {
                "line" => line = Some(UnixStream::from(take(value)?)),
                "bound" => {
                    let (number, place) = value.split_once('@').unwrap_or((value, ""));
                    let place = Listen::read(place).ok_or_else(|| format!("{VARIABLE}: no address: {value}"))?;
                    bound.push((place, socket(take(number)?)?));
                }
                "given" => given.push(socket(take(value)?)?),
                // left as it is: the companion of the former master still waits at it
                "show" => show = Some(TcpListener::from(take(value)?)),
                "pid" => pid_file = Some(File::from(take(value)?)),
                "keep" => {
                    let (number, about) = value.split_once('@').unwrap_or((value, ""));
                    let (key, number) = number.split_once(':').unwrap_or(("", number));
                    let file = take(number)?;
                    let (key, about) = (key.to_owned(), about.to_owned());
                    kept.push(Left { key, about, file });
                }
                "nice" => nice = value.parse().ok(),
                "root" => root = value == "1",
                _ => {}
            }
        }
        let line = line.ok_or_else(|| format!("{VARIABLE} names no line"))?;
        Ok(Some(Heritage {
            bound,
            given,
            show,
            pid_file,
            nice,
            root,
            master,
            kept,
            line,
        }))
    }

    /// What it has kept under a name.
    pub fn kept(&mut self, key: &str) -> Option<Left> {
        let place = self.kept.iter().position(|one| one.key == key)?;
        Some(self.kept.remove(place))
    }

    /// Tells the former master that this one serves.
    pub(super) fn accept(mut self) {
        // if nobody hears it, there is no former master any more
        let _ = self.line.write_all(&[SOUND]);
    }

    /// Tells the former master why this one will not serve.
    pub fn decline(mut self, why: &str) {
        let _ = self.line.write_all(why.as_bytes());
    }

    /// Whether root has started the first master of this line.
    pub fn began_as_root(&self) -> bool {
        self.root
    }

    /// The sockets that the former master has itself been given.
    pub fn given(&mut self) -> Vec<Socket> {
        std::mem::take(&mut self.given)
    }
}

/// The process that has made a pair of sockets, of which this is one.
fn maker(socket: &OwnedFd) -> Option<u32> {
    let peer = getsockopt(socket, PeerCredentials).ok()?;
    u32::try_from(peer.pid()).ok()
}

impl Listen {
    /// The place in a form without spaces, for [`Listen::read`].
    pub(super) fn brief(&self) -> String {
        match self {
            Listen::Port { address: None, port } => format!("*:{port}"),
            _ => self.to_string(),
        }
    }

    fn read(text: &str) -> Option<Listen> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Some(Listen::File(path.into()));
        }
        if let Some(port) = text.strip_prefix("*:") {
            let (address, port) = (None, port.parse().ok()?);
            return Some(Listen::Port { address, port });
        }
        let address: std::net::SocketAddr = text.parse().ok()?;
        Some(Listen::Port {
            address: Some(address.ip()),
            port: address.port(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    #[test]
    fn takes_what_is_meant_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut far, line) = UnixStream::pair().unwrap();
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        let (listener, line) = (OwnedFd::from(listener), OwnedFd::from(line));
        let text = format!(
            " line={} bound={}@127.0.0.1:0 nice=-3 root=1 later=99",
            number(&line),
            number(&listener)
        );
        let mut open = vec![(number(&listener), listener), (number(&line), line)];
        let own = std::process::id();
        let others = format!("from={}{text}", own + 1);
        assert!(Heritage::take(Some(&others), &mut open).unwrap().is_none());
        assert_eq!(open.len(), 2);
        let ours = format!("from={own}{text}");
        let heritage = Heritage::take(Some(&ours), &mut open).unwrap().unwrap();
        assert_eq!(heritage.master, own);
        assert_eq!((heritage.nice, heritage.root), (Some(-3), true));
        assert_eq!(heritage.bound[0].0.brief(), "127.0.0.1:0");
        assert_eq!(heritage.bound[0].1.local_addr().unwrap().as_socket(), Some(address));
        heritage.decline("because");
        let mut heard = String::new();
        far.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "because");
    }

    #[test]
    fn says_what_is_wrong() {
        let (_far, line) = UnixStream::pair().unwrap();
        let number = line.as_raw_fd();
        let mut open = vec![(number, OwnedFd::from(line))];
        let text = format!("from={} line={number} bound=9999@*:25", std::process::id());
        let fault = Heritage::take(Some(&text), &mut open).unwrap_err();
        assert!(fault.contains("descriptor 9999 is not open"), "{fault}");
    }

    #[test]
    fn nothing_is_inherited_without_a_line() {
        let own = std::process::id();
        for text in [format!("from={own}"), format!("from={own} line=9999"), String::new()] {
            assert!(
                Heritage::take(Some(&text), &mut Vec::new()).unwrap().is_none(),
                "{text}"
            );
        }
        assert!(Heritage::take(None, &mut Vec::new()).unwrap().is_none());
        let null = std::fs::File::open("/dev/null").unwrap();
        let number = null.as_raw_fd();
        let text = format!("from={own} line={number}");
        let mut open = vec![(number, OwnedFd::from(null))];
        assert!(Heritage::take(Some(&text), &mut open).unwrap().is_none(), "no socket");
    }

    #[test]
    fn places_survive_the_journey() {
        for text in ["*:25", "192.0.2.1:465", "[::]:2525", "unix:/run/lmtp"] {
            assert_eq!(Listen::read(text).unwrap().brief(), text);
        }
        assert!(Listen::read("*:x").is_none() && Listen::read("").is_none());
    }
}
