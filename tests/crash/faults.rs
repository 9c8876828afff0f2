//! What can befall a daemon in the middle of a delivery, and how it is ended.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use crate::next::Next;
use crate::place::Place;
use crate::scene::{Queue, Scene};
use crate::trace::state;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the worker.
    WorkerKilled,
    /// kill -9 of the master.
    MasterKilled,
    /// The client's connection is cut.
    Cut,
    /// The client is gone, and its connection has been reset.
    Reset,
    /// The disk of spool and maildir is full.
    DiskFull,
    /// Nobody may make files in spool and maildir.
    Unwritable,
    /// The worker can open no more descriptors.
    NoDescriptors,
    /// No file of the worker may become longer than half of the scene's message.
    FileSize,
    /// The worker gets no more memory.
    NoMemory,
    /// The worker is killed, and the master can make no other.
    NoProcesses,
    /// The worker can make no threads and start no programs.
    NoThreads,
    /// The system call fails with EIO.
    CallFails,
    /// The connections to the next server are cut.
    NextCut,
    /// They are cut, and there is no next server any more.
    NextGone,
    /// kill -9 of the program that takes the message.
    ProgramKilled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 15] = [
        Fault::WorkerKilled,
        Fault::MasterKilled,
        Fault::Cut,
        Fault::Reset,
        Fault::DiskFull,
        Fault::Unwritable,
        Fault::NoDescriptors,
        Fault::FileSize,
        Fault::NoMemory,
        Fault::NoProcesses,
        Fault::NoThreads,
        Fault::CallFails,
        Fault::NextCut,
        Fault::NextGone,
        Fault::ProgramKilled,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Fault::WorkerKilled => "worker killed",
            Fault::MasterKilled => "master killed",
            Fault::Cut => "connection cut",
            Fault::Reset => "connection reset",
            Fault::DiskFull => "disk full",
            Fault::Unwritable => "unwritable",
            Fault::NoDescriptors => "RLIMIT_NOFILE",
            Fault::FileSize => "RLIMIT_FSIZE",
            Fault::NoMemory => "RLIMIT_AS",
            Fault::NoProcesses => "no new worker",
            Fault::NoThreads => "RLIMIT_NPROC",
            Fault::CallFails => "call fails",
            Fault::NextCut => "next server cut",
            Fault::NextGone => "next server gone",
            Fault::ProgramKilled => "program killed",
        }
    }

    /// Whether it can befall anybody in this scene.
    pub fn fits(self, scene: &Scene) -> bool {
        match self {
            Fault::NextCut | Fault::NextGone => scene.has_next(),
            Fault::ProgramKilled => scene.queue == Queue::Qmail,
            // else nobody needs any
            Fault::NoThreads => scene.sessions > 1 || scene.queue == Queue::Qmail,
            _ => true,
        }
    }

    /// Whether it lasts until it is lifted, with a daemon that can be spoken to.
    pub fn lasts(self) -> bool {
        use Fault::{DiskFull, FileSize, NextGone, NoDescriptors, NoMemory, NoThreads, Unwritable};
        matches!(
            self,
            DiskFull | Unwritable | NoDescriptors | FileSize | NoMemory | NoThreads | NextGone
        )
    }

    /// Whether it strikes a worker that has delivered nothing before: one that has needs no more than it has already.
    pub fn strikes_the_cold(self) -> bool {
        self == Fault::NoMemory
    }

    /// Whether it ends the worker.
    pub fn kills(self) -> bool {
        matches!(self, Fault::WorkerKilled | Fault::NoProcesses)
    }

    /// Whether somebody may have a message for which the client is asked to try again: who has taken it could not say
    /// so any more, or nobody may remove it from the maildir of one recipient because there is no other.
    pub fn may_deliver_in_vain(self, scene: &Scene) -> bool {
        let broken = matches!(
            self,
            Fault::CallFails | Fault::NextCut | Fault::NextGone | Fault::ProgramKilled
        );
        match scene.queue {
            Queue::Qmail | Queue::Forward | Queue::Lmtp => broken,
            Queue::MaildirEach => self == Fault::Unwritable,
            Queue::Maildir => false,
        }
    }

    /// Lets it befall a worker that has stopped; false if there is nobody whom it could befall.
    pub fn befall(self, place: &Place, worker: Pid, client: &TcpStream) -> bool {
        match self {
            Fault::WorkerKilled => kill(worker, Signal::SIGKILL).expect("kill"),
            Fault::MasterKilled => kill(place.master(), Signal::SIGKILL).expect("kill"),
            Fault::Cut => client.shutdown(Shutdown::Both).expect("shutdown"),
            Fault::Reset => reset(client),
            Fault::DiskFull => fill(place),
            Fault::Unwritable => permit(place, false),
            Fault::NoDescriptors => Limit::Descriptors.set(worker, open_files(worker)),
            Fault::FileSize => Limit::FileSize.set(worker, place.scene.size / 2),
            Fault::NoMemory => Limit::Memory.set(worker, memory(worker)),
            Fault::NoProcesses => {
                Limit::Processes.set(place.master(), 0);
                kill(worker, Signal::SIGKILL).expect("kill");
            }
            Fault::NoThreads => Limit::Processes.set(worker, 0),
            Fault::CallFails => {}
            Fault::NextCut => place.next.iter().for_each(Next::cut),
            Fault::NextGone => place.next.iter().for_each(|next| next.go(true)),
            Fault::ProgramKilled => {
                let programs = place.programs();
                // one that has ended meanwhile needs no word
                let killed = programs.into_iter().map(|pid| kill(pid, Signal::SIGKILL));
                return killed.filter(Result::is_ok).count() > 0;
            }
        }
        true
    }

    /// Ends it.
    pub fn lift(self, place: &Place, worker: Pid) {
        match self {
            Fault::DiskFull => fs::remove_file(place.disk().join("filling")).expect("remove"),
            Fault::Unwritable => permit(place, true),
            Fault::NoDescriptors => Limit::Descriptors.lift(worker),
            Fault::FileSize => Limit::FileSize.lift(worker),
            Fault::NoMemory => Limit::Memory.lift(worker),
            Fault::NoProcesses => Limit::Processes.lift(place.master()),
            Fault::NoThreads => Limit::Processes.lift(worker),
            Fault::NextGone => place.next.iter().for_each(|next| next.go(false)),
            _ => {}
        }
    }
}

