//! What can befall a daemon in the middle of a delivery, and how it is ended.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of the worker.
    WorkerKilled,
    /// kill -9 of the master.
    MasterKilled,
    /// The client's connection is cut.
    Cut,
    /// The disk of spool and maildir is full.
    DiskFull,
    /// Nobody may make files in spool and maildir.
    Unwritable,
    /// The worker can open no more descriptors.
    NoDescriptors,
    /// The worker gets no more memory.
    NoMemory,
    /// The worker is killed, and the master can make no other.
    NoProcesses,
    /// The system call fails with EIO.
    CallFails,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::WorkerKilled,
        Fault::MasterKilled,
        Fault::Cut,
        Fault::DiskFull,
        Fault::Unwritable,
        Fault::NoDescriptors,
        Fault::NoMemory,
        Fault::NoProcesses,
        Fault::CallFails,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Fault::WorkerKilled => "worker killed",
            Fault::MasterKilled => "master killed",
            Fault::Cut => "connection cut",
            Fault::DiskFull => "disk full",
            Fault::Unwritable => "unwritable",
            Fault::NoDescriptors => "RLIMIT_NOFILE",
            Fault::NoMemory => "RLIMIT_AS",
            Fault::NoProcesses => "RLIMIT_NPROC",
            Fault::CallFails => "call fails",
        }
    }

    /// Whether it lasts until it is lifted, with a daemon that can be spoken to.
    pub fn lasts(self) -> bool {
        use Fault::{DiskFull, NoDescriptors, NoMemory, Unwritable};
        matches!(self, DiskFull | Unwritable | NoDescriptors | NoMemory)
    }

    /// Lets it befall a worker that has stopped.
    pub fn befall(self, place: &Place, worker: Pid, client: &TcpStream) {
        match self {
            Fault::WorkerKilled => kill(worker, Signal::SIGKILL).expect("kill"),
            Fault::MasterKilled => kill(place.master(), Signal::SIGKILL).expect("kill"),
            Fault::Cut => client.shutdown(Shutdown::Both).expect("shutdown"),
            Fault::DiskFull => fill(place),
            Fault::Unwritable => permit(place, 0o500),
            Fault::NoDescriptors => limit(worker, &format!("--nofile={}:", open_files(worker))),
            Fault::NoMemory => limit(worker, &format!("--as={}:", memory(worker))),
            Fault::NoProcesses => {
                limit(place.master(), "--nproc=0:");
                kill(worker, Signal::SIGKILL).expect("kill");
            }
            Fault::CallFails => {}
        }
    }

    /// Ends it.
    pub fn lift(self, place: &Place, worker: Pid) {
        match self {
            Fault::DiskFull => fs::remove_file(place.disk().join("filling")).expect("remove"),
            Fault::Unwritable => permit(place, 0o700),
            Fault::NoDescriptors => limit(worker, "--nofile=1024:"),
            Fault::NoMemory => limit(worker, "--as=unlimited:"),
            Fault::NoProcesses => limit(place.master(), "--nproc=unlimited:"),
            Fault::WorkerKilled | Fault::MasterKilled | Fault::Cut | Fault::CallFails => {}
        }
    }
}

fn fill(place: &Place) {
    let mut file = fs::File::create(place.disk().join("filling")).expect("create");
    for size in [4096, 1] {
        while file.write(&vec![0; size]).is_ok_and(|count| count > 0) {}
    }
}

fn permit(place: &Place, mode: u32) {
    for folder in ["spool", "Maildir/tmp", "Maildir/new"] {
        fs::set_permissions(place.disk().join(folder), Permissions::from_mode(mode)).expect("mode");
    }
}

/// Sets a limit of a process; one that has ended meanwhile needs none.
fn limit(process: Pid, limit: &str) {
    let mut command = Command::new("prlimit");
    command
        .args(["--pid", &process.to_string(), limit])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let set = command.status().expect("prlimit").success();
    assert!(set || crate::trace::state(process).is_none(), "prlimit {limit}");
}

/// One more than the highest descriptor.
fn open_files(process: Pid) -> usize {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("descriptors");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<usize>().ok());
    numbers.max().map_or(0, |most| most + 1)
}

/// The size of the address space in bytes.
fn memory(process: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    size.expect("VmSize") * 1024
}
