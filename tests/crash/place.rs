//! A site whose spool and maildir lie on a small disk of their own, the daemon that serves it, and its clients.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;

use crate::harness::Site;
use crate::process::{PATIENCE, Process, eventually};
use crate::trace::state;

/// Options of the daemon: one worker, which stays.
const OPTIONS: [&str; 9] = [
    "--no-rdns",
    "--listen-address",
    "127.0.0.1:0",
    "--children",
    "1",
    "--max-from-ip",
    "0",
    "--lifetime",
    "1000000",
];

/// A site and its daemon.
pub struct Place {
    // Ended before the directory goes.
    daemon: Process,
    address: SocketAddr,
    site: Site,
    /// The worker that has read all that is read but once.
    warm: Option<Pid>,
}

/// How a client fared with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered 250.
    Taken,
    /// It was answered otherwise, or a command before it was.
    PutOff,
    /// There was no answer.
    Lost,
}

/// A message: what its client sends after 354, in pieces.
pub struct Mail {
    subject: String,
    text: String,
    pieces: usize,
}

impl Mail {
    /// A message of about this size in so many pieces.
    pub fn new(subject: String, size: usize, pieces: usize) -> Mail {
        let line = "All work and no play makes a dull message of lines that are all the same.\n";
        let text = format!(
            "Subject: {subject}\n\n{}End of {subject}.\n",
            line.repeat(size / line.len())
        );
        Mail { subject, text, pieces }
    }

    fn wire(&self) -> Vec<u8> {
        format!("{}.\r\n", self.text.replace('\n', "\r\n")).into_bytes()
    }
}

/// A client's end of a connection.
pub struct Caller {
    stream: BufReader<TcpStream>,
}

impl Caller {
    /// The connection, to cut it.
    pub fn wire(&self) -> TcpStream {
        self.stream.get_ref().try_clone().expect("clone")
    }

    /// The code of the next reply; none if the connection has ended.
    fn reply(&mut self) -> Option<u16> {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.as_bytes().get(3) == Some(&b'-') => {}
                Ok(_) => return Some(line.get(..3)?.parse().expect("a code")),
                Err(e) => {
                    let late = matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                    assert!(!late, "no reply in time");
                    return None;
                }
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Option<u16> {
        self.stream.get_mut().write_all(bytes).ok()?;
        self.reply()
    }

    /// Delivers a message, says goodbye, and waits for the end of the connection.
    pub fn deliver(mut self, mail: &Mail) -> Fate {
        let fate = self.talk(mail);
        if fate != Fate::Lost {
            self.say(b"QUIT\r\n");
            self.reply();
        }
        fate
    }

    fn talk(&mut self, mail: &Mail) -> Fate {
        let commands = [
            "EHLO x.example.net",
            "MAIL FROM:<a@example.net>",
            "RCPT TO:<user@example.com>",
            "DATA",
        ];
        for command in commands {
            match self.say(format!("{command}\r\n").as_bytes()) {
                Some(250 | 354) => {}
                Some(_) => return Fate::PutOff,
                None => return Fate::Lost,
            }
        }
        let wire = mail.wire();
        for piece in wire.chunks(wire.len().div_ceil(mail.pieces)) {
            if self.stream.get_mut().write_all(piece).is_err() {
                break;
            }
        }
        // also if it could not be sent: perhaps the server has told why
        match self.reply() {
            Some(250) => Fate::Taken,
            // the master says that for a worker that has crashed, and knows nothing of the message
            Some(421) | None => Fate::Lost,
            Some(_) => Fate::PutOff,
        }
    }
}

impl Place {
    /// Makes the site, with a small disk if this process may mount one, and starts the daemon.
    pub fn new() -> Place {
        let site = Site::new();
        site.config("plugins", "rcpt_ok\nqueue/maildir ./disk/Maildir\n");
        site.config("spool_dir", "./disk/spool\n")
            .config("size_threshold", "0\n")
            .config("loglevel", "4\n");
        let disk = site.path().join("disk");
        fs::create_dir(&disk).expect("disk");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk);
        assert!(mount.status().expect("mount").success());
        fs::set_permissions(&disk, PermissionsExt::from_mode(0o777)).expect("mode");
        let (daemon, address) = start(&site);
        Place {
            daemon,
            address,
            site,
            warm: None,
        }
    }

