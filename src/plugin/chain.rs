//! The chain of loaded plugins, and how a hook is asked (catalogue 1.2).
//!
//! Plugins are asked in the order of config/plugins until one has an opinion. A plugin that fails or panics never
//! ends a session and never passes silently: its argument `on_error` decides.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::{Aside, Decision, Event, Failure, Hook, Needs, OnError, Plugin, Programs};
use crate::config::{Fault, Line, Lines};
use crate::log::{Level, Record};
use crate::mail::{Address, Extensions};
use crate::session::services::SideHooks;
use crate::session::tls::TlsPlan;
use crate::session::{Context, Loglevel, Mark, Ruling, Session, Verdict};

/// A plugin with what its line in config/plugins said.
pub struct Loaded {
    /// Its canonical name: `queue/maildir`.
    pub name: &'static str,
    /// Its name in the log, in the form the log tools know: `queue::maildir` (catalogue 2.6).
    pub log_name: Arc<str>,
    /// The hooks it serves.
    pub hooks: &'static [Hook],
    /// The plugin.
    pub plugin: Box<dyn Plugin>,
    /// The common argument `loglevel`.
    pub loglevel: Option<Loglevel>,
    /// The common argument `on_error`.
    pub on_error: OnError,
    /// Its arguments, with those that an old name brings.
    pub arguments: Vec<String>,
    /// The line that loaded it.
    pub line: Line,
}

/// All plugins of a generation, and who serves which hook.
pub struct Chain {
    plugins: Vec<Loaded>,
    takers: Vec<Vec<u16>>,
    /// For each of the takers the number under which it is watched; empty if nobody watches.
    marks: Vec<Vec<Mark>>,
    logs_up_to: Option<Level>,
    takes: Extensions,
}

impl Chain {
    /// Puts plugins into a chain, in their order.
    pub fn new(plugins: Vec<Loaded>) -> Chain {
        let mut takers = vec![Vec::new(); Hook::ALL.len()];
        for (number, loaded) in plugins.iter().enumerate() {
            for hook in loaded.hooks {
                takers[*hook as usize].push(number as u16);
            }
        }
        let loggers = takers[Hook::logging as usize].iter();
        let logs_up_to = loggers
            .map(|number: &u16| plugins[usize::from(*number)].plugin.logs_up_to())
            .max();
        let queues = takers[Hook::queue as usize].iter();
        let takes = queues.map(|number: &u16| plugins[usize::from(*number)].plugin.takes());
        let takes = takes.reduce(Extensions::and).unwrap_or_default();
        Chain {
            takes,
            plugins,
            marks: vec![Vec::new(); takers.len()],
            takers,
            logs_up_to,
        }
    }

    /// Numbers each plugin at each of its hooks for those who watch the sessions.
    pub fn number(&mut self, mut number: impl FnMut(&Loaded, Hook) -> Mark) {
        for hook in Hook::ALL {
            let takers = self.takers[*hook as usize].iter();
            let marks = takers.map(|at| number(&self.plugins[usize::from(*at)], *hook));
            self.marks[*hook as usize] = marks.collect();
        }
    }

    /// The plugins, in their order.
    pub fn plugins(&self) -> &[Loaded] {
        &self.plugins
    }

    /// Directories that plugins want to be made before the daemon starts to serve.
    pub fn owned_dirs(&self) -> Vec<PathBuf> {
        self.plugins
            .iter()
            .flat_map(|loaded| loaded.plugin.owned_dirs())
            .collect()
    }

    /// Lets every plugin begin its work; see [`Plugin::start`].
    ///
    /// # Errors
    /// The first plugin that cannot, and why.
    pub fn start(&self) -> Result<(), String> {
        self.plugins.iter().try_for_each(|loaded| {
            let started = loaded.plugin.start();
            started.map_err(|why| format!("{}: {}: {why}", loaded.line.place, loaded.name))
        })
    }

    /// What all plugins together need of the machine, and the name of a plugin whose programs forbid confinement.
    pub fn needs(&self) -> (Needs, Option<&'static str>) {
        let mut all = Needs::default();
        let mut unconfined = None;
        for loaded in &self.plugins {
            let needs = loaded.plugin.needs();
            all.read.extend(needs.read);
            all.write.extend(needs.write);
            all.write.extend(loaded.plugin.owned_dirs());
            all.programs = all.programs.max(needs.programs);
            if needs.programs == Programs::Any {
                unconfined = Some(loaded.name);
            }
        }
        (all, unconfined)
    }

