//! The control socket of the master: clients that ask in lines and get answers.
//!
//! Nothing here ever waits. Lines and clients are bounded, and a client that does not read its answer is not read
//! from. The socket belongs to the user who serves and is for that user and root alone; workers, although they are
//! that user, are turned away by the seccomp filter they are under.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use super::house::{Answer, Console, Deed, House, News, Until};

/// The listening socket.
pub(super) const DOOR: Token = Token(usize::MAX - 3);
/// Clients are numbered from here.
const FIRST: usize = usize::MAX / 2;
/// Clients at a time.
const CLIENTS: usize = 32;
/// The longest line, and what is read ahead.
const LINE: usize = 1024;

/// Whether events of this token are for the control socket.
pub(super) fn is_ours(token: Token) -> bool {
    token == DOOR || (FIRST..FIRST + CLIENTS).contains(&token.0)
}

/// The socket in the file system.
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Door {
    /// Makes the socket, mode 0600, in the place of one that may be left over.
    pub(super) fn open(path: &Path) -> io::Result<Door> {
        // made under another name, so that nobody can connect before it is closed to others
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
        let fresh = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let listener = std::os::unix::net::UnixListener::bind(&fresh)?;
        let placed = fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::rename(&fresh, path));
        if let Err(why) = placed {
            let _ = fs::remove_file(&fresh);
            return Err(why);
        }
        Ok(Door {
            listener: UnixListener::from_std(listener),
            inode: fs::metadata(path)?.ino(),
            path: path.to_owned(),
        })
    }

    /// Removes the socket, unless another master has put its own there.
    fn remove(&self) {
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// What it waits for, and whether it wants JSON.
    waits: Option<(Until, bool)>,
    may_change: bool,
    leaves: bool,
}

/// All clients.
#[derive(Default)]
pub(super) struct Control {
    door: Option<Door>,
    clients: Vec<Option<Client>>,
}

impl Control {
    /// Waits for clients at this door, if there is one.
    pub(super) fn new(mut door: Option<Door>, registry: &Registry) -> io::Result<Control> {
        if let Some(door) = &mut door {
            registry.register(&mut door.listener, DOOR, Interest::READABLE)?;
        }
        Ok(Control {
            door,
            clients: Vec::new(),
        })
    }

    /// Takes the socket out of the file system.
    pub(super) fn remove(&mut self) {
        if let Some(door) = self.door.take() {
            door.remove();
        }
    }

    /// Lets in those who knock. Returns the clients to be heeded at once.
    pub(super) fn let_in(&mut self, console: &dyn Console, registry: &Registry) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(Ok((stream, _))) = self.door.as_ref().map(|door| door.listener.accept()) {
            if is_trusted(&stream) {
                tokens.extend(self.add(stream, true, console, registry));
            }
        }
        tokens
    }

    /// Takes a client that is connected already; one too many is turned away.
    pub(super) fn add(
        &mut self,
        mut stream: UnixStream,
        may_change: bool,
        console: &dyn Console,
        registry: &Registry,
    ) -> Option<Token> {
        let place = match self.clients.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.clients.len() < CLIENTS => {
                self.clients.push(None);
                self.clients.len() - 1
            }
            None => return None,
        };
        let token = Token(FIRST + place);
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token, interest).ok()?;
        self.clients[place] = Some(Client {
            stream,
            input: Vec::new(),
            output: console.greeting().into_bytes(),
            waits: None,
            may_change,
            leaves: false,
        });
        Some(token)
    }

    /// Whether this client may also change something.
    pub(super) fn may_change(&self, token: Token) -> bool {
        let client = self.clients.get(token.0.wrapping_sub(FIRST)).and_then(Option::as_ref);
        client.is_some_and(|client| client.may_change)
    }

    /// Goes on with a client as far as possible. What it returns must be done before this is called again for the
    /// same client; nothing more is possible when it returns none.
    pub(super) fn heed(&mut self, token: Token, console: &dyn Console, house: &House<'_>) -> Option<Deed> {
        let place = self.clients.get_mut(token.0.wrapping_sub(FIRST))?;
        let client = place.as_mut()?;
        match client.go_on(console, house) {
            Ok(deed) => deed,
            // it has gone, or has to
            Err(_) => {
                *place = None;
                None
            }
        }
    }

    /// Lets those who wait for the one wait for the other instead.
    pub(super) fn let_wait_on(&mut self, one: Until, other: Until) {
        for (until, _) in self
            .clients
            .iter_mut()
            .flatten()
            .filter_map(|client| client.waits.as_mut())
        {
            if *until == one {
                *until = other;
            }
        }
    }

    /// Gives news to those who wait for it, who must then be heeded.
    pub(super) fn tell(&mut self, news: &News, console: &dyn Console) -> Vec<Token> {
        let mut told = Vec::new();
        for (place, client) in self.clients.iter_mut().enumerate() {
            if let Some(client) = client
                && let Some((_, json)) = client.waits.take_if(|(until, _)| *until == news.ends())
            {
                client.output.extend_from_slice(console.news(news, json).as_bytes());
                told.push(Token(FIRST + place));
            }
        }
        told
    }
}

impl Client {
    /// Writes, reads and answers, as far as possible. An error says that the client has to go.
    fn go_on(&mut self, console: &dyn Console, house: &House<'_>) -> io::Result<Option<Deed>> {
        loop {
            if !self.flush()? {
                return Ok(None);
            }
            if self.leaves {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            let line = match self.waits {
                // only to see whether it is still there
                Some(_) => None,
                None => self.line(),
            };
            let Some(line) = line else {
                if !self.read()? {
                    return Ok(None);
                }
                continue;
            };
            match console.answer(&line, house) {
                Answer::Words(words) => self.output.extend_from_slice(words.as_bytes()),
                Answer::Do(deed, words) => {
                    self.output.extend_from_slice(words.as_bytes());
                    return Ok(Some(deed));
                }
                Answer::Wait { deed, until, json } => {
                    self.waits = Some((until, json));
                    return Ok(Some(deed));
                }
                Answer::Bye => self.leaves = true,
            }
        }
    }

    /// Takes a line out of what has been read.
    fn line(&mut self) -> Option<String> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        Some(String::from_utf8_lossy(line.trim_ascii()).into_owned())
    }

    /// Reads more; false if there is nothing now, or no room.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; LINE];
        let room = LINE - self.input.len().min(LINE);
        if room == 0 {
            let is_line = self.input.contains(&b'\n');
            return if is_line {
                Ok(false)
            } else {
                Err(ErrorKind::InvalidData.into())
            };
        }
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Writes what is to be written; false if something is left.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// Whether a client is this user or root, and no worker of ours that someone has got hold of.
fn is_trusted(stream: &UnixStream) -> bool {
    let Ok(peer) = getsockopt(stream, PeerCredentials) else {
        return false;
    };
    let ours = peer.uid() == 0 || peer.uid() == geteuid().as_raw();
    ours && filters(&peer.pid().to_string()) <= filters("self")
}

/// Under how many seccomp filters a process is; as 0 counts who cannot be seen.
fn filters(process: &str) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let number = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}