/// Lets the client hear no more, so that it leaves; then its end of the connection is closed by a reset.
fn reset(client: &TcpStream) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(client, sockopt::Linger, &at_once).expect("linger");
    client.shutdown(Shutdown::Read).expect("shutdown");
}

fn fill(place: &Place) {
    let mut file = fs::File::create(place.disk().join("filling")).expect("create");
    for size in [4096, 1] {
        while file.write(&vec![0; size]).is_ok_and(|count| count > 0) {}
    }
}

/// Whoever may read the folders may write to them, or nobody.
fn permit(place: &Place, may: bool) {
    for folder in place.folders() {
        let mode = fs::metadata(&folder).expect("folder").permissions().mode() & 0o555;
        let writes = if may { (mode & 0o444) >> 1 } else { 0 };
        fs::set_permissions(folder, Permissions::from_mode(mode | writes)).expect("mode");
    }
}

/// What a process may have of something.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    Descriptors,
    FileSize,
    Memory,
    Processes,
}

impl Limit {
    /// The option of prlimit, and the words in /proc.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Limit::Descriptors => ("nofile", "Max open files"),
            Limit::FileSize => ("fsize", "Max file size"),
            Limit::Memory => ("as", "Max address space"),
            Limit::Processes => ("nproc", "Max processes"),
        }
    }

    /// Sets the limit of a process; one that has ended meanwhile needs none.
    pub fn set(self, process: Pid, limit: impl Display) {
        // its own user may, and root may not everywhere
        let id = |name: &str| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.to_owned())
        };
        let (Some(user), Some(group)) = (id("Uid:"), id("Gid:")) else {
            return;
        };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups", "prlimit"]);
        command.args(["--pid", &process.to_string()]);
        command
            .arg(format!("--{}={limit}:", self.names().0))
            .stdin(Stdio::null());
        let output = command.output().expect("setpriv");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || state(process).is_none(), "{why}");
    }

    /// Gives a process as much as it may have.
    pub fn lift(self, process: Pid) {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix(self.names().1));
        if let Some(hard) = line.and_then(|line| line.split_whitespace().nth(1)) {
            self.set(process, hard);
        }
    }
}

/// The lowest number that no descriptor has: with this limit not one more can be opened.
pub fn open_files(process: Pid) -> usize {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("descriptors");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: HashSet<usize> = names.collect();
    (0..).find(|number| !numbers.contains(number)).unwrap_or(0)
}

/// The size of the address space in bytes.
pub fn memory(process: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    size.expect("VmSize") * 1024
}
