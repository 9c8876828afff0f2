//! The status page: HTTP/1.1 for those who look, in a process of its own that has nothing to lose.
//!
//! It asks the master over its line, keeps each answer for a moment, and serves a few clients at a time, each on a
//! thread, one request to a connection. It changes nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::control::client::Line;

/// The longest head of a request.
const HEAD: usize = 8 * 1024;
/// How long a request may take to come, and an answer to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the master may take to answer.
const MASTER_PATIENCE: Duration = Duration::from_secs(10);
/// Clients at a time.
const CLIENTS: usize = 16;
/// How long an answer of the master is good for.
const FRESH: Duration = Duration::from_millis(250);

const PAGE: &str = include_str!("status/page.html");
const PLAIN: &str = "text/plain; charset=utf-8";

/// Who knows the master's answers.
struct Oracle {
    line: Mutex<Asked>,
}

struct Asked {
    line: Line,
    kept: HashMap<&'static str, (Instant, String)>,
}

/// What a client gets.
struct Page {
    status: &'static str,
    kind: &'static str,
    text: String,
}

impl Page {
    fn new(status: &'static str, kind: &'static str, text: impl Into<String>) -> Page {
        let text = text.into();
        Page { status, kind, text }
    }
}

/// Serves until the master is gone; returns the exit code.
pub(super) fn serve(listener: TcpListener, line: UnixStream) -> u8 {
    match prepare(&listener, &line).and_then(|oracle| accept(&listener, &line, &Arc::new(oracle))) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn prepare(listener: &TcpListener, line: &UnixStream) -> io::Result<Oracle> {
    listener.set_nonblocking(true)?;
    let own = line.try_clone()?;
    own.set_read_timeout(Some(MASTER_PATIENCE))?;
    own.set_write_timeout(Some(MASTER_PATIENCE))?;
    let line = Line::over(own)?;
    let kept = HashMap::new();
    Ok(Oracle {
        line: Mutex::new(Asked { line, kept }),
    })
}

fn accept(listener: &TcpListener, line: &UnixStream, oracle: &Arc<Oracle>) -> io::Result<()> {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let mut fds = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(line.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // the master has closed its end, which only its death does
        if fds[1].any() == Some(true) {
            return Ok(());
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        if clients.fetch_add(1, SeqCst) >= CLIENTS {
            clients.fetch_sub(1, SeqCst);
            continue;
        }
        let (oracle, count) = (oracle.clone(), clients.clone());
        let thread = Builder::new().stack_size(256 * 1024).spawn(move || {
            // a client that has gone is no trouble
            let _ = attend(&stream, &oracle);
            // before the client sees the end: its next request must not find this one still counted
            count.fetch_sub(1, SeqCst);
            drop(stream);
        });
        if thread.is_err() {
            clients.fetch_sub(1, SeqCst);
        }
    }
}

/// One request and its answer.
fn attend(mut stream: &TcpStream, oracle: &Oracle) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = head(stream)?;
    let mut words = head.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // what the page brings itself, and nothing that finds its way into it, may run
    let nonce = format!("{:016x}", RandomState::new().hash_one(0));
    let page = match method {
        "GET" | "HEAD" => oracle.page(target.split('?').next().unwrap_or_default(), &nonce),
        _ => Page::new("405 Method Not Allowed", PLAIN, "only GET and HEAD\n"),
    };
    let mut answer = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; style-src 'nonce-{nonce}'; \
         script-src 'nonce-{nonce}'; connect-src 'self'\r\n\r\n",
        page.status,
        page.kind,
        page.text.len()
    );
    if method != "HEAD" {
        answer.push_str(&page.text);
    }
    stream.write_all(answer.as_bytes())
}

/// The head of a request, all of which must come in time.
fn head(mut stream: &TcpStream) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let (mut head, mut bytes) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&bytes[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl Oracle {
    fn page(&self, path: &str, nonce: &str) -> Page {
        const JSON: &str = "application/json";
        const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
        match path {
            "/" => Page::new("200 OK", "text/html; charset=utf-8", PAGE.replace("NONCE", nonce)),
            "/status.json" => Page::new("200 OK", JSON, self.ask("all")),
            "/metrics" => Page::new("200 OK", METRICS, self.ask("metrics")),
            "/healthz" => {
                self.ask("version");
                Page::new("200 OK", PLAIN, "ok\n")
            }
            "/readyz" => match self.state() {
                state if state == "serving" => Page::new("200 OK", PLAIN, "serving\n"),
                state => Page::new("503 Service Unavailable", PLAIN, format!("{state}\n")),
            },
            _ => Page::new(
                "404 Not Found",
                PLAIN,
                "there is /, /status.json, /metrics, /healthz and /readyz\n",
            ),
        }
    }

    /// What the daemon does with new clients.
    fn state(&self) -> String {
        let status = self.ask("status");
        let state = status.lines().find_map(|line| line.strip_prefix("state "));
        state.unwrap_or_default().trim().to_owned()
    }

    /// The master's answer. Without one there is nothing to show: the process ends, and the master, if it is there,
    /// makes another.
    fn ask(&self, command: &'static str) -> String {
        let mut asked = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, answer)) = asked.kept.get(command)
            && when.elapsed() < FRESH
        {
            return answer.clone();
        }
        match asked.line.ask(command) {
            Ok(answer) => {
                let answer = answer.unwrap_or_else(|words| words);
                asked.kept.insert(command, (Instant::now(), answer.clone()));
                answer
            }
            Err(_) => std::process::exit(1),
        }
    }
}