    /// The folder of spool and maildir.
    pub fn disk(&self) -> PathBuf {
        self.site.path().join("disk")
    }

    /// The directory of the site.
    pub fn path(&self) -> &Path {
        self.site.path()
    }

    /// The master.
    pub fn master(&self) -> Pid {
        self.daemon.pid()
    }

    /// Starts the daemon anew, when all of the old one have gone.
    pub fn restart(&mut self) {
        self.daemon.wait();
        (self.daemon, self.address) = start(&self.site);
    }

    /// The worker that serves; `eventually`, for it may have died a moment ago.
    pub fn worker(&self) -> Pid {
        eventually("a worker", || !self.daemon.workers().is_empty());
        self.daemon.workers()[0]
    }

    /// A client that has been greeted. Who was not served, because a worker died, comes again.
    pub fn caller(&self) -> Caller {
        let greeted = std::cell::RefCell::new(None);
        eventually("a greeting", || {
            let Ok(stream) = TcpStream::connect_timeout(&self.address, PATIENCE) else {
                return false;
            };
            stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
            let mut caller = Caller {
                stream: BufReader::new(stream),
            };
            let is_served = caller.reply() == Some(220);
            *greeted.borrow_mut() = is_served.then_some(caller);
            is_served
        });
        greeted.into_inner().expect("a client")
    }

    /// Lets a worker that is new deliver a message, so that it goes about the next as all others do.
    pub fn warm_up(&mut self) {
        let worker = self.worker();
        if self.warm != Some(worker) {
            let mails = [Mail::new("warm".to_owned(), 150_000, 3)];
            assert_eq!(self.caller().deliver(&mails[0]), Fate::Taken);
            assert_eq!(self.take_messages(&mails), [1]);
            self.warm = Some(self.worker());
        }
    }

    /// Waits until nobody of the daemon runs any more, which somebody who spins never does.
    pub fn wait_until_quiet(&self) {
        let looks = std::cell::Cell::new((0, 0));
        eventually("the daemon is quiet", || {
            let (before, same) = looks.get();
            let all: Vec<Pid> = self.daemon.workers().into_iter().chain([self.master()]).collect();
            let asleep = all.iter().all(|pid| matches!(state(*pid), Some('S') | None));
            let ticks: u64 = all.iter().map(|pid| processor_ticks(*pid)).sum();
            let same = if asleep && ticks == before { same + 1 } else { 0 };
            looks.set((ticks, same));
            std::thread::park_timeout(Duration::from_millis(4));
            same >= 5
        });
    }

    /// How often each of the messages lies in the maildir, which is emptied; all must be whole.
    pub fn take_messages(&self, mails: &[Mail]) -> Vec<usize> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for entry in fs::read_dir(self.disk().join("Maildir/new")).expect("the maildir") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("a message");
            let mail = mails.iter().find(|mail| text.ends_with(&mail.text));
            let mail = mail.unwrap_or_else(|| panic!("not whole, or of nobody: {} bytes {:.300}", text.len(), text));
            *counts.entry(&mail.subject).or_default() += 1;
            fs::remove_file(path).expect("remove");
        }
        mails
            .iter()
            .map(|mail| counts.get(&*mail.subject).copied().unwrap_or(0))
            .collect()
    }

    /// How many files lie in the spool and in the maildir's `tmp`; they are removed.
    pub fn take_leftovers(&self) -> usize {
        let mut count = 0;
        for folder in ["spool", "Maildir/tmp"] {
            let entries = fs::read_dir(self.disk().join(folder)).expect("a folder");
            // the control socket lies there too
            let files = entries
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.is_file());
            for path in files {
                fs::remove_file(path).expect("remove");
                count += 1;
            }
        }
        count
    }

    /// What the daemon has logged.
    pub fn lines(&self) -> Vec<String> {
        self.daemon.lines()
    }
}

fn start(site: &Site) -> (Process, SocketAddr) {
    let daemon = Process::start(site.program("qpsmtpd-prefork").args(OPTIONS));
    let address = daemon.ready()[0];
    (daemon, address)
}

/// Time that a process has had of the processor, in ticks of the clock.
fn processor_ticks(process: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}
