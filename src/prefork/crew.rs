//! The workers as the master knows them: their births, their deaths, what they are told.

mod generations;

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::board::{Board, Order, State};
use super::canary::Score;
use super::pool::{Throttle, Wanted, died_young};
use super::post::{GROWN, Post, TERM};
use super::signals::Held;
use super::{Fallen, Level, Log, Service, sys};

use generations::Canary;

/// A worker as the master knows it.
struct Hand {
    pid: Pid,
    line: mio::net::UnixStream,
    /// Wakes it.
    bell: EventFd,
    born: Instant,
    /// It has an order that it does not know of.
    unaware: bool,
}

/// All workers.
pub(super) struct Crew {
    board: Arc<Board>,
    /// One for each row of the board.
    hands: Vec<Option<Hand>>,
    wanted: Wanted,
    grace: Duration,
    throttle: Throttle,
    /// Which generation is the present one.
    generation: u32,
    /// Which one is the newest there was.
    newest: u32,
    canary: Option<Canary>,
    /// What came of the sessions of those of the present generation that are no more.
    past: Score,
}

/// What a child finds itself with: its line to the master, and signals held back.
pub(super) type Newborn = (Arc<Post>, Held);

impl Crew {
    pub(super) fn new(board: Arc<Board>, wanted: Wanted, grace: Duration) -> Self {
        let hands = board.rows().iter().map(|_| None).collect();
        Self {
            board,
            hands,
            wanted,
            grace,
            throttle: Throttle::default(),
            generation: 1,
            newest: 1,
            canary: None,
            past: Score::default(),
        }
    }

    /// Makes as many workers as the policy wants; in a child returns what it is born with.
    pub(super) fn fill(&mut self, registry: &Registry, log: Log<'_>) -> Option<Newborn> {
        if self.throttle.holds(Instant::now()).is_some() {
            return None;
        }
        while let Some(generation) = self.wanted() {
            let Some(row) = self.board.claim() else {
                self.make_room(log);
                return None;
            };
            match self.bear(row, generation, registry) {
                Ok(None) => {}
                Ok(newborn) => return newborn,
                Err(e) => {
                    self.board.clear(row);
                    log(Level::Critical, &format!("cannot make a worker: {e}"));
                    self.throttle.lengthen(Instant::now());
                    return None;
                }
            }
        }
        None
    }

    /// Until when births have to wait, if they have to.
    pub(super) fn births_held(&self) -> Option<Instant> {
        self.throttle.holds(Instant::now())
    }

    /// Whether there is no worker left.
    pub(super) fn is_gone(&self) -> bool {
        self.hands.iter().all(Option::is_none)
    }