    /// What all plugins that queue messages take; nothing if there is none.
    pub fn takes(&self) -> Extensions {
        self.takes
    }

    /// How TLS is to be offered, and the plugin that wants it so.
    pub fn tls_plan(&self) -> Option<(&Loaded, &TlsPlan)> {
        let mut plans = self.plugins.iter();
        plans.find_map(|loaded| Some((loaded, loaded.plugin.tls_plan()?)))
    }

    /// Whether a plugin wants connections from this address to begin with a PROXY header.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        self.plugins.iter().any(|loaded| loaded.plugin.is_proxy(peer))
    }

    /// Whether any plugin serves a hook.
    pub fn serves(&self, hook: Hook) -> bool {
        !self.takers[hook as usize].is_empty()
    }

    /// Whether any plugin that serves a hook can let somebody in by a mechanism of it. One that panics cannot.
    pub fn offers(&self, s: &Session, hook: Hook, mechanism: &str) -> bool {
        self.takers(hook).any(|loaded| {
            let offers = AssertUnwindSafe(|| loaded.plugin.offers(s, mechanism));
            catch_unwind(offers).unwrap_or_else(|panic| {
                let words = panic_words(&*panic);
                s.log(
                    Level::Crit,
                    format_args!("FATAL PLUGIN ERROR [{}]: {words}", loaded.log_name),
                );
                false
            })
        })
    }

    fn takers(&self, hook: Hook) -> impl Iterator<Item = &Loaded> {
        self.takers[hook as usize]
            .iter()
            .map(|number| &self.plugins[usize::from(*number)])
    }

    /// Asks the plugins until one has an opinion; `Declined` with the last one's words if none has.
    pub fn ask(&self, s: &mut Session, event: Event<'_>) -> Decision {
        self.run(s, &event, |decision| decision.verdict != Verdict::Declined)
    }

    /// Tells all observers; what they answer does not matter.
    pub fn tell(&self, s: &mut Session, event: Event<'_>) {
        self.run(s, &event, |_| false);
    }

    fn run(&self, s: &mut Session, event: &Event<'_>, enough: impl Fn(&Decision) -> bool) -> Decision {
        let hook = event.hook();
        let mut last = Decision::bare(Verdict::Declined);
        if !self.serves(hook) {
            return last;
        }
        let outer = std::mem::take(&mut s.context);
        let mut clock = None;
        let mut failed = false;
        for (at, loaded) in self.takers(hook).enumerate() {
            last = self.call(s, event, (at, loaded), &mut clock);
            self.tell_of(s, loaded, &last);
            if enough(&last) {
                failed = last.failed;
                break;
            }
            failed |= last.failed;
        }
        last.failed = failed;
        if let Some(watch) = &s.watch {
            watch.rests();
        }
        s.context = outer;
        last
    }

    /// Calls the taker `at` of a hook, watched. The clock holds the end of the last call, which is also the beginning
    /// of this one.
    fn call(
        &self,
        s: &mut Session,
        event: &Event<'_>,
        (at, loaded): (usize, &Loaded),
        clock: &mut Option<Instant>,
    ) -> Decision {
        let mark = self.marks[event.hook() as usize].get(at).copied().unwrap_or(0);
        let began = s.watch.as_ref().map(|watch| {
            let began = clock.unwrap_or_else(Instant::now);
            watch.begins(mark, began);
            began
        });
        s.context.mark = mark;
        let (decision, ruling) = loaded.call(s, event);
        if let (Some(watch), Some(began)) = (&s.watch, began) {
            let ended = Instant::now();
            watch.ended(mark, ruling, ended.saturating_duration_since(began));
            *clock = Some(ended);
        }
        decision
    }

    /// Runs the hooks deny and ok after a plugin's answer (catalogue 1.2).
    fn tell_of(&self, s: &mut Session, about: &Loaded, decision: &Decision) {
        let (plugin, verdict, text) = (&*about.log_name, decision.verdict, &*decision.text);
        let event = match verdict.denies() {
            true => Event::Deny { plugin, verdict, text },
            false => Event::Ok { plugin, verdict, text },
        };
        let mut clock = None;
        for (at, loaded) in self.takers(event.hook()).enumerate() {
            self.call(s, &event, (at, loaded), &mut clock);
        }
    }
}

