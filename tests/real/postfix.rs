//! A whole Postfix of our own: its queue, its configuration and its log lie in a directory that goes with it.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Group, Pid, User, chown};

use crate::harness::{Client, Site};
use crate::process::eventually;
use crate::programs::{Program, need, succeed};

/// Who owns its queue: it wants a user and a group that nobody else of its own uses, and these every Debian has.
const OWNER: &str = "mail";
const GROUP: &str = "uucp";

/// Where its client is.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));

/// Its services, as in master.cf; the receiving one, with its port, is put before them.
const SERVICES: &str = "
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
";

/// A running Postfix; all its processes are killed when this is dropped.
pub struct Postfix {
    master: Child,
    place: Site,
    tools: Program,
    /// Where it takes mail.
    pub address: SocketAddr,
}

impl Postfix {
    /// Starts one with these further lines of main.cf and of master.cf.
    ///
    /// None, loudly, if it is not there or cannot run.
    pub fn start(settings: &str, services: &str) -> Option<Self> {
        if !nix::unistd::getuid().is_root() {
            eprintln!("SKIPPED: Postfix wants to be started by root");
            return None;
        }
        let tools = need("postqueue")?;
        let usr = tools.path().parent()?.parent()?.to_owned();
        let place = Site::empty();
        let at = place.path().display();
        make_queue(&place);
        let mut main = String::new();
        let _ = write!(
            main,
            "compatibility_level = 3.6\nqueue_directory = {at}/spool\ndata_directory = {at}/data\n\
             daemon_directory = {usr}/lib/postfix/sbin\ncommand_directory = {usr}/sbin\n\
             shlib_directory = {usr}/lib/postfix\nmeta_directory = {at}/etc\nmail_owner = {OWNER}\n\
             setgid_group = {GROUP}\nimport_environment = MAIL_CONFIG LD_LIBRARY_PATH POSTLOG_SERVICE\n\
             maillog_file = {at}/log\nmaillog_file_prefixes = {at}\ninet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\nmyhostname = postfix.example.net\nmydestination =\nmynetworks = 127.0.0.0/8\n\
             alias_maps =\nin_flow_delay = 0\nsmtp_tls_loglevel = 1\nlmtp_tls_loglevel = 1\n\
             smtp_connection_cache_on_demand = no\nlmtp_connection_cache_on_demand = no\n{settings}\n",
            usr = usr.display()
        );
        fs::write(place.path().join("etc/main.cf"), main).expect("written");
        // another program may take the port in between: then another one is tried
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
            let address = listener.local_addr().expect("address");
            drop(listener);
            let services = format!("{address} inet n - n - - smtpd\n{SERVICES}{services}");
            fs::write(place.path().join("etc/master.cf"), services).expect("written");
            let mut command = Command::new(usr.join("lib/postfix/sbin/master"));
            command.env("LD_LIBRARY_PATH", usr.join("lib/postfix"));
            command.arg("-c").arg(place.path().join("etc"));
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut master = quiet.stderr(Stdio::null()).spawn().expect("start");
            let mut over = false;
            eventually("Postfix starts or ends", || {
                over = !matches!(master.try_wait(), Ok(None));
                over || greets(address)
            });
            if !over {
                return Some(Self {
                    master,
                    place,
                    tools,
                    address,
                });
            }
        }
        panic!("Postfix does not start");
    }

    fn master(&self) -> Pid {
        Pid::from_raw(self.master.id() as i32)
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// The first line of the log that contains all these words.
    fn logged(&self, words: &[&str]) -> Option<String> {
        let log = self.log();
        let mut lines = log.lines();
        let found = lines.find(|line| words.iter().all(|word| line.contains(word)));
        found.map(str::to_owned)
    }

    /// Waits until one line of the log contains all these words, and gives it.
    pub fn wait_for(&self, words: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("{words:?} in the log of Postfix"), || {
            found = self.logged(words);
            found.is_some()
        });
        found.expect("a line")
    }

    /// One of its tools.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = self.tools.sibling(name).command();
        command.arg("-c").arg(self.place.path().join("etc"));
        command
    }

    /// From now on all mail goes there.
    pub fn relay_to(&self, place: &str) {
        succeed(
            self.tool("postconf")
                .args(["-e", &format!("default_transport = {place}")]),
        );
        let reloads = || self.log().matches("reload -- version").count();
        let before = reloads();
        kill(self.master(), Signal::SIGHUP).expect("signal");
        eventually("Postfix has read its configuration again", || reloads() > before);
    }

    /// Makes it try again what it has put off, until one line of the log contains all these words. It tells its log before
    /// it has put a message off, and what it is just about to put off it does not try again.
    pub fn try_again(&self, words: &[&str]) {
        eventually(&format!("{words:?} in the log of Postfix"), || {
            self.wait_until_idle();
            succeed(self.tool("postqueue").arg("-f"));
            self.logged(words).is_some()
        });
    }

    /// Waits until it has nothing to send any more; what it holds or has put off may remain.
    pub fn wait_until_idle(&self) {
        let queues = ["maildrop", "incoming", "active"].map(|name| self.place.path().join("spool").join(name));
        let is_empty = |queue| fs::read_dir(queue).expect("a queue").next().is_none();
        eventually("Postfix has sent its mail", || queues.iter().all(is_empty));
    }

    /// The messages that it holds: envelope, header and body, as postcat(1) shows them.
    pub fn held(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path().join("spool/hold")).expect("the queue");
        let show = |path| {
            let output = self.tool("postcat").arg(path).output().expect("postcat");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        entries.map(|entry| show(entry.expect("an entry").path())).collect()
    }

    /// Gives it a message: parameters and all of MAIL and RCPT, and lines with LF.
    pub fn send(&self, sender: &str, recipients: &[&str], text: &str) {
        let mut client = Client::connect_from(CLIENT, self.address);
        assert_eq!(client.reply().0, 220);
        client.expect(250, "EHLO client.example.org");
        client.expect(250, &format!("MAIL FROM:{sender}"));
        for recipient in recipients {
            client.expect(250, &format!("RCPT TO:{recipient}"));
        }
        client.expect(354, "DATA");
        let lines = text.strip_suffix('\n').unwrap_or(text);
        let text = lines.replace("\n.", "\n..").replace('\n', "\r\n");
        client.expect(250, &format!("{text}\r\n.")).expect(221, "QUIT");
    }

    /// Checks that nothing it has seen of the daemon was strange to it.
    pub fn is_content(&self) {
        let log = self.log();
        for bad in [
            "warning:",
            "fatal:",
            "panic:",
            "lost connection",
            "improper",
            "alert",
            "timed out",
            "protocol error",
        ] {
            assert!(!log.contains(bad), "{bad}: {log}");
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // the master leads a group of all its processes
        let _ = killpg(self.master(), Signal::SIGKILL);
        let _ = self.master.wait();
    }
}

/// Whether it takes connections; politely, for the log shall show what went wrong and nothing else.
fn greets(address: SocketAddr) -> bool {
    let talk = || {
        let mut client = Client::try_connect(address)?;
        client.try_reply()?;
        client.try_say("QUIT")
    };
    talk().is_ok_and(|reply| reply.0 == 221)
}

/// Makes the directories that Postfix wants to find.
fn make_queue(place: &Site) {
    let owner = User::from_name(OWNER).ok().flatten().expect("a user").uid;
    let group = Group::from_name(GROUP).ok().flatten().expect("a group").gid;
    let folder = |name: &str, mode: u32, group| {
        let path = place.path().join(name);
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
        if mode != 0o755 {
            chown(&path, Some(owner), group).expect("owner");
        }
    };
    for name in ["etc", "spool", "spool/pid"] {
        folder(name, 0o755, None);
    }
    folder("data", 0o700, None);
    let inner = [
        "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
    ];
    for name in inner.iter().chain(&["private", "saved", "trace"]) {
        folder(&format!("spool/{name}"), 0o700, None);
    }
    folder("spool/maildrop", 0o730, Some(group));
    folder("spool/public", 0o710, Some(group));
}
