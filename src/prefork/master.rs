//! The master: keeps workers at hand, passes on what signals ask for, and ends when all are gone.
//!
//! It waits in one place, `Master::wait`, for signals and for the workers' bytes; everything else
//! follows from what is then to be seen. There is no periodic work.

mod desk;
mod kin;
mod reload;
mod succession;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use socket2::Socket;

use super::background::{Launch, tell};
use super::board::Order;
use super::companion::{self, Companion};
use super::control::{self, Control};
use super::crew::Crew;
use super::listen::close_for_all;
use super::notify::Notifier;
use super::pidfile::PidFile;
use super::refuse::refuse;
use super::signals::Signals;
use super::start::{Prepared, Start, prepare};
use super::worker::{Seed, work};
use super::{Level, Load, Log, Plan, Refusal, Service, title, unix};

use desk::Desk;
use kin::{KIN, Kin};
use reload::{PROBE, Reload};
use succession::{SUCCESSOR, Succession};

/// The signals; workers are numbered from 0.
const SIGNALS: Token = Token(usize::MAX - 1);
/// How often the master's title is brought up to date, if it has one.
const TITLE: Duration = Duration::from_secs(1);
/// Between the end of the grace time and the killing: sessions still say goodbye in it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the master until it is told to end, and returns the exit code.
///
/// Prints `listening on ADDR:PORT` for every listener and `ready` to stderr. Workers end the process
/// inside this function. `load` is called once after root is given up, and at each SIGHUP twice: on trial in a child,
/// and, if that went well, to serve.
pub fn run(mut plan: Plan, load: Load<'_>, log: Log<'_>) -> u8 {
    let mut heritage = plan.heritage.take();
    let start = match prepare(plan, &mut heritage, load, log) {
        Ok(Prepared::Launcher(code)) => return code,
        Ok(Prepared::Master(start)) => start,
        Err(trouble) => {
            tell(trouble.words.trim_end());
            if let Some(heritage) = heritage {
                heritage.decline(&trouble.words);
            }
            return trouble.exit;
        }
    };
    match Master::new(*start) {
        Ok(master) => master.live(load, log),
        Err(e) => {
            tell(format_args!("cannot start: {e}"));
            71
        }
    }
}

/// The state of being told to end.
struct Stop {
    /// Until then sessions may go on; without end if another master has taken over.
    deadline: Option<Instant>,
    killed: bool,
}

/// How things stand, for the service manager.
fn status(crew: &Crew) -> String {
    let present = crew.board().present(crew.generation());
    let workers = present.living + present.leaving;
    format!("generation {}, {workers} workers", crew.generation())
}

struct Master {
    plan: Rc<Plan>,
    listeners: Rc<Vec<Socket>>,
    inherited: usize,
    crew: Crew,
    poll: Poll,
    signals: Signals,
    service: Arc<dyn Service>,
    stop: Option<Stop>,
    reload: Reload,
    kin: Kin,
    pid_file: Option<PidFile>,
    launch: Option<Launch>,
    nice: Option<i32>,
    desk: Desk,
    notifier: Notifier,
    succession: Succession,
}

impl Master {
    fn new(start: Start) -> io::Result<Self> {
        let Start {
            plan,
            listeners,
            inherited,
            service,
            pid_file,
            launch,
            nice,
            door,
            show,
            heritage,
            home,
            root,
            board,
            keepsakes,
        } = start;
        let crew = Crew::new(Arc::new(board), plan.wanted(), plan.grace);
        let mut signals = Signals::listen(&[SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut signals.pipe, SIGNALS, Interest::READABLE)?;
        let control = Control::new(door, poll.registry())?;
        let mut master = Self {
            succession: Succession::new(home, root, keepsakes),
            notifier: Notifier::from_environment(),
            desk: Desk::new(control, show.map(Companion::new)),
            plan: Rc::new(plan),
            listeners: Rc::new(listeners),
            inherited,
            crew,
            poll,
            signals,
            service,
            stop: None,
            reload: Reload::default(),
            kin: Kin::default(),
            pid_file,
            launch,
            nice,
        };
        if let Some(heritage) = heritage {
            master.wait_to_take_over(heritage);
        }
        Ok(master)
    }

    /// The life of the master, and, in the children it makes, all of theirs.
    fn live(mut self, load: Load<'_>, log: Log<'_>) -> u8 {
        let mut announced = false;
        self.watch_kin(log);
        loop {
            if let Some(seed) = self.fill(log) {
                // Closes what is the master's alone: its handlers, its poll, the lines to other workers.
                drop(self);
                std::process::exit(work(seed, log).into());
            }
            if let Some(newborn) = self.companion(log) {
                let service = Arc::clone(&self.service);
                drop(self);
                std::process::exit(companion::live(newborn, &service, log).into());
            }
            self.take_over(load, log);
            if !self.succession.is_waited_for() && !std::mem::replace(&mut announced, true) {
                self.announce(log);
            }
            if let Err(e) = self.wait(load, log) {
                log(Level::Critical, &format!("the master cannot wait for events: {e}"));
                self.end(Duration::ZERO, load, log);
            }
            if self.is_over() {
                self.clear_desk();
                if let Some(file) = self.pid_file.take() {
                    file.remove();
                }
                log(Level::Notice, "all workers are gone, ending");
                return 0;
            }
        }
    }

    /// Whether all sessions are over that are to be waited for: if this master has been told to end, also those of the
    /// ones before it.
    fn is_over(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| {
            let waits = stop.deadline.is_some() && !stop.killed;
            self.crew.is_gone() && !(waits && self.has_former())
        })
    }

