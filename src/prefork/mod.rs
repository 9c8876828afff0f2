//! The machinery of processes: a master that binds, gives up root and forks, and workers that serve.
//!
//! Nothing here knows SMTP. What is served is a [`Service`]; it is loaded in the master, before the
//! workers are forked, so that they share its memory. [`run`] is the life of the master.
//!
//! - `start` prepares: `listen` and `unix` bind, `inherit` and `heritage` take what was bound before, `user` gives up root,
//!   `pidfile` and `background` do what daemons do;
//! - `board` and `seat` are the shared memory, `pool` and `canary` the policies, `signals`, `post` and `notify` the ways to be told and
//!   to tell;
//! - `upgrade` starts the program that takes over, `keepsake` is memory that it gets;
//! - `master` and `worker` are the two loops, `crew` the workers as the master sees them, `host` and `crowd` the
//!   sessions as a worker sees them, `last_words` what those hear whose worker crashes; `sys` holds what is unsafe.
//!
//! Rules: the master has one thread, always; signals are held back across a fork and the child forgets
//! the master's handlers before it makes its own; every process waits in its own `mio::Poll`.

mod background;
mod board;
mod bounds;
mod canary;
mod companion;
mod confine;
mod control;
mod counters;
mod crew;
mod crowd;
mod host;
mod heritage;
mod house;
mod inherit;
mod keepsake;
mod last_words;
mod listen;
mod master;
mod notify;
mod pidfile;
mod pool;
mod post;
mod probe;
mod rates;
mod refuse;
mod seat;
mod signals;
mod start;
mod sys;
mod title;
mod unix;
mod upgrade;
mod user;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use socket2::Socket;

pub use background::{keep_stderr_from_client, tell};
use bounds::Bounds;
pub use canary::{Outcome, Score, Trial, workers};
pub use confine::{Confinement, Programs};
pub use counters::Counters;
pub use heritage::Heritage;
pub use house::{Answer, Console, Deed, Gate, House, News, SessionView, TrialView, Until, WorkerView};
pub use inherit::{Inherited, inherited};
pub use keepsake::{Keepsake, Left};
pub use listen::Listen;
pub use master::run;
pub use post::{Leave, Notice, Others};
pub use rates::{Counted, Limit, Rates};
use seat::Grouping;
pub use seat::{Doing, Occupant, Seat};
pub use signals::outlive_limits_of_files;
pub use sys::give_back_stack;
pub use title::title;
pub use unix::{Caller, SocketRights};
pub use user::home_of_server;

/// How grave a log message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A part of the daemon is broken.
    Critical,
    /// Something went wrong.
    Error,
    /// Something may go wrong.
    Warning,
    /// Rare and worth knowing.
    Notice,
    /// The usual course of things.
    Info,
    /// For those who look for faults.
    Debug,
}

/// Where log messages go.
pub type Log<'a> = &'a (dyn Fn(Level, &str) + Sync);

/// Loads what is to be served; on failure the faults, ready to be printed.
pub type Load<'a> = &'a mut dyn FnMut(Purpose) -> Result<Arc<dyn Service>, String>;

/// What something is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To see whether it can be loaded; nothing outside may come of it.
    Trial,
    /// To be served.
    Service,
}

/// One generation of whatever is served; loaded before its workers are forked.
pub trait Service: Send + Sync {
    /// Runs in each worker after the fork, before its first session.
    fn start_worker(&self) {}

    /// What the workers of this generation may still do once they serve.
    fn confinement(&self) -> Confinement {
        Confinement::default()
    }

    /// Serves one connection, blocking, and closes it.
    fn serve(&self, connection: Connection<'_>);

    /// Who answers at the control socket; without one there is no such socket.
    fn console(&self) -> Option<&dyn Console> {
        None
    }

    /// Runs in the master when this generation becomes the one that serves, and not one that is tried.
    fn takes_office(&self) {}

    /// Whether the limits per address and per network do not hold for this client.
    fn is_exempt(&self, _client: IpAddr) -> bool {
        false
    }

    /// Words for the program that takes over: facts that lie in no file that it can read. It gets them by
    /// [`Heritage::kept`].
    fn bequest(&self) -> Vec<(&'static str, Vec<u8>)> {
        Vec::new()
    }

    /// Takes note of a session whose worker has crashed, and says what the log should tell of it.
    fn bury(&self, _fallen: &Fallen) -> String {
        String::new()
    }

    /// What to write to a client that came by this listener (its number in [`Plan::listeners`], inherited ones first)
    /// and is sent away unserved, line ends included; nothing to close without words.
    fn refusal(&self, why: Refusal, listener: usize) -> Vec<u8>;

    /// What to write to clients whose session dies with its process, line ends included; see [`Notice::last_words`].
    fn last_words(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A session that ended because its worker was killed or crashed, unbidden; perhaps because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// Who it was.
    pub occupant: Occupant,
    /// What it was at, as the service numbers it.
    pub stage: u16,
    /// What ran for it; 0 for nothing.
    pub task: u16,
    /// The message that was being decided; 0 for none.
    pub message: u64,
}

/// Why a client is sent away before it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its address has as many sessions as allowed.
    PerAddress {
        /// The client.
        ip: IpAddr,
        /// How many sessions are allowed.
        limit: u32,
    },
    /// Its network has as many sessions as allowed.
    PerNetwork {
        /// The client.
        ip: IpAddr,
        /// How many sessions are allowed.
        limit: u32,
    },
    /// The listener has as many sessions as allowed.
    PerListener {
        /// How many sessions are allowed.
        limit: u32,
    },
    /// The daemon is ending.
    ShuttingDown,
    /// An operator has put off all clients.
    Paused,
}

/// An accepted connection.
pub struct Connection<'a> {
    /// The socket, nonblocking; that of a port with TCP_NODELAY.
    pub stream: Socket,
    /// Who it is, if it came by a unix socket; `peer` and `local` are `[::]:0` then.
    pub caller: Option<Caller>,
    /// The client; IPv4 as such even over an IPv6 socket.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Which of [`Plan::listeners`] it came by.
    pub listener: usize,
    /// The session's entry in the scoreboard.
    pub seat: &'a Seat,
    /// Tells when the session has to end.
    pub notice: Notice,
    /// The session's number, unique in the life of this daemon, upgrades included.
    pub number: u64,
    /// Sessions of the same address (IPv6: network) now, this one included.
    pub same_address: u32,
    /// How many of those are allowed.
    pub limit: u32,
    /// All sessions now, this one included.
    pub busy: u32,
    /// How many sessions there may be.
    pub children: u32,
    /// Whether this process may serve others at the same time.
    pub company: bool,
}

