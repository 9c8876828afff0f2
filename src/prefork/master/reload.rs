//! Reloads: a new generation is loaded on trial in a child, then for good, and given to all workers at once, or first
//! to a few of them, canaries, whose sessions decide whether the others get it.

use std::sync::Arc;
use std::time::Instant;

use mio::Token;

use super::super::canary::{AT_THE_END, EARLY, Score, Trial, workers, worse};
use super::super::house::{News, TrialView, Until};
use super::super::probe::Probe;
use super::super::start::load_soundly;
use super::super::{Level, Load, Log, Purpose, Service};
use super::{Master, status};

/// The child that tries a new generation.
pub(super) const PROBE: Token = Token(usize::MAX - 2);

/// What goes on about reloads.
#[derive(Default)]
pub(super) struct Reload {
    probe: Option<Probe>,
    /// Whether what is being loaded is to be tried with a few workers first.
    trial: Option<Trial>,
    /// Someone has asked for another reload, on such a trial, while one was loaded.
    again: Option<Option<Trial>>,
    canary: Option<Canary>,
}

/// A generation on trial.
struct Canary {
    service: Arc<dyn Service>,
    view: TrialView,
}

impl Reload {
    /// What the workers on trial serve.
    pub(super) fn on_trial(&self) -> Option<&Arc<dyn Service>> {
        self.canary.as_ref().map(|canary| &canary.service)
    }

    /// The trial that goes on.
    pub(super) fn view(&self) -> Option<TrialView> {
        self.canary.as_ref().map(|canary| canary.view)
    }

    /// When the master must wake for it.
    pub(super) fn due(&self) -> Option<Instant> {
        let over = self.canary.as_ref().map(|canary| canary.view.until);
        self.probe.as_ref().map(Probe::deadline).into_iter().chain(over).min()
    }
}

impl Master {
    /// Begins to load a new generation, in a child first. One that is asked for meanwhile begins after it.
    pub(super) fn reload(&mut self, trial: Option<Trial>, load: Load<'_>, log: Log<'_>) {
        if self.stop.is_some() {
            return;
        }
        if self.reload.probe.is_some() {
            self.reload.again = Some(trial);
            return;
        }
        match Probe::start(load, self.poll.registry(), PROBE) {
            Ok(probe) => {
                self.notifier.reloading();
                self.reload.probe = Some(probe);
                self.reload.trial = trial;
            }
            Err(e) => {
                let words = format!("cannot make a process to try it in: {e}");
                self.not_reloaded(&words, log);
                self.tell(&News::Reloaded(Err(words)), load, log);
            }
        }
    }

    /// Hears what came of loading. If the new generation is sound, new workers take the place of the idle ones, or of
    /// some of them, and busy ones leave after their session.
    pub(super) fn heed_probe(&mut self, load: Load<'_>, log: Log<'_>) {
        let Some(outcome) = self.reload.probe.as_mut().and_then(Probe::outcome) else {
            return;
        };
        self.reload.probe = None;
        let outcome = outcome.and_then(|()| load_soundly(load, Purpose::Service));
        let trial = self.reload.trial.take();
        let sound = match outcome {
            Ok(service) => {
                self.give_up_canary("another configuration was loaded meanwhile", load, log);
                match trial {
                    Some(trial) => self.begin_canary(service, trial, log),
                    None => self.settle(service, log),
                }
                Ok(())
            }
            Err(faults) => {
                self.not_reloaded(&faults, log);
                Err(faults)
            }
        };
        if let Some(trial) = self.reload.again.take() {
            // who asked in between waits for the next one
            return self.reload(trial, load, log);
        }
        match sound {
            Ok(()) if trial.is_some() => self.let_wait_on(Until::Reloaded, Until::Judged),
            sound => {
                let news = sound.map(|()| self.crew.generation());
                self.tell(&News::Reloaded(news), load, log);
            }
        }
    }

    /// Gives a new generation to all workers.
    fn settle(&mut self, service: Arc<dyn Service>, log: Log<'_>) {
        self.service = service;
        self.service.takes_office();
        self.crew.renew();
        let words = format!("reloaded, generation {}", self.crew.generation());
        log(Level::Notice, &words);
        self.notifier.ready(&status(&self.crew));
    }

    /// Gives it to some of them.
    fn begin_canary(&mut self, service: Arc<dyn Service>, trial: Trial, log: Log<'_>) {
        let generation = self.crew.begin_canary(trial.workers);
        let (workers, seconds) = (workers(trial.workers), trial.span.as_secs());
        let words = format!("generation {generation} is on trial: {workers} for {seconds} s");
        log(Level::Notice, &words);
        self.notifier.ready(&format!("{}; {words}", status(&self.crew)));
        self.reload.canary = Some(Canary {
            service,
            view: TrialView {
                generation,
                workers: trial.workers,
                until: Instant::now() + trial.span,
            },
        });
    }

    /// Looks how the workers on trial do: if they do worse than the others, or crash, theirs is the last word.
    pub(super) fn watch_canary(&mut self, load: Load<'_>, log: Log<'_>) {
        let (Some(view), Some((old, new))) = (self.reload.view(), self.crew.scores()) else {
            return;
        };
        let over = view.until <= Instant::now();
        let doubt = if over { AT_THE_END } else { EARLY };
        match self.crew.broken_canary().or_else(|| worse(old, new, doubt)) {
            Some(why) => self.give_up_canary(&why, load, log),
            None if over => self.promote(new, load, log),
            None => {}
        }
    }

    fn promote(&mut self, new: Score, load: Load<'_>, log: Log<'_>) {
        let Some(canary) = self.reload.canary.take() else {
            return;
        };
        self.crew.promote();
        self.service = canary.service;
        self.service.takes_office();
        let generation = self.crew.generation();
        let words = format!(
            "generation {generation} is promoted: no worse in {} sessions",
            new.sessions
        );
        log(Level::Notice, &words);
        self.notifier.ready(&status(&self.crew));
        self.tell(&News::Judged(Ok((generation, new))), load, log);
    }

    /// Goes back to the old generation alone.
    fn give_up_canary(&mut self, why: &str, load: Load<'_>, log: Log<'_>) {
        let Some(canary) = self.reload.canary.take() else {
            return;
        };
        self.crew.end_canary();
        let (tried, present) = (canary.view.generation, self.crew.generation());
        let words = format!("generation {tried} is rolled back, generation {present} serves on: {why}");
        log(Level::Error, &words);
        self.notifier.ready(&format!("{}; {words}", status(&self.crew)));
        self.tell(&News::Judged(Err(words)), load, log);
    }

    /// Ends whatever goes on about reloads, because this master does.
    pub(super) fn give_up_reload(&mut self, why: &str, load: Load<'_>, log: Log<'_>) {
        if self.reload.canary.take().is_some() {
            self.crew.end_canary();
            self.tell(&News::Judged(Err(format!("the trial is broken off: {why}"))), load, log);
        }
        if let Some(probe) = self.reload.probe.take() {
            probe.kill();
            self.tell(&News::Reloaded(Err(why.to_owned())), load, log);
        }
    }

    fn not_reloaded(&self, faults: &str, log: Log<'_>) {
        let generation = self.crew.generation();
        log(
            Level::Error,
            &format!("reload failed, generation {generation} serves on:"),
        );
        faults.lines().for_each(|line| log(Level::Error, line));
        self.notifier
            .ready(&format!("{}; the last reload failed", status(&self.crew)));
    }
}