    /// The number of the present generation.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// The scoreboard.
    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Forks the worker of `row`; in the child returns what it is born with.
    fn bear(&mut self, row: usize, generation: u32, registry: &Registry) -> io::Result<Option<Newborn>> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        // before the fork, so that none of it can fail while the child lives
        let mut line = mio::net::UnixStream::from_std(ours);
        registry.register(&mut line, Token(row), Interest::READABLE)?;
        self.board.engage(row, generation);
        let held = Held::all()?;
        let Some(pid) = sys::fork()? else {
            let (board, grace) = (Arc::clone(&self.board), self.grace);
            let post = Post {
                socket: theirs,
                bell,
                board,
                row,
                grace,
                listeners: RwLock::default(),
            };
            return Ok(Some((Arc::new(post), held)));
        };
        drop(held);
        self.board.set_pid(row, pid);
        self.hands[row] = Some(Hand {
            pid,
            line,
            bell,
            born: Instant::now(),
            unaware: false,
        });
        Ok(None)
    }

    /// Reads what the worker of `row` has sent.
    pub(super) fn heed(&mut self, row: usize) {
        let Some(hand) = &mut self.hands[row] else {
            return;
        };
        let row_is_present = self.board.rows()[row].generation() == self.generation;
        let mut bytes = [0; 64];
        while let Ok(n @ 1..) = hand.line.read(&mut bytes) {
            for byte in &bytes[..n] {
                match *byte {
                    GROWN if row_is_present => self.throttle.relax(),
                    TERM => {
                        self.board.give(row, Order::Finish, Instant::now() + self.grace);
                    }
                    // MORE: what to do about it shows when the workers are counted.
                    _ => {}
                }
            }
        }
        if self.board.rows()[row].order() != Order::None {
            wake(hand);
        }
    }

    /// Takes note of the workers that have ended; `ending` tells that all have to.
    /// Returns those that were no workers.
    pub(super) fn reap(&mut self, ending: bool, service: &dyn Service, log: Log<'_>) -> Vec<Pid> {
        let mut others = Vec::new();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid() else { break };
            let has = |hand: &Option<Hand>| hand.as_ref().is_some_and(|h| h.pid == pid);
            match self.hands.iter().position(has) {
                Some(row) => {
                    let fallen = self.bury(row, status, ending, log);
                    record(&fallen, pid, service, log);
                }
                None => others.push(pid),
            }
        }
        others
    }

    /// Clears up after a worker; returns the sessions that a crash has ended.
    fn bury(&mut self, row: usize, status: WaitStatus, ending: bool, log: Log<'_>) -> Vec<Fallen> {
        let Some(hand) = self.hands[row].take() else {
            return Vec::new();
        };
        let seen = &self.board.rows()[row];
        let (pid, now) = (hand.pid, Instant::now());
        let told = seen.order() != Order::None;
        let ready = seen.state() != State::Starting;
        let young = died_young(seen.served(), told, ready, now - hand.born);
        log(Level::Info, &format!("cleaning up after {pid}"));
        let (served, empty) = (seen.served(), seen.empty());
        log(
            Level::Debug,
            &format!("{pid} had {served} sessions, wake-ups for nothing: {empty}"),
        );
        let crashed = !told && !matches!(status, WaitStatus::Exited(..));
        let fallen = if crashed { self.board.fallen(row) } else { Vec::new() };
        let (generation, score) = (seen.generation(), seen.score());
        self.board.clear(row);
        if generation == self.generation {
            self.past = self.past.plus(score);
        } else if let Some(canary) = self.canary.as_mut().filter(|canary| canary.generation == generation) {
            canary.past = canary.past.plus(score);
            if !told && status != WaitStatus::Exited(pid, 0) {
                canary
                    .broken
                    .get_or_insert_with(|| format!("its worker {pid} {}", end_of(status)));
            }
        }
        match status {
            WaitStatus::Exited(_, 0) => {}
            status => log(Level::Error, &format!("worker {pid} {}", end_of(status))),
        }
        if young
            && !ending
            && generation == self.generation
            && let Some(pause) = self.throttle.lengthen(now)
        {
            let words = format!("worker {pid} died young; no new workers for {} s", pause.as_secs());
            log(Level::Error, &words);
        }
        fallen
    }

    /// Writes an order for every worker, which must then be woken.
    pub(super) fn order_all(&mut self, order: Order, deadline: Instant) {
        let rows = self.rows_of(|_| true);
        self.order(&rows, order, deadline);
    }

    fn order(&mut self, rows: &[usize], order: Order, deadline: Instant) {
        for row in rows {
            if let Some(hand) = &mut self.hands[*row] {
                hand.unaware |= self.board.give(*row, order, deadline);
            }
        }
    }

    /// Makes the workers look at their orders, if those are news to them.
    pub(super) fn wake_all(&mut self) {
        for hand in self.hands.iter_mut().flatten() {
            if std::mem::take(&mut hand.unaware) {
                wake(hand);
            }
        }
    }

    /// Makes all workers look at their orders and their seats.
    pub(super) fn rouse(&self) {
        self.hands.iter().flatten().for_each(wake);
    }

    /// Makes the worker of a row look at its orders, and at its seats.
    pub(super) fn wake(&self, row: usize) {
        if let Some(Some(hand)) = self.hands.get(row) {
            wake(hand);
        }
    }

    /// Kills who is left.
    pub(super) fn kill_all(&self, log: Log<'_>) {
        for hand in self.hands.iter().flatten() {
            log(
                Level::Warning,
                &format!("worker {} did not end in time, killing it", hand.pid),
            );
            kill_with_programs(hand.pid);
        }
    }
}

/// Kills a worker, and the programs that its plugins have started, each with its group. Nobody else would limit their
/// time any more.
fn kill_with_programs(worker: Pid) {
    // so that it starts no more of them
    let _ = kill(worker, Signal::SIGSTOP);
    for program in children(worker) {
        // It may have gone already, or have become another user.
        if killpg(program, Signal::SIGKILL).is_err() {
            let _ = kill(program, Signal::SIGKILL);
        }
    }
    let _ = kill(worker, Signal::SIGKILL);
}

/// The processes that the threads of a process have started; none where the kernel does not tell.
fn children(parent: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task"));
    let lists = threads.into_iter().flatten().flatten();
    let lists = lists.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| {
        list.split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    lists
        .flat_map(|list| -> Vec<i32> { numbers(list) })
        .map(Pid::from_raw)
        .collect()
}

/// Tells of the sessions that have ended with their worker.
fn record(fallen: &[Fallen], pid: Pid, service: &dyn Service, log: Log<'_>) {
    for one in fallen {
        let (peer, number) = (one.occupant.peer, one.occupant.number);
        let words = service.bury(one);
        log(
            Level::Error,
            &format!("crash of {pid}: session {number} with {peer}{words}"),
        );
    }
}

/// How a process has ended.
fn end_of(status: WaitStatus) -> String {
    match status {
        WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
        WaitStatus::Exited(_, code) => format!("ended with code {code}"),
        other => format!("is {other:?}"),
    }
}

/// Makes a worker look at its order.
fn wake(hand: &Hand) {
    // Fails only after 2^64 times.
    let _ = hand.bell.write(1);
}