/// How to run.
#[derive(Debug)]
pub struct Plan {
    /// Where to listen; announced in this order.
    pub listeners: Vec<Listen>,
    /// Sockets that listen already, and go on listening when this daemon has ended; announced first.
    pub inherited: Vec<Socket>,
    /// What a former master has left, whose place this one is to take.
    pub heritage: Option<Heritage>,
    /// What this master keeps for the next one.
    pub keepsakes: Vec<Keepsake>,
    /// Whose the unix sockets are, and who may use them.
    pub socket: SocketRights,
    /// The most workers there may be.
    pub children: u32,
    /// Sessions that a worker serves at a time; more than one are on threads.
    pub sessions: u32,
    /// How many seats to keep free for connections, for which workers are made; 0 for all there may be.
    pub idle_children: u32,
    /// Sessions that one address may have at a time; 0 for no limit.
    pub max_from_ip: u32,
    /// The number of bits by which IPv6 addresses count as one.
    pub ipv6_prefix: u8,
    /// Sessions that one network may have at a time; 0 for no limit.
    pub max_from_net: u32,
    /// The numbers of bits of IPv4 and IPv6 addresses that are their network.
    pub net_prefixes: (u8, u8),
    /// Sessions that may come by one listener at a time; 0 for no limit.
    pub max_per_listener: u32,
    /// Sessions that a worker serves before another takes its place.
    pub sessions_per_worker: u64,
    /// How long transactions may go on after SIGTERM.
    pub grace: Duration,
    /// How long they may after SIGINT.
    pub short_grace: Duration,
    /// Whom to serve as; `None` for `smtpd` or `nobody` if root starts, else whoever starts.
    pub user: Option<String>,
    /// By how much the master is nicer than its workers.
    pub renice_parent: i32,
    /// Where to write the master's process id.
    pub pid_file: Option<PathBuf>,
    /// How a new configuration is tried before all workers get it, unless who asks for a reload says otherwise.
    pub trial: Option<Trial>,
    /// Where to make the control socket.
    pub control: Option<PathBuf>,
    /// Where to show what the daemon does, by a process of its own.
    pub show: Option<SocketAddr>,
    /// Whether to go to the background when all is ready.
    pub detach: bool,
    /// Whether workers and master are named for what they are.
    pub pretty_child: bool,
    /// Directories to make, if missing, as the property of the user who serves.
    pub owned_directories: Vec<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            inherited: Vec::new(),
            heritage: None,
            keepsakes: Vec::new(),
            socket: SocketRights::default(),
            children: 15,
            sessions: 1,
            idle_children: 5,
            max_from_ip: 10,
            ipv6_prefix: 64,
            max_from_net: 0,
            net_prefixes: (24, 48),
            max_per_listener: 0,
            sessions_per_worker: 100,
            grace: Duration::from_secs(30),
            short_grace: Duration::from_secs(3),
            user: None,
            renice_parent: 5,
            pid_file: None,
            trial: None,
            control: None,
            show: None,
            detach: false,
            pretty_child: false,
            owned_directories: Vec::new(),
        }
    }
}

impl Plan {
    /// How many workers to have.
    fn wanted(&self) -> pool::Wanted {
        pool::Wanted {
            children: self.children,
            sessions: self.sessions,
            idle: self.idle_children,
        }
    }

    /// How many rows the scoreboard needs: workers that leave, and those of a former master, keep theirs while others
    /// have taken their place.
    fn rows(&self) -> usize {
        self.children as usize * 3 + 16
    }

    /// Which addresses count as one.
    fn grouping(&self) -> Grouping {
        Grouping::new(self.ipv6_prefix, self.net_prefixes)
    }

    /// Sessions that there may be at a time.
    pub fn most_sessions(&self) -> u32 {
        self.children.saturating_mul(self.sessions.max(1))
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            address: self.max_from_ip,
            network: self.max_from_net,
            listener: self.max_per_listener,
        }
    }

    /// Sessions of one address that are let in.
    fn limit_per_address(&self) -> u32 {
        match self.max_from_ip {
            0 => self.most_sessions(),
            limit => limit,
        }
    }
}
