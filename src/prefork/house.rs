//! What the master lets others see of its house, and what they may ask it to do.
//!
//! The words of questions and answers are not known here: a [`Console`], which comes with the service, reads a line,
//! looks around in the [`House`], and says what to answer and what to do.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::board::{Board, State};
use super::canary::{Score, Trial};
use super::listen::{mark, shown};
use super::{Level, Plan};

/// Whether new clients are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Gate {
    /// They are.
    #[default]
    Open = 0,
    /// They are put off until the gate opens again.
    Paused = 1,
    /// They are sent away, as when the daemon ends; those who are here may stay.
    Draining = 2,
}

/// A worker as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its row in the scoreboard.
    pub row: usize,
    /// Its process.
    pub pid: u32,
    /// The configuration it serves.
    pub generation: u32,
    /// `starting`, `idle` or `busy`.
    pub state: &'static str,
    /// Whether it has been told to leave.
    pub leaving: bool,
    /// Sessions it has begun.
    pub served: u64,
}

/// A session as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its number.
    pub number: u64,
    /// The row of its worker.
    pub row: usize,
    /// The place among the worker's seats.
    pub place: usize,
    /// The client.
    pub peer: SocketAddr,
    /// How long it has lasted.
    pub age: Duration,
    /// What it is at, as the service numbers it, and for how long.
    pub stage: (u16, Duration),
    /// What runs for it, and for how long; 0 is nothing.
    pub task: (u16, Duration),
}

/// A configuration on trial as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialView {
    /// Its number.
    pub generation: u32,
    /// How many workers have it.
    pub workers: u32,
    /// When the trial is over.
    pub until: Instant,
}

/// A look at everything, at one moment.
pub struct House<'a> {
    pub(super) board: &'a Board,
    pub(super) listeners: &'a [Socket],
    pub(super) plan: &'a Plan,
    pub(super) generation: u32,
    pub(super) trial: Option<TrialView>,
    /// When the master began.
    pub(super) began: Instant,
    /// Whether the daemon has been told to end.
    pub(super) ending: bool,
    /// Whether who asks may also change something.
    pub(super) may_change: bool,
}

impl House<'_> {
    /// The workers, by row.
    pub fn workers(&self) -> Vec<WorkerView> {
        let rows = self.board.rows().iter().enumerate();
        let view = |(row, seen): (usize, &super::board::Row)| WorkerView {
            row,
            pid: seen.pid(),
            generation: seen.generation(),
            state: match seen.state() {
                State::None | State::Starting => "starting",
                State::Idle => "idle",
                State::Busy | State::Leaving => "busy",
            },
            leaving: !seen.stays(),
            served: seen.served(),
        };
        rows.filter(|(_, row)| row.state() != State::None).map(view).collect()
    }

    /// The sessions, the oldest first.
    pub fn sessions(&self) -> Vec<SessionView> {
        let now = self.board.now();
        let ago = |then: u64| Duration::from_millis(now.saturating_sub(then));
        let view = |(row, place, seat): (usize, usize, &super::Seat)| {
            let occupant = seat.occupant()?;
            let (stage, task) = (seat.stage(), seat.task());
            Some(SessionView {
                number: occupant.number,
                row,
                place,
                peer: occupant.peer,
                age: ago(occupant.since),
                stage: (stage.what, ago(stage.since)),
                task: (task.what, ago(task.since)),
            })
        };
        let mut sessions: Vec<_> = self.board.all_seats().filter_map(view).collect();
        sessions.sort_by_key(|session| session.number);
        sessions
    }

    /// Who has sessions, and how many: by what counts as one client, by network, and by the address of the listener.
    /// The greatest comes first.
    pub fn crowds(&self) -> [Vec<(String, u32)>; 3] {
        let named = |one: &Socket| (mark(one), shown(one));
        let listeners: BTreeMap<u64, String> = self.listeners.iter().map(named).collect();
        let mut crowds: [BTreeMap<String, u32>; 3] = Default::default();
        for (_, _, seat) in self.board.all_seats() {
            let Some(occupant) = seat.occupant() else { continue };
            let (client, network) = self.board.grouping().of(occupant.peer.ip());
            let listener = listeners.get(&seat.listener()).map_or("another", String::as_str);
            let names = [client.to_string(), network.to_string(), listener.to_owned()];
            for (crowd, name) in crowds.iter_mut().zip(names) {
                *crowd.entry(name).or_default() += 1;
            }
        }
        crowds.map(|crowd| {
            let mut sorted: Vec<_> = crowd.into_iter().collect();
            sorted.sort_by_key(|(_, count)| Reverse(*count));
            sorted
        })
    }

    /// Whether new clients are served.
    pub fn gate(&self) -> Gate {
        self.board.gate()
    }

    /// Clients refused for a limit of sessions: of their address, network or listener.
    pub fn refused(&self) -> u64 {
        self.board.refused()
    }

    /// How it runs.
    pub fn plan(&self) -> &Plan {
        self.plan
    }

    /// The number of the present configuration.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The configuration that is on trial.
    pub fn trial(&self) -> Option<TrialView> {
        self.trial
    }

    /// How long the master has lived.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the daemon has been told to end.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether who asks may also change something.
    pub fn may_change(&self) -> bool {
        self.may_change
    }
}

/// What the master is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// To open or close the gate.
    Gate(Gate),
    /// To load the configuration anew, for all workers or on trial first.
    Reload(Option<Trial>),
    /// To let the program be started anew and take this master's place.
    Upgrade,
    /// To end, within this time.
    End(Duration),
    /// To end these sessions: row, place and number of each.
    Dismiss(Vec<(usize, usize, u64)>),
    /// To write to the log.
    Log(Level, String),
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A reload has ended: the number of the new generation, or the faults.
    Reloaded(Result<u32, String>),
    /// A trial has ended: the number of the generation that all workers get, with what it has done, or why they do not.
    Judged(Result<(u32, Score), String>),
    /// An upgrade has ended: the process of the new master, or why there is none.
    Upgraded(Result<i32, String>),
    /// No session is left.
    Empty,
}

/// The answer to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These words.
    Words(String),
    /// Do this, and these words.
    Do(Deed, String),
    /// Do this; the words come when the news has come.
    Wait {
        /// What to do.
        deed: Deed,
        /// The news that is waited for.
        until: Until,
        /// How the words are wanted.
        json: bool,
    },
    /// Nothing; the client goes.
    Bye,
}

/// Which news ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The end of a reload.
    Reloaded,
    /// The end of a trial.
    Judged,
    /// The end of an upgrade.
    Upgraded,
    /// The end of the last session.
    Empty,
}

impl News {
    /// Which wait it ends.
    pub(super) fn ends(&self) -> Until {
        match self {
            News::Reloaded(_) => Until::Reloaded,
            News::Judged(_) => Until::Judged,
            News::Upgraded(_) => Until::Upgraded,
            News::Empty => Until::Empty,
        }
    }
}

/// Reads and writes the words of the control socket.
pub trait Console {
    /// What a client is told first.
    fn greeting(&self) -> String;

    /// The answer to a line.
    fn answer(&self, line: &str, house: &House<'_>) -> Answer;

    /// The words for news that a client has waited for.
    fn news(&self, news: &News, json: bool) -> String;

    /// Runs in a process of its own, confined and without rights: shows what the daemon does to those who come to
    /// `listener`. `line` leads to the master, which answers what only looks. Returns the exit code.
    fn show(&self, listener: TcpListener, line: UnixStream) -> u8;
}
