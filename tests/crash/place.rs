//! A site whose spool and maildir lie on a small disk of their own, the daemon that serves it, and whoever takes its
//! messages.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::client::{Caller, Fate, Mail};
use crate::harness::Site;
use crate::next::Next;
use crate::process::{PATIENCE, Process, eventually};
use crate::programs::succeed;
use crate::scene::{Queue, Scene};
use crate::threads;
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

/// Has the allocator ask the kernel for every buffer, instead of for a reserve now and then.
const FRUGAL: &str = "glibc.malloc.mmap_threshold=4096:glibc.malloc.top_pad=0";

/// A program that takes messages as qmail-queue does: the message from 0, then the envelope from 1; it is queued when
/// both are there whole. A signal, or the end of it all, leaves nothing behind but kill -9.
const PROGRAM: &str = "#!/bin/sh
exec 3<&1
umask 077
tmp=DISK/Maildir/tmp/$$
trap 'rm -f $tmp' EXIT
cat >$tmp || exit 53
envelope=$(tr '\\0' '|' <&3) || exit 54
[ \"$envelope\" = 'ENVELOPE' ] || exit 91
chmod 644 $tmp && mv $tmp DISK/Maildir/new/$$.$(date +%s%N) || exit 64
";

/// A site and its daemon.
pub struct Place {
    // Ended before the directory goes.
    daemon: Process,
    address: SocketAddr,
    // Unmounted when they have ended, else the directory cannot be removed.
    disk: Disk,
    site: Site,
    /// The server behind this one, if the scene has one.
    pub next: Option<Next>,
    /// What happens here.
    pub scene: &'static Scene,
    tls: Option<Arc<ClientConfig>>,
    is_frugal: bool,
    /// The worker that has read all that is read but once.
    warm: Option<Pid>,
}

/// A small disk, mounted here until this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Disk {
        fs::create_dir(&path).expect("disk");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path);
        succeed(&mut mount);
        let disk = Disk(path);
        fs::set_permissions(&disk.0, PermissionsExt::from_mode(0o777)).expect("mode");
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // lazily: a program that was killed may not be gone yet
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let unmounted = status.is_ok_and(|status| status.success());
        assert!(
            unmounted || std::thread::panicking(),
            "{} stays mounted",
            self.0.display()
        );
    }
}

impl Place {
    /// Makes the site, with a small disk, and starts the daemon.
    pub fn new(scene: &'static Scene) -> Place {
        Place::with(scene, false)
    }

    /// The same with a daemon that keeps no memory in reserve, so that who gets no more has no more.
    pub fn frugal(scene: &'static Scene) -> Place {
        Place::with(scene, true)
    }

    fn with(scene: &'static Scene, is_frugal: bool) -> Place {
        let site = Site::new();
        let next = scene.has_next().then(Next::new);
        let queue = scene.line(site.path(), next.as_ref().map_or(0, |next| next.address.port()));
        let tls = if scene.tls { "tls\n" } else { "" };
        site.config("plugins", &format!("{tls}rcpt_ok\n{queue}\n"));
        site.config("spool_dir", "./disk/spool\n")
            .config("size_threshold", &format!("{}\n", scene.threshold))
            .config("loglevel", "4\n");
        let disk = Disk::mount(site.path().join("disk"));
        if scene.queue == Queue::Qmail {
            program(&site, scene);
        }
        let tls = scene.tls.then(|| trust(&site));
        let (daemon, address) = start(&site, scene, is_frugal);
        Place {
            daemon,
            address,
            disk,
            site,
            next,
            scene,
            tls,
            is_frugal,
            warm: None,
        }
    }

    /// The folder of spool and maildir.
    pub fn disk(&self) -> &Path {
        &self.disk.0
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
        (self.daemon, self.address) = start(&self.site, self.scene, self.is_frugal);
    }

    /// The worker that serves; `eventually`, for one may have died a moment ago, or be about to leave.
    pub fn worker(&self) -> Pid {
        let found = std::cell::Cell::new(None);
        eventually("one worker", || {
            let mut workers = self.daemon.workers();
            // one that has died is among them until the master has seen it
            workers.retain(|pid| state(*pid).is_some());
            found.set(workers.first().copied().filter(|_| workers.len() == 1));
            found.get().is_some()
        });
        found.get().expect("a worker")
    }

