//! The service under test. It greets with `hello PID GENERATION SAME_ADDRESS` and knows the lines
//! `begin` and `end` (a transaction), `stubborn` (hear no notice any more), `mute` (no last words), `panic`, `abort`,
//! `overflow` (of the stack) and `quit`, and tries to `read`, `write` or `exec` a path or to `listen` on an address.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use qpsmtpd::prefork::{
    Answer, Confinement, Connection, Console, House, Leave, Listen, News, Notice, Plan, Purpose, Refusal, Service,
    run as prefork,
};

/// The environment variable that makes a daemon of this program: `key=value` words.
pub const OPTIONS: &str = "QPSMTPD_TOY";

struct Toy {
    /// Where confined workers may write; none if they are not confined.
    cell: Option<PathBuf>,
    /// The listener whose clients are sent away without words.
    silent: Option<usize>,
    generation: u32,
    crash_at_start: bool,
}

/// Runs the daemon; the file `faults` in its directory makes loading fail, `crash` makes workers die.
pub fn run(options: &str) -> u8 {
    let (mut directory, mut cell, mut silent) = (PathBuf::new(), None, None);
    let mut plan = Plan {
        listeners: Vec::new(),
        ..Plan::default()
    };
    for (key, value) in options.split_whitespace().filter_map(|word| word.split_once('=')) {
        let number = || value.parse::<u64>().expect(key);
        match key {
            "dir" => directory = value.into(),
            "listen" => plan.listeners.push(Listen::Port {
                address: value.parse().ok(),
                port: 0,
            }),
            "sessions" => plan.sessions = number() as u32,
            "children" => plan.children = number() as u32,
            "idle" => plan.idle_children = number() as u32,
            "max" => plan.max_from_ip = number() as u32,
            "net" => plan.max_from_net = number() as u32,
            "here" => plan.max_per_listener = number() as u32,
            "lifetime" => plan.sessions_per_worker = number(),
            "grace" => plan.grace = Duration::from_millis(number()),
            "detach" => plan.detach = number() == 1,
            "pid" => plan.pid_file = Some(value.into()),
            "pretty" => plan.pretty_child = number() == 1,
            "cell" => cell = Some(PathBuf::from(value)),
            "silent" => silent = Some(number() as usize),
            "control" => plan.control = Some(value.into()),
            "own" => plan.owned_directories.push(value.into()),
            _ => panic!("what is {key}?"),
        }
    }
    let mut generation = 0;
    let mut load = |purpose| {
        generation += 1;
        if purpose == Purpose::Trial && directory.join("crash-on-trial").exists() {
            std::process::abort();
        }
        match std::fs::read_to_string(directory.join("faults")) {
            Ok(faults) => Err(faults),
            Err(_) => Ok(Arc::new(Toy {
                cell: cell.clone(),
                silent,
                generation,
                crash_at_start: directory.join("crash").exists(),
            }) as Arc<dyn Service>),
        }
    };
    prefork(plan, &mut load, &|level, words| {
        let _ = std::io::stderr().write_all(format!("{level:?}: {words}\n").as_bytes());
    })
}

impl Service for Toy {
    fn start_worker(&self) {
        assert!(!self.crash_at_start, "as the test wants it");
    }

    fn console(&self) -> Option<&dyn Console> {
        Some(self)
    }

    fn confinement(&self) -> Confinement {
        Confinement {
            write: self.cell.iter().cloned().collect(),
            landlock: self.cell.is_some(),
            seccomp: self.cell.is_some(),
            ..Confinement::default()
        }
    }

    fn serve(&self, connection: Connection<'_>) {
        let occupant = connection.seat.occupant().expect("a seat");
        assert_eq!((occupant.number, occupant.peer), (connection.number, connection.peer));
        let (pid, same) = (std::process::id(), connection.same_address);
        let greeting = format!("hello {pid} {} {same}", self.generation);
        let mut session = Session::new(connection.stream.into(), connection.notice);
        session.say(&greeting);
        session.talk();
    }

    fn last_words(&self) -> Vec<u8> {
        "crashed\n".into()
    }

