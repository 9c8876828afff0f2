//! strace: which system calls a worker makes for a delivery, and a worker that stops after one of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::eventually;

/// A moment in a delivery: after a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The name of the call.
    pub call: String,
    /// The how-manieth call of this name it is, from 1 on.
    pub nth: usize,
    /// What the server was at, in words.
    pub step: String,
}

/// What to do at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Stop behind the call.
    Stop,
    /// Let the call fail.
    Fail,
}

/// A worker that is looked at.
pub struct Tracer {
    strace: Child,
    out: PathBuf,
}

impl Tracer {
    /// Looks at a thread of a worker from now on; the first has the worker's number.
    pub fn attach(worker: Pid, out: &Path, at: Option<(&Point, Deed)>) -> Tracer {
        eventually("the worker waits", || state(worker) == Some('S'));
        // an old file must not be taken for the new one
        let _ = std::fs::remove_file(out);
        let mut command = Command::new("strace");
        command.args(["-p", &worker.to_string(), "-s", "64", "-o"]).arg(out);
        if let Some((Point { call, nth, .. }, deed)) = at {
            let what = match deed {
                Deed::Stop => "signal=SIGSTOP",
                Deed::Fail => "error=EIO",
            };
            command.args(["-e", &format!("inject={call}:{what}:when={nth}")]);
        }
        let strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let strace = strace.spawn().expect("strace");
        let tracer = Tracer {
            strace,
            out: out.to_owned(),
        };
        // the call in which it waits is written down as soon as calls are followed, which is after strace has attached
        eventually("strace looks at the worker, which waits or has stopped", || {
            let follows = is_traced(worker) && !tracer.text().is_empty();
            follows && (state(worker) == Some('S') || tracer.has_stopped())
        });
        tracer
    }

    /// Whether the worker has come to the point and stopped.
    pub fn has_stopped(&self) -> bool {
        self.text().contains("--- stopped by SIGSTOP ---")
    }

    /// What the worker has done so far.
    pub fn text(&self) -> String {
        let bytes = std::fs::read(&self.out).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Looks away; what was seen.
    pub fn end(mut self) -> String {
        self.detach();
        self.text()
    }

    fn detach(&mut self) {
        let _ = kill(Pid::from_raw(self.strace.id() as i32), Signal::SIGTERM);
        let _ = self.strace.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.detach();
    }
}

fn is_traced(process: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}

/// The state of a process as /proc has it: `S` sleeps; none if there is no such process.
pub fn state(process: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next().filter(|state| *state != 'Z')
}

/// The points of a delivery, in their order.
pub fn points(trace: &str) -> Vec<Point> {
    let mut reader = Reader::default();
    trace.lines().filter_map(|line| reader.point(line)).collect()
}

/// The commands that begin a phase of their own, ours and those for a next server.
const VERBS: [&str; 10] = [
    "EHLO", "LHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT",
];

/// Follows what the server is at.
#[derive(Default)]
struct Reader {
    phase: String,
    /// The descriptor of the client.
    client: String,
    /// How many messages have been answered.
    answered: usize,
    /// What was said last to the next server.
    said: String,
    files: HashMap<String, &'static str>,
    counts: HashMap<String, usize>,
}

impl Reader {
    fn point(&mut self, line: &str) -> Option<Point> {
        let (call, rest) = line.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        if call.is_empty() || !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let count = self.counts.entry(call.to_owned()).or_default();
        *count += 1;
        let nth = *count;
        let what = self.what(call, arguments, result);
        let phase = if self.phase.is_empty() { "greeted" } else { &self.phase };
        let again = if self.answered > 0 && !["answered", "QUIT"].contains(&phase) {
            "again "
        } else {
            ""
        };
        let step = format!("{again}{phase}: {what}");
        if self.phase == "queue" && what == "reply" {
            self.phase = "answered".to_owned();
            self.answered += 1;
        }
        Some(Point {
            call: call.to_owned(),
            nth,
            step,
        })
    }

