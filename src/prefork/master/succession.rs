//! Upgrades: a new program takes the place of this master, or this one has taken the place of a former one.
//!
//! Both share the listening sockets. The former master stops only when the new one has workers that wait for
//! connections; until then it goes on as if nothing were, and if the new one fails, nothing has been.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Token;

use super::super::board::{Order, State};
use super::super::control::Control;
use super::super::heritage::Heritage;
use super::super::house::News;
use super::super::keepsake::Keepsake;
use super::super::pidfile::PidFile;
use super::super::probe::Probe;
use super::super::start::open_door;
use super::super::upgrade::{Estate, Program};
use super::super::{Level, Load, Log};
use super::{Master, Stop};

/// The program that is to take our place.
pub(super) const SUCCESSOR: Token = Token(usize::MAX - 4);
/// How often a new master looks whether its workers are ready.
const LOOK: Duration = Duration::from_millis(5);

/// What the master knows of those before and after it.
pub(super) struct Succession {
    program: io::Result<Program>,
    /// The home directory of the user that it has become, if root has started it.
    home: Option<PathBuf>,
    root: bool,
    keepsakes: Vec<Keepsake>,
    successor: Option<Probe>,
    former: Option<Former>,
}

/// A former master that still serves.
struct Former {
    heritage: Heritage,
    pid_file: Option<PidFile>,
    /// How many sockets are not ours to close.
    inherited: usize,
}

impl Succession {
    pub(super) fn new(home: Option<PathBuf>, root: bool, keepsakes: Vec<Keepsake>) -> Succession {
        Succession {
            program: Program::of_this_process(),
            home,
            root,
            keepsakes,
            successor: None,
            former: None,
        }
    }

    /// Whether a former master has not yet been told that this one serves.
    pub(super) fn is_waited_for(&self) -> bool {
        self.former.is_some()
    }

    /// When the master must wake for what goes on here.
    pub(super) fn due(&self) -> Option<Instant> {
        let look = self.former.as_ref().map(|_| Instant::now() + LOOK);
        look.into_iter()
            .chain(self.successor.as_ref().map(Probe::deadline))
            .min()
    }

    /// Ends the program that was to take our place.
    pub(super) fn call_off(&mut self) {
        if let Some(successor) = self.successor.take() {
            successor.kill();
        }
    }
}

impl Master {
    /// Lets a former master serve until this one can. What belongs to it is not touched until then.
    pub(super) fn wait_to_take_over(&mut self, heritage: Heritage) {
        self.succession.former = Some(Former {
            heritage,
            pid_file: self.pid_file.take(),
            inherited: std::mem::replace(&mut self.inherited, self.listeners.len()),
        });
    }

    /// Takes the place of the former master as soon as a worker waits for connections.
    pub(super) fn take_over(&mut self, load: Load<'_>, log: Log<'_>) {
        if self.stop.is_some() {
            return;
        }
        let serves = |state| matches!(state, State::Idle | State::Busy);
        let ready = self.crew.board().rows().iter().any(|row| serves(row.state()));
        let fails = self.crew.births_held().is_some();
        let Some(former) = self.succession.former.take_if(|_| ready || fails) else {
            return;
        };
        if !ready {
            former.heritage.decline("its workers die before they can serve");
            return self.end(Duration::ZERO, load, log);
        }
        self.inherited = former.inherited;
        self.pid_file = former.pid_file;
        if let Some(Err(e)) = self.pid_file.as_mut().map(PidFile::write) {
            log(Level::Error, &format!("cannot write the pid file: {e}"));
        }
        let door = open_door(&self.plan, &*self.service, log);
        match Control::new(door, self.poll.registry()) {
            Ok(control) => self.desk.open(control),
            Err(e) => log(Level::Error, &format!("no control socket: {e}")),
        }
        self.crew.board().set_canary(0);
        self.remember_former(former.heritage.master, log);
        former.heritage.accept();
        log(Level::Notice, "took over from the former master");
    }