    /// A client that has been greeted. Who was not served, because a worker died, comes again.
    pub fn caller(&self) -> Caller {
        let greeted = std::cell::RefCell::new(None);
        eventually("a greeting", || {
            let Ok(wire) = TcpStream::connect_timeout(&self.address, PATIENCE) else {
                return false;
            };
            let mut caller = Caller::new(wire, self.scene, self.tls.clone());
            let is_served = caller.reply() == Some(220);
            *greeted.borrow_mut() = is_served.then_some(caller);
            is_served
        });
        greeted.into_inner().expect("a client")
    }

    /// A message of the scene.
    pub fn mail(&self, subject: &str) -> Mail {
        Mail::new(subject, self.scene.size, self.scene.pieces)
    }

    /// A message of somebody else; the disk is small.
    pub fn short_mail(&self, subject: &str) -> Mail {
        Mail::new(subject, 1000, self.scene.pieces)
    }

    /// The thread that serves this client: the one that does something when it says something.
    pub fn thread(&self, worker: Pid, caller: &mut Caller) -> Pid {
        if self.scene.sessions == 1 {
            return worker;
        }
        threads::acting(worker, || assert_eq!(caller.say(b"NOOP\r\n"), Some(250)))
    }

    /// Lets a worker that is new deliver a message, so that it goes about the next as all others do. A connection to
    /// the next server may have been cut.
    pub fn warm_up(&mut self) {
        let worker = self.worker();
        if self.warm != Some(worker) || self.scene.queue == Queue::Lmtp {
            let mails = [self.mail("warm")];
            assert_eq!(self.caller().deliver(&mails), [Fate::Taken], "{:#?}", self.lines());
            assert!(self.take_messages(&mails).concat().iter().all(|count| *count == 1));
            self.warm = Some(self.worker());
        }
    }

    /// Lets a worker that has delivered nothing take the place of one that has.
    pub fn cool_down(&self) {
        let worker = self.worker();
        kill(worker, Signal::SIGKILL).expect("kill");
        eventually("it has gone", || state(worker).is_none());
        self.worker();
    }

    /// Waits until nobody of the daemon runs any more, which somebody who spins never does, and none of its programs.
    pub fn wait_until_quiet(&self) {
        let looks = std::cell::Cell::new((0, 0));
        eventually("the daemon is quiet", || {
            let (before, same) = looks.get();
            let all: Vec<Pid> = self.daemon.workers().into_iter().chain([self.master()]).collect();
            let asleep = all.iter().all(|pid| matches!(state(*pid), Some('S') | None));
            let ticks: u64 = all.iter().map(|pid| threads::ticks(*pid)).sum();
            let same = if asleep && ticks == before { same + 1 } else { 0 };
            looks.set((ticks, same));
            std::thread::park_timeout(Duration::from_millis(4));
            same >= 5
        });
        if self.scene.queue == Queue::Qmail {
            eventually("the programs have ended", || self.programs().is_empty());
        }
    }