    /// Makes the workers that are wanted; in a child returns what it needs to work.
    fn fill(&mut self, log: Log<'_>) -> Option<Seed> {
        if self.stop.is_some() {
            return None;
        }
        let (post, held) = self.crew.fill(self.poll.registry(), log)?;
        let service = match post.row().generation() == self.crew.generation() {
            true => &self.service,
            false => self.reload.on_trial().unwrap_or(&self.service),
        };
        Some(Seed {
            plan: Rc::clone(&self.plan),
            service: Arc::clone(service),
            listeners: Rc::clone(&self.listeners),
            inherited: self.inherited,
            post,
            nice: self.nice,
            held,
        })
    }

    /// Says that workers wait for connections, and goes to the background if wanted.
    fn announce(&mut self, log: Log<'_>) {
        tell("ready");
        self.notifier.ready(&status(&self.crew));
        if let Some(Err(e)) = self.launch.take().map(Launch::ready) {
            log(Level::Error, &format!("cannot detach from the terminal: {e}"));
        }
    }

    /// Waits for something to happen and deals with it.
    fn wait(&mut self, load: Load<'_>, log: Log<'_>) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        self.entitle();
        let timeout = self
            .next_moment()
            .map(|at| at.saturating_duration_since(Instant::now()));
        match self.poll.poll(&mut events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            match event.token() {
                SIGNALS => self.heed_signals(load, log),
                PROBE | SUCCESSOR => {}
                KIN => self.watch_kin(log),
                token if control::is_ours(token) => self.heed_desk(token, load, log),
                Token(row) => self.crew.heed(row),
            }
        }
        self.heed_probe(load, log);
        self.watch_canary(load, log);
        self.heed_successor(load, log);
        self.look_for_emptiness(load, log);
        let status = || status(&self.crew);
        self.notifier.beat(status);
        if let Some(stop) = &mut self.stop
            && !stop.killed
            && stop.deadline.is_some_and(|at| Instant::now() >= at + LAST_WORDS)
        {
            stop.killed = true;
            self.crew.kill_all(log);
        }
        Ok(())
    }

    /// Shows in the title how things stand.
    fn entitle(&self) {
        if title::has_title() {
            let (generation, busy) = (self.crew.generation(), self.crew.board().busy());
            let most = self.plan.most_sessions();
            title::title(format_args!(
                "qpsmtpd master, generation {generation}, {busy}/{most} busy"
            ));
        }
    }

    /// When to wake without an event: births may go on, or the grace time is over.
    fn next_moment(&self) -> Option<Instant> {
        let moment = match &self.stop {
            Some(stop) => stop.deadline.filter(|_| !stop.killed).map(|at| at + LAST_WORDS),
            None => {
                let due = self.desk.due().into_iter().chain(self.succession.due());
                let due = due.chain(self.reload.due());
                self.crew.births_held().into_iter().chain(due).min()
            }
        };
        let title = title::has_title().then(|| Instant::now() + TITLE);
        moment.into_iter().chain(self.notifier.due()).chain(title).min()
    }

    fn heed_signals(&mut self, load: Load<'_>, log: Log<'_>) {
        for signal in self.signals.take() {
            match signal {
                SIGCHLD => {
                    let others = self.crew.reap(self.stop.is_some(), &*self.service, log);
                    self.bury_others(&others);
                }
                // from the master that has taken over: some session has to go
                SIGHUP if self.stop.is_some() => self.crew.rouse(),
                SIGHUP => self.reload(self.plan.trial, load, log),
                SIGUSR2 => self.upgrade(load, log),
                SIGINT if self.stop.as_ref().is_some_and(|stop| stop.deadline.is_some()) => {
                    self.end(Duration::ZERO, load, log)
                }
                SIGINT => self.end(self.plan.short_grace, load, log),
                _ => self.end(self.plan.grace, load, log),
            }
        }
    }

    /// Begins to end, or hastens it.
    fn end(&mut self, grace: Duration, load: Load<'_>, log: Log<'_>) {
        let deadline = Instant::now() + grace;
        let first = self.stop.is_none();
        let stop = self.stop.get_or_insert(Stop {
            deadline: None,
            killed: false,
        });
        let news = stop.deadline.is_none();
        let deadline = stop.deadline.map_or(deadline, |stands| stands.min(deadline));
        stop.deadline = Some(deadline);
        let order = if grace.is_zero() { Order::Now } else { Order::Finish };
        self.succession.call_off();
        let gently = grace >= self.plan.grace;
        self.end_former(if gently { Signal::SIGTERM } else { Signal::SIGINT });
        // The order comes first, so that whoever finds the listeners closed knows why.
        self.crew.order_all(order, deadline);
        if news {
            let words = format!("ending; open transactions have {} s", grace.as_secs());
            log(Level::Notice, &words);
        }
        if first {
            self.notifier.stopping(grace + 2 * LAST_WORDS);
            self.close_listeners(log);
        }
        self.crew.wake_all();
        self.give_up_reload("the daemon is ending", load, log);
    }

    /// Tells those that are already connected that nobody will serve them, and refuses further ones. At an inherited
    /// socket they may wait: for whoever is started next.
    fn close_listeners(&mut self, log: Log<'_>) {
        for (number, listener) in self.listeners.iter().enumerate().skip(self.inherited) {
            let words = self.service.refusal(Refusal::ShuttingDown, number);
            while let Ok((stream, _)) = listener.accept() {
                refuse(stream, &words);
            }
            close_for_all(listener);
        }
        self.plan.listeners.iter().for_each(|place| unix::remove(place, log));
        self.listeners = Rc::default();
    }
}