    /// Begins an upgrade; who asks for one while one goes on hears of that.
    pub(super) fn upgrade(&mut self, load: Load<'_>, log: Log<'_>) {
        if self.succession.successor.is_some() {
            return;
        }
        if self.stop.is_some() || self.succession.is_waited_for() {
            let why = "this master is ending, or has not begun";
            return self.tell(&News::Upgraded(Err(why.into())), load, log);
        }
        if self.reload.on_trial().is_some() {
            let why = "a configuration is on trial, which the new program would load for all".to_owned();
            return self.not_upgraded(why, load, log);
        }
        match self.start_successor() {
            Ok(probe) => {
                let pid = probe.child();
                log(Level::Notice, &format!("upgrade: process {pid} is to take over"));
                self.succession.successor = Some(probe);
            }
            Err(e) => self.not_upgraded(format!("cannot start the program: {e}"), load, log),
        }
    }

    fn start_successor(&self) -> io::Result<Probe> {
        let program = match &self.succession.program {
            Ok(program) => program,
            Err(e) => return Err(io::Error::new(e.kind(), e.to_string())),
        };
        let mut estate = Estate::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            match number.checked_sub(self.inherited) {
                None => estate.leave("given", listener, "")?,
                Some(own) => estate.leave("bound", listener, &format!("@{}", self.plan.listeners[own].brief()))?,
            }
        }
        if let Some(file) = &self.pid_file {
            estate.leave("pid", file.file(), "")?;
        }
        if let Some(show) = self.desk.show() {
            estate.leave("show", show, "")?;
        }
        if let Some(nice) = self.nice {
            estate.tell("nice", &nice.to_string());
        }
        if self.succession.root {
            estate.tell("root", "1");
        }
        let words = self.service.bequest();
        let words: io::Result<Vec<_>> = words
            .iter()
            .map(|(key, words)| Keepsake::of_words(key, words))
            .collect();
        for one in self.succession.keepsakes.iter().chain(&words?) {
            estate.keep(one)?;
        }
        let (ours, theirs) = UnixStream::pair()?;
        let child = program.start(estate, &theirs, self.succession.home.as_deref())?;
        Probe::of(
            child,
            ours,
            [
                "the start of the new program",
                "the new program ended before it served; what it said is in the log",
            ],
            self.poll.registry(),
            SUCCESSOR,
        )
    }

    /// Hears what came of an upgrade: if the new master serves, this one ends with its last session.
    pub(super) fn heed_successor(&mut self, load: Load<'_>, log: Log<'_>) {
        let Some(probe) = &mut self.succession.successor else {
            return;
        };
        let Some(outcome) = probe.outcome() else { return };
        let pid = probe.child();
        self.succession.successor = None;
        if let Err(faults) = outcome {
            // it may have had workers
            self.watch_kin(log);
            return self.not_upgraded(faults, load, log);
        }
        log(
            Level::Notice,
            &format!("upgraded: process {pid} serves, this one ends with its last session"),
        );
        self.notifier.replaced_by(pid);
        // File and sockets are the other's now: they are closed here, and neither removed nor shut down.
        self.pid_file = None;
        self.listeners = Rc::default();
        self.tell(&News::Upgraded(Ok(pid.as_raw())), load, log);
        self.give_up_reload("another release has taken over", load, log);
        self.clear_desk();
        self.stop = Some(Stop {
            deadline: None,
            killed: false,
        });
        self.crew.order_all(Order::Retire, Instant::now());
        self.crew.wake_all();
    }

    fn not_upgraded(&mut self, faults: String, load: Load<'_>, log: Log<'_>) {
        log(Level::Error, "upgrade failed, this master serves on:");
        faults.lines().for_each(|line| log(Level::Error, line));
        self.tell(&News::Upgraded(Err(faults)), load, log);
    }
}