    /// The programs that take messages now.
    pub fn programs(&self) -> Vec<Pid> {
        let program = self.path().join("qmail-queue").display().to_string();
        let is_ours = |pid: &Pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&program)
        };
        let entries = fs::read_dir("/proc").expect("processes").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.map(Pid::from_raw).filter(is_ours).collect()
    }

    /// For each message how often each maildir has it, or how often the next server has accepted it and how often
    /// answered so. All must be whole. Afterwards there are none.
    pub fn take_messages(&self, mails: &[Mail]) -> Vec<Vec<usize>> {
        let mut boxes: Vec<Vec<String>> = Vec::new();
        for path in self.maildirs() {
            let entries = fs::read_dir(path.join("new")).expect("the maildir");
            let take = |path: PathBuf| {
                let text = fs::read_to_string(&path).expect("a message");
                fs::remove_file(path).expect("remove");
                text
            };
            boxes.push(entries.map(|entry| take(entry.expect("an entry").path())).collect());
        }
        if let Some(next) = &self.next {
            let (all, answered): (Vec<_>, Vec<_>) = next.take().into_iter().map(|one| (one.text, one.answered)).unzip();
            let told = all.iter().zip(answered).filter(|(_, answered)| *answered);
            boxes.push(told.map(|(text, _)| text.clone()).collect());
            boxes.push(all);
        }
        for text in boxes.iter().flatten() {
            let known = mails.iter().any(|mail| text.ends_with(&mail.text));
            assert!(known, "not whole, or of nobody: {} bytes {:.300}", text.len(), text);
        }
        let count = |mail: &Mail, texts: &Vec<String>| texts.iter().filter(|text| text.ends_with(&mail.text)).count();
        mails
            .iter()
            .map(|mail| boxes.iter().map(|texts| count(mail, texts)).collect())
            .collect()
    }

    fn maildirs(&self) -> Vec<PathBuf> {
        let boxes = self.scene.boxes().into_iter();
        boxes.map(|name| self.disk().join("Maildir").join(name)).collect()
    }

    /// The folders in which files are made.
    pub fn folders(&self) -> Vec<PathBuf> {
        let maildirs = self.maildirs();
        let both = maildirs.iter().flat_map(|path| [path.join("tmp"), path.join("new")]);
        both.chain([self.disk().join("spool")]).collect()
    }

    /// The files in the spool and in the `tmp` of maildirs.
    pub fn leftovers(&self) -> HashSet<PathBuf> {
        let folders = self.folders().into_iter().filter(|path| !path.ends_with("new"));
        let entries = folders.flat_map(|folder| fs::read_dir(folder).expect("a folder"));
        // the control socket lies there too
        let files = entries.map(|entry| entry.expect("an entry").path());
        files.filter(|path| path.is_file()).collect()
    }

    /// Removes them; how many there were.
    pub fn take_leftovers(&self) -> usize {
        let files = self.leftovers();
        files.iter().for_each(|path| fs::remove_file(path).expect("remove"));
        files.len()
    }

    /// Makes files this old.
    pub fn age(&self, files: &HashSet<PathBuf>, age: Duration) {
        for path in files {
            let file = fs::File::open(path).expect("open");
            file.set_modified(SystemTime::now() - age).expect("the time");
        }
    }

    /// What the daemon has logged.
    pub fn lines(&self) -> Vec<String> {
        self.daemon.lines()
    }
}

fn start(site: &Site, scene: &Scene, is_frugal: bool) -> (Process, SocketAddr) {
    let mut command = site.program("qpsmtpd-prefork");
    if is_frugal {
        command.env("GLIBC_TUNABLES", FRUGAL);
    }
    command.args(OPTIONS).args(["--sessions", &scene.sessions.to_string()]);
    let daemon = Process::start(&mut command);
    let address = daemon.ready()[0];
    (daemon, address)
}

/// The program, and the folders it needs.
fn program(site: &Site, scene: &Scene) {
    let disk = site.path().join("disk");
    let recipients = scene.recipients.iter().map(|one| format!("T{one}|"));
    let envelope = format!("Fa@example.net|{}|", recipients.collect::<String>());
    let text = PROGRAM.replace("DISK", &disk.display().to_string());
    let path = site.path().join("qmail-queue");
    fs::write(&path, text.replace("ENVELOPE", &envelope)).expect("write");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("mode");
    for folder in ["Maildir/tmp", "Maildir/new"] {
        fs::create_dir_all(disk.join(folder)).expect("folder");
        fs::set_permissions(disk.join(folder), PermissionsExt::from_mode(0o777)).expect("mode");
    }
}

/// Makes a certificate; what a client needs to trust it.
fn trust(site: &Site) -> Arc<ClientConfig> {
    succeed(
        site.program("qpsmtpctl")
            .args(["cert", "--CN", "mx.example.com", "--dir", "ssl"]),
    );
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(site.path().join("ssl/qpsmtpd-ca.crt")).expect("the CA");
    roots.add(ca).expect("a root");
    let builder = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(builder.with_no_client_auth())
}
