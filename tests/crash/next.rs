//! The next server: speaks SMTP and LMTP, and keeps what it has accepted.
//!
//! It is honest: a message is noted when its final dot is there, then answered 250, and it is noted, too, whether that
//! answer could be sent.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// A message that it has accepted.
pub struct Accepted {
    /// Its text, lines ended by LF.
    pub text: String,
    /// Whether the answer 250 was sent.
    pub answered: bool,
}

#[derive(Default)]
struct State {
    open: Vec<TcpStream>,
    accepted: Vec<Accepted>,
    away: bool,
    over: bool,
}

/// The server; ended when dropped.
pub struct Next {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Next {
    /// Starts it.
    pub fn new() -> Next {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || listen(&listener, &shared));
        Next {
            address,
            state,
            thread: Some(thread),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("lock")
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for stream in self.state().open.drain(..) {
            // it may be over already
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Goes away: cuts all connections and takes no more; or comes back.
    pub fn go(&self, away: bool) {
        self.state().away = away;
        self.cut();
    }

    /// What it has accepted since it was asked last.
    pub fn take(&self) -> Vec<Accepted> {
        std::mem::take(&mut self.state().accepted)
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        self.state().over = true;
        self.cut();
        // wakes it
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

fn listen(listener: &TcpListener, shared: &Mutex<State>) {
    std::thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept().expect("accept");
            let mut state = shared.lock().expect("lock");
            if state.over {
                return;
            }
            if !state.away {
                state.open.push(stream.try_clone().expect("clone"));
                // one that is cut has nothing to say
                scope.spawn(move || drop(serve(stream, shared)));
            }
        }
    });
}

/// Serves a connection to its end.
fn serve(stream: TcpStream, shared: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut recipients = 0;
    writer.write_all(b"220 next.example ready\r\n")?;
    loop {
        let line = line(&mut reader)?;
        let verb = line.get(..4).unwrap_or_default();
        let answer = match verb {
            "EHLO" | "LHLO" => "250-next.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE",
            "MAIL" | "RSET" => {
                recipients = 0;
                "250 fine"
            }
            "RCPT" => {
                recipients += 1;
                "250 fine"
            }
            "DATA" if recipients > 0 => {
                writer.write_all(b"354 go on\r\n")?;
                let text = message(&mut reader)?;
                let mut state = shared.lock().expect("lock");
                state.accepted.push(Accepted { text, answered: false });
                let sent = writer.write_all(b"250 2.0.0 taken as 1\r\n");
                if sent.is_ok()
                    && let Some(last) = state.accepted.last_mut()
                {
                    last.answered = true;
                }
                continue;
            }
            "QUIT" => return writer.write_all(b"221 bye\r\n"),
            _ => "503 what?",
        };
        writer.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}

/// A line without its end; an error if there is no whole one.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let whole = line.strip_suffix("\r\n").map(str::to_owned);
    whole.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A message up to its final dot.
fn message(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let line = line(reader)?;
        if line == "." {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push('\n');
    }
}