    fn refusal(&self, why: Refusal, listener: usize) -> Vec<u8> {
        if self.silent == Some(listener) {
            return Vec::new();
        }
        match why {
            Refusal::PerAddress { limit, .. } => format!("too many, {limit} allowed\n"),
            Refusal::Paused => "paused\n".into(),
            Refusal::PerNetwork { limit, .. } => format!("too many of your network, {limit} allowed\n"),
            Refusal::PerListener { limit } => format!("too many here, {limit} allowed\n"),
            Refusal::ShuttingDown => "shutting down\n".into(),
        }
        .into()
    }
}

struct Session {
    stream: TcpStream,
    notice: Notice,
    poll: Poll,
    in_transaction: bool,
    stubborn: bool,
}

impl Session {
    fn new(stream: TcpStream, notice: Notice) -> Self {
        let poll = Poll::new().expect("poll");
        let [bell, line] = notice.fds().map(|fd| fd.as_raw_fd());
        for (token, fd) in [(0, stream.as_raw_fd()), (1, bell), (1, line)] {
            let register = poll
                .registry()
                .register(&mut SourceFd(&fd), Token(token), Interest::READABLE);
            register.expect("register");
        }
        notice.last_words(Some(stream.as_raw_fd()));
        Self {
            stream,
            notice,
            poll,
            in_transaction: false,
            stubborn: false,
        }
    }

    fn say(&mut self, words: &str) {
        let _ = self.stream.write(format!("{words}\n").as_bytes());
    }

    /// The next line, or `None` when the client has gone or the session has to end.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            let deadline = match self.notice.state() {
                _ if self.stubborn => None,
                Leave::No => None,
                Leave::FinishTransaction { deadline } if self.in_transaction => Some(deadline),
                _ => {
                    self.say("goodbye");
                    return None;
                }
            };
            match self.stream.read(&mut byte) {
                Ok(0) => return None,
                Ok(_) if byte == *b"\n" => return String::from_utf8(line).ok(),
                Ok(_) => line.push(byte[0]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let rest = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                    let _ = self.poll.poll(&mut Events::with_capacity(2), rest);
                    self.notice.woken();
                }
                Err(_) => return None,
            }
        }
    }

    fn talk(&mut self) {
        while let Some(line) = self.line() {
            match line.as_str() {
                "begin" => self.in_transaction = true,
                "end" => self.in_transaction = false,
                "stubborn" => self.stubborn = true,
                "mute" => self.notice.last_words(None),
                "panic" => panic!("as the client wants it"),
                "abort" => std::process::abort(),
                "overflow" => drop(overflow(0)),
                "quit" => return,
                _ => {}
            }
            match line.split_once(' ') {
                Some((deed @ ("read" | "write" | "exec" | "listen" | "ask"), path)) => self.try_to(deed, path),
                _ => self.say(&line),
            }
        }
    }

    /// What a worker does of which someone has got hold.
    fn try_to(&mut self, deed: &str, path: &str) {
        let done = match deed {
            "read" => std::fs::read(path).map(drop),
            "write" => std::fs::write(path, "x"),
            "exec" => std::process::Command::new(path).status().map(drop),
            "ask" => ask(path),
            _ => std::net::TcpListener::bind(path).map(drop),
        };
        self.say(&done.map_or_else(|why| format!("{:?}", why.kind()), |()| "done".to_owned()));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.notice.say_last_words();
        }
        self.notice.last_words(None);
    }
}

/// Calls itself until no stack is left.
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    match room[0] {
        u64::MAX => 0,
        _ => std::hint::black_box(overflow(depth + 1) + room[1]),
    }
}

/// Whether the master greets at its control socket.
fn ask(path: &str) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    match stream.read(&mut [0; 9])? {
        0 => Err(ErrorKind::PermissionDenied.into()),
        _ => Ok(()),
    }
}

/// Greets and says nothing more.
impl Console for Toy {
    fn greeting(&self) -> String {
        "greeting\n".into()
    }

    fn answer(&self, _: &str, _: &House<'_>) -> Answer {
        Answer::Bye
    }

    fn news(&self, _: &News, _: bool) -> String {
        String::new()
    }

    fn show(&self, _: TcpListener, _: UnixStream) -> u8 {
        0
    }
}