impl Loaded {
    /// The word after the last argument of this name.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().rposition(|word| word == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    /// Calls the plugin and turns a failure into what `on_error` says.
    fn call(&self, s: &mut Session, event: &Event<'_>) -> (Decision, Ruling) {
        s.context.hook = Some(event.hook().name());
        s.context.plugin = Some(self.log_name.clone());
        s.context.loglevel = self.loglevel;
        let answer = catch_unwind(AssertUnwindSafe(|| self.plugin.on(event, s)));
        let (failure, ruling) = match answer {
            Ok(Ok(mut decision)) => {
                let ruling = match decision.failed {
                    true => Ruling::Error,
                    false => ruling(decision.verdict),
                };
                decision.failed &= self.on_error == OnError::Defer;
                return (decision, ruling);
            }
            Ok(Err(failure)) => (failure, Ruling::Error),
            Err(panic) => (Failure::new(panic_words(&*panic)), Ruling::Panic),
        };
        // the words go where the operator looks, whatever loglevel the plugin has
        s.context = Context {
            hook: Some(event.hook().name()),
            ..Context::default()
        };
        s.log(
            Level::Crit,
            format_args!("FATAL PLUGIN ERROR [{}]: {failure}", self.log_name),
        );
        let decision = match self.on_error {
            OnError::Defer if event.hook().decides() => Decision {
                text: Cow::Borrowed("temporary failure, please try again later"),
                status: Some(crate::mail::Status(4, 3, 0)),
                failed: true,
                ..Decision::bare(Verdict::DenySoft)
            },
            _ => Decision::bare(Verdict::Declined),
        };
        (decision, ruling)
    }
}

/// What a verdict counts as.
fn ruling(verdict: Verdict) -> Ruling {
    match verdict {
        Verdict::Declined => Ruling::Decline,
        Verdict::Ok | Verdict::Done => Ruling::Accept,
        refusal if refusal.is_soft() => Ruling::Soft,
        _ => Ruling::Deny,
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let string = panic.downcast_ref::<String>().map(String::as_str);
    format!("panic: {}", text.or(string).unwrap_or("no words"))
}

impl SideHooks for Chain {
    fn has_config(&self) -> bool {
        self.serves(Hook::config)
    }

    fn config(&self, name: &str) -> Result<Option<Lines>, Fault> {
        self.aside(Hook::config, &Aside::Config { name })
    }

    fn user_config(&self, who: &Address, name: &str) -> Result<Option<Lines>, Fault> {
        self.aside(Hook::user_config, &Aside::UserConfig { who, name })
    }

    fn logs_up_to(&self) -> Option<Level> {
        self.logs_up_to
    }

    fn log(&self, record: &Record<'_>) {
        for loaded in self.takers(Hook::logging) {
            // a logging plugin never logs its own lines
            if record.plugin != Some(&loaded.log_name) {
                let _ = loaded.side(&Aside::Logging { record });
            }
        }
    }
}

impl Chain {
    fn aside(&self, hook: Hook, aside: &Aside<'_>) -> Result<Option<Lines>, Fault> {
        for loaded in self.takers(hook) {
            match loaded.side(aside) {
                Ok(None) => {}
                Err(_) if loaded.on_error == OnError::Skip => {}
                answer => return answer,
            }
        }
        Ok(None)
    }
}

impl Loaded {
    /// Asks a hook without a session; a failure is told on stderr (catalogue 1.2).
    fn side(&self, aside: &Aside<'_>) -> Result<Option<Lines>, Fault> {
        let answer = catch_unwind(AssertUnwindSafe(|| self.plugin.aside(aside)));
        let answer = answer.unwrap_or_else(|panic| Err(Failure::new(panic_words(&*panic))));
        answer.map_err(|failure| {
            let _ = writeln!(io::stderr(), "FATAL PLUGIN ERROR [{}]: {failure}", self.log_name);
            Fault::error(format!("{}: {failure}", self.log_name))
        })
    }
}

#[cfg(test)]
mod tests;
