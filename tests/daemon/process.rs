//! A daemon as a child process: what it writes to stderr, how it ends, and that nothing of it is left.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The lines written, and whether nobody is left who could write more.
#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

/// A running daemon; it is ended, and seen to have ended, when this is dropped.
pub struct Process {
    child: Child,
    written: Arc<(Mutex<Written>, Condvar)>,
}

impl Process {
    /// Starts the command with nothing on stdin.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// Starts the command with this on stdin.
    pub fn start_with(command: &mut Command, stdin: Stdio) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let written = Arc::new((Mutex::new(Written::default()), Condvar::new()));
        let (for_reader, stderr) = (Arc::clone(&written), child.stderr.take().expect("stderr"));
        std::thread::spawn(move || {
            let add = |line: Option<String>| {
                let mut written = for_reader.0.lock().expect("lock");
                match line {
                    Some(line) => written.lines.push(line),
                    None => written.ended = true,
                }
                for_reader.1.notify_all();
            };
            let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
            lines.for_each(|line| add(Some(String::from_utf8_lossy(&line).into_owned())));
            add(None);
        });
        Self { child, written }
    }

    /// Waits until the daemon is ready and says where it listens.
    pub fn ready(&self) -> Vec<SocketAddr> {
        self.wait_for("ready");
        let lines = self.lines();
        let told = lines.iter().filter_map(|line| line.strip_prefix("listening on "));
        let ports = told.filter(|place| !place.starts_with("unix:"));
        ports.map(|address| address.parse().expect("an address")).collect()
    }

    /// All it has written to stderr.
    pub fn lines(&self) -> Vec<String> {
        self.written.0.lock().expect("lock").lines.clone()
    }

    /// Waits for a line that contains `words`.
    pub fn wait_for(&self, words: &str) -> String {
        let found = self.says(words);
        found.unwrap_or_else(|| panic!("no {words:?} among {:#?}", self.lines()))
    }

    /// Waits for a line that contains `words`; none if it ends without.
    pub fn says(&self, words: &str) -> Option<String> {
        let has = |written: &Written| written.lines.iter().find(|line| line.contains(words)).cloned();
        has(&self.wait_until(|written| written.ended || has(written).is_some()))
    }

    /// Waits until the condition holds, or for as long as anything may take.
    fn wait_until(&self, condition: impl Fn(&Written) -> bool) -> MutexGuard<'_, Written> {
        let (written, news) = &*self.written;
        let guard = written.lock().expect("lock");
        let waited = news.wait_timeout_while(guard, PATIENCE, |written| !condition(written));
        waited.expect("lock").0
    }

    /// The master.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Its workers.
    pub fn workers(&self) -> Vec<Pid> {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let numbers = children.expect("children of the master");
        let numbers = numbers.split_whitespace().map(|pid| pid.parse().expect("a pid"));
        numbers.map(Pid::from_raw).collect()
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal");
    }

    /// Waits for its end, and for that of all of its workers: they share its stderr.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = self.wait_until(|written| written.ended).ended;
        assert!(ended, "something is left: {:#?}", self.lines());
        self.child.wait().expect("wait")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.lines());
        }
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill(self.pid(), Signal::SIGINT);
        }
        if !self.wait_until(|written| written.ended).ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
            assert!(std::thread::panicking(), "something is left: {:#?}", self.lines());
        }
        let _ = self.child.wait();
    }
}

/// Waits until the condition holds; for what cannot be waited for otherwise.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}
