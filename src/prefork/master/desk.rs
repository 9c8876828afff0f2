//! The master at its desk: it answers the control socket, does what it is asked to, and keeps a companion.

use std::io;
use std::mem::take;
use std::net::TcpListener;
use std::time::Instant;

use mio::Token;

use super::super::companion::{self, Companion};
use super::super::control::{Control, DOOR};
use super::super::house::{Deed, Gate, House, News, Until};
use super::super::{Level, Load, Log};
use super::Master;

/// What the master keeps for those who look and ask.
pub(super) struct Desk {
    control: Control,
    companion: Option<Companion>,
    began: Instant,
}

impl Desk {
    pub(super) fn new(control: Control, companion: Option<Companion>) -> Desk {
        Desk {
            control,
            companion,
            began: Instant::now(),
        }
    }

    /// Puts the control socket on it.
    pub(super) fn open(&mut self, control: Control) {
        self.control = control;
    }

    /// The socket of the companion.
    pub(super) fn show(&self) -> Option<&TcpListener> {
        self.companion.as_ref().map(Companion::listener)
    }

    /// When the master must wake for what is kept here.
    pub(super) fn due(&self) -> Option<Instant> {
        self.companion.as_ref().and_then(Companion::due)
    }
}

impl Master {
    fn house(&self, may_change: bool) -> House<'_> {
        House {
            board: self.crew.board(),
            listeners: &self.listeners,
            plan: &self.plan,
            generation: self.crew.generation(),
            trial: self.reload.view(),
            began: self.desk.began,
            ending: self.stop.is_some(),
            may_change,
        }
    }

    /// Deals with an event of the control socket or of one of its clients.
    pub(super) fn heed_desk(&mut self, token: Token, load: Load<'_>, log: Log<'_>) {
        let service = self.service.clone();
        let Some(console) = service.console() else { return };
        let tokens = match token {
            DOOR => self.desk.control.let_in(console, self.poll.registry()),
            client => vec![client],
        };
        self.heed_clients(&tokens, load, log);
    }

    fn heed_clients(&mut self, tokens: &[Token], load: Load<'_>, log: Log<'_>) {
        for token in tokens {
            loop {
                let service = self.service.clone();
                let Some(console) = service.console() else { return };
                let mut control = take(&mut self.desk.control);
                let house = self.house(control.may_change(*token));
                let deed = control.heed(*token, console, &house);
                self.desk.control = control;
                match deed {
                    Some(deed) => self.perform(deed, load, log),
                    None => break,
                }
            }
        }
    }

    fn perform(&mut self, deed: Deed, load: Load<'_>, log: Log<'_>) {
        match deed {
            Deed::Gate(gate) => self.set_gate(gate, log),
            Deed::Reload(_) if self.stop.is_some() => {
                let news = News::Reloaded(Err("the daemon is ending".into()));
                self.tell(&news, load, log);
            }
            Deed::Reload(trial) => self.reload(trial, load, log),
            Deed::Upgrade => self.upgrade(load, log),
            Deed::End(grace) => self.end(grace, load, log),
            Deed::Log(level, words) => log(level, &words),
            Deed::Dismiss(sessions) => {
                for (row, place, number) in sessions {
                    self.crew.board().seat(row, place).dismiss(number);
                    self.wake_row(row);
                }
            }
        }
    }

    /// Opens or closes the gate; the log says so if it was not so already.
    fn set_gate(&self, gate: Gate, log: Log<'_>) {
        let board = self.crew.board();
        if board.gate() != gate {
            let words = match gate {
                Gate::Open => "new clients are served again",
                Gate::Paused => "paused by the operator: new clients are put off with 451",
                Gate::Draining => "draining by the operator: new clients are sent away with 421",
            };
            log(Level::Notice, words);
            board.set_gate(gate);
        }
    }

    /// Tells those who wait for it.
    pub(super) fn tell(&mut self, news: &News, load: Load<'_>, log: Log<'_>) {
        let service = self.service.clone();
        let Some(console) = service.console() else { return };
        let tokens = self.desk.control.tell(news, console);
        self.heed_clients(&tokens, load, log);
    }

    /// Lets those who wait for the one wait for the other instead.
    pub(super) fn let_wait_on(&mut self, one: Until, other: Until) {
        self.desk.control.let_wait_on(one, other);
    }

    /// Looks whether the house has become empty while nobody new is served.
    pub(super) fn look_for_emptiness(&mut self, load: Load<'_>, log: Log<'_>) {
        if self.crew.board().gate() == Gate::Draining && self.crew.board().is_empty() {
            self.tell(&News::Empty, load, log);
        }
    }

    /// Starts the companion if it is due; in the child returns what it begins with.
    pub(super) fn companion(&mut self, log: Log<'_>) -> Option<companion::Newborn> {
        let due = self.desk.due().is_some_and(|due| due <= Instant::now());
        if self.stop.is_some() || !due {
            return None;
        }
        match self.desk.companion.as_mut()?.bear() {
            Ok(Err(newborn)) => return Some(newborn),
            Ok(Ok(line)) => {
                let service = self.service.clone();
                if let Some(console) = service.console() {
                    let line = mio::net::UnixStream::from_std(line);
                    self.desk.control.add(line, false, console, self.poll.registry());
                }
            }
            Err(e) => complain(&e, log),
        }
        None
    }

    /// Takes note of children that were no workers.
    pub(super) fn bury_others(&mut self, dead: &[nix::unistd::Pid]) {
        if let Some(companion) = &mut self.desk.companion {
            companion.bury(dead);
        }
    }

    /// Clears the desk for good.
    pub(super) fn clear_desk(&mut self) {
        self.desk.control.remove();
        if let Some(companion) = &mut self.desk.companion {
            companion.end();
        }
    }
}

fn complain(e: &io::Error, log: Log<'_>) {
    log(
        Level::Error,
        &format!("cannot make the process that shows the status: {e}"),
    );
}