    fn what(&mut self, call: &str, arguments: &str, result: &str) -> String {
        let quoted = arguments.split('"').nth(1).unwrap_or_default();
        let descriptor = arguments.split([',', ')']).next().unwrap_or_default();
        let word = quoted.split([' ', '\\']).next().unwrap_or_default();
        let verb = VERBS.contains(&word).then_some(word);
        match call {
            "recvfrom" if result.starts_with('-') => "other calls".to_owned(),
            "recvfrom" if self.client.is_empty() || self.client == descriptor => {
                self.client = descriptor.to_owned();
                self.phase = match (verb, self.phase.as_str()) {
                    (Some("BDAT"), _) | (None, "DATA") => "message",
                    (Some(verb), _) => verb,
                    // what is said over TLS cannot be read
                    (None, "STARTTLS" | "answered") => "TLS",
                    (None, phase) => phase,
                }
                .to_owned();
                "read from the client".to_owned()
            }
            // whether it could be started
            "recvfrom" if self.said.is_empty() => "start the program".to_owned(),
            "recvfrom" => format!("answer to {} of the next server", self.said),
            "sendto" if self.client == descriptor => "reply".to_owned(),
            "sendto" => {
                self.said = verb.unwrap_or("the text").to_owned();
                self.phase = "queue".to_owned();
                format!("{} to the next server", self.said)
            }
            "connect" => {
                self.said = "the connection".to_owned();
                self.phase = "queue".to_owned();
                "connect to the next server".to_owned()
            }
            "pipe2" => {
                self.phase = "queue".to_owned();
                "pipes for the program".to_owned()
            }
            "clone3" | "clone" | "vfork" | "fork" => "start the program".to_owned(),
            "wait4" | "waitid" => "wait for the program".to_owned(),
            "openat" => {
                let place = place(quoted);
                if arguments.contains("O_CREAT") {
                    match place {
                        "maildir/tmp" => self.phase = "queue".to_owned(),
                        "the spool" => self.phase = "message".to_owned(),
                        _ => {}
                    }
                }
                let number = result.split(' ').next().unwrap_or_default();
                self.files.insert(number.to_owned(), place);
                match place {
                    "a file" => "other calls".to_owned(),
                    place => format!("open {place}"),
                }
            }
            "rename" => "rename into maildir/new".to_owned(),
            "unlink" => format!("unlink in {}", place(quoted)),
            "write" | "writev" if descriptor == "2" => "log".to_owned(),
            "write" | "writev" | "fsync" | "copy_file_range" | "sendfile" | "splice" => {
                // the last descriptor that is named is written to
                let into = match call {
                    "copy_file_range" | "splice" => arguments.split(", ").nth(2).unwrap_or_default(),
                    _ => descriptor,
                };
                // the folder is kept open from one message to the next
                let (verb, unknown) = match call {
                    "fsync" => ("fsync", "maildir/new"),
                    _ => ("write", "a pipe"),
                };
                format!("{verb} {}", self.files.get(into).copied().unwrap_or(unknown))
            }
            _ => "other calls".to_owned(),
        }
    }
}

fn place(path: &str) -> &'static str {
    match path.contains("Maildir") {
        true if path.contains("/tmp/") => "maildir/tmp",
        true if path.contains("/new") => "maildir/new",
        _ if path.contains("spool") => "the spool",
        _ => "a file",
    }
}

#[test]
fn calls_are_read_as_they_are_meant() {
    let trace = r#"epoll_wait(5, [{events=EPOLLIN}], 8, -1) = 1
recvfrom(6, "MAIL FROM:<a@b.c>\r\n", 2048, 0, NULL, NULL) = 19
write(2, "1 dispatching"..., 9) = 9
sendto(6, "250 2.1.0 <a@b.c>, sender ok\r\n", 30, MSG_NOSIGNAL, NULL, 0) = 30
--- SIGCONT {si_signo=SIGCONT} ---
recvfrom(6, "DATA\r\n", 2048, 0, NULL, NULL) = 6
recvfrom(6, "Subject: x\r\n.\r\n", 65536, 0, NULL, NULL) = 24
openat(AT_FDCWD, "./disk/Maildir/tmp/1.vm", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 8
fsync(8) = 0
sendto(6, "250 2.6.0 Queued! <>\r\n", 22, MSG_NOSIGNAL, NULL, 0) = 22
epoll_wait(5,  <detached ...>
"#;
    let points = points(trace);
    let steps: Vec<&str> = points.iter().map(|point| &*point.step).collect();
    assert_eq!(
        steps,
        [
            "greeted: other calls",
            "MAIL: read from the client",
            "MAIL: log",
            "MAIL: reply",
            "DATA: read from the client",
            "message: read from the client",
            "queue: open maildir/tmp",
            "queue: fsync maildir/tmp",
            "queue: reply",
        ]
    );
    assert_eq!((&*points[5].call, points[5].nth), ("recvfrom", 3));
}
