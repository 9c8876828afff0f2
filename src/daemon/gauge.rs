//! Gauges: what all workers have counted, by plugin and hook, in the counters of prefork.
//!
//! A plugin at a hook has a number, its mark, for as long as the master lives, whatever generations come and go; so
//! its totals go on over reloads. Latencies are kept in classes of powers of two of a microsecond.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::Level;
use crate::plugin::{Hook, Loaded};
use crate::prefork::{Counters, Fallen, Heritage, Keepsake, Notice, Rates};
use crate::session::services::Orders;
use crate::session::{Mark, Ruling, Stage, Tally};

/// Columns before those of the plugins: one for each tally, then the switches, which are in the row of nobody.
const FIRST: usize = 64;
/// The column of the log level that an operator has set: 0 for none, else one more than the level.
const LOGLEVEL: usize = FIRST - 1;
/// Classes of latency: below 1 µs, below 2 µs, 4 µs ... and the last without end (from 67 s).
pub(super) const CLASSES: usize = 28;
/// Columns of a plugin at a hook: rulings other than decline, sum and maximum in microseconds, the classes.
const WIDTH: usize = 40;
const SUM: usize = 6;
const MOST: usize = 7;
const CLASS: usize = 8;
/// In the row of nobody: the log level that an operator has set for the plugin, as in [`LOGLEVEL`].
const OWN_LEVEL: usize = CLASS + CLASSES;
/// Plugins at hooks that can be told apart; the rest is not counted.
const MARKS: usize = 1024;

/// The name under which the next master gets the marks.
const MARKS_KEPT: &str = "marks";

/// Messages over which workers have crashed that are kept in mind, and for how long.
const CRASHES: usize = 1024;
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// So many crashes make a message deadly.
const DEADLY: u32 = 2;

/// What a mark stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    /// The plugin's name in config/plugins, which others may share.
    name: Arc<str>,
    /// The plugin's name in the log.
    pub(super) plugin: Arc<str>,
    /// The hook.
    pub(super) hook: Hook,
}

/// All gauges.
pub(super) struct Gauge {
    pub(super) counters: Counters,
    /// The row of nobody.
    own_row: usize,
    marks: Mutex<Vec<Marked>>,
    /// Crashes by the fingerprint of the message that was being decided; it makes the fingerprints, too.
    pub(super) crashes: Rates,
}

/// What is known of a plugin at a hook.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    /// How often it ruled what, in the order of [`Ruling::ALL`].
    pub(super) rulings: [u64; 6],
    /// Time spent, µs.
    pub(super) sum: u64,
    /// The longest call, µs.
    pub(super) most: u64,
    /// Calls by class of latency.
    pub(super) classes: [u64; CLASSES],
}

impl Gauge {
    /// To be made before the first fork, for so many workers. Goes on with what a former master has counted, if this
    /// program understands it; what is to be kept for the next one comes with it.
    pub(super) fn kept(workers: usize, heritage: Option<&mut Heritage>) -> io::Result<(Gauge, [Keepsake; 2])> {
        let mut heritage = heritage;
        let mut left = |key| heritage.as_mut().and_then(|heritage| heritage.kept(key));
        let marks = left(MARKS_KEPT).and_then(|left| read(&left.words().ok()?));
        // without the marks nobody could tell what was counted
        let counted = left("counters").filter(|_| marks.is_some());
        let (rows, columns) = (workers + 1, FIRST + MARKS * WIDTH);
        let (counters, kept) = Counters::kept(rows, columns, meaning_of_columns(), counted)?;
        let (crashes, kept_too) = Rates::kept("crashes", CRASHES, left("crashes"))?;
        let gauge = Gauge {
            own_row: workers,
            marks: Mutex::new(marks.filter(|_| !kept.is_new()).unwrap_or_default()),
            counters,
            crashes,
        };
        Ok((gauge, [kept, kept_too]))
    }

    /// The same without heirs.
    #[cfg(test)]
    fn new(workers: usize) -> io::Result<Gauge> {
        Ok(Gauge::kept(workers, None)?.0)
    }

    /// The marks as words for the next master.
    pub(super) fn bequest(&self) -> (&'static str, Vec<u8>) {
        let line = |one: &Marked| format!("{}\t{}\t{}\n", one.name, one.plugin, one.hook.name());
        (
            MARKS_KEPT,
            self.marks().iter().map(line).collect::<String>().into_bytes(),
        )
    }

    fn marks(&self) -> MutexGuard<'_, Vec<Marked>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mark of a plugin at a hook; 0, which is not counted, if there are too many.
    pub(super) fn mark(&self, loaded: &Loaded, hook: Hook) -> Mark {
        let mut marks = self.marks();
        let is = |one: &Marked| one.hook == hook && one.plugin == loaded.log_name;
        let at = marks.iter().position(is).unwrap_or_else(|| {
            if marks.len() < MARKS {
                let (name, plugin) = (Arc::from(loaded.name), loaded.log_name.clone());
                // an order for a plugin holds for hooks that it did not serve yet
                let other = marks.iter().position(|one| one.plugin == plugin);
                let level = other.and_then(|at| self.level_in(own_level(at)));
                self.set_level_in(own_level(marks.len()), level);
                marks.push(Marked { name, plugin, hook });
            }
            marks.len() - 1
        });
        match marks.get(at).is_some_and(is) {
            true => at as Mark + 1,
            false => 0,
        }
    }

    /// What a mark stands for.
    pub(super) fn marked(&self, mark: Mark) -> Option<Marked> {
        self.marks().get(usize::from(mark).checked_sub(1)?).cloned()
    }

    /// All marks that were ever given, with what was counted of them.
    pub(super) fn calls(&self) -> Vec<(Marked, Calls)> {
        let marks = self.marks();
        let counted = |(at, marked): (usize, &Marked)| (marked.clone(), self.calls_of(at));
        marks.iter().enumerate().map(counted).collect()
    }

    fn calls_of(&self, at: usize) -> Calls {
        let first = FIRST + at * WIDTH;
        let mut calls = Calls {
            sum: self.counters.sum(first + SUM),
            most: self.counters.most(first + MOST),
            ..Calls::default()
        };
        for (number, class) in calls.classes.iter_mut().enumerate() {
            *class = self.counters.sum(first + CLASS + number);
        }
        for ruling in &Ruling::ALL[1..] {
            calls.rulings[*ruling as usize] = self.counters.sum(first + *ruling as usize);
        }
        // the usual case is not counted by itself
        calls.rulings[0] = calls.count().saturating_sub(calls.rulings.iter().sum());
        calls
    }

    /// Where a session counts: workers that are there at the same time may share a row, if others of them leave.
    pub(super) fn row(&self, notice: &Notice) -> usize {
        notice.row() % self.own_row.max(1)
    }

    /// The sum of a tally.
    pub(super) fn tally(&self, what: Tally) -> u64 {
        self.counters.sum(what as usize)
    }

    /// Takes note of a crash; says what ran, and over which message.
    pub(super) fn bury(&self, fallen: &Fallen) -> String {
        let stage = usize::from(fallen.stage).checked_sub(1);
        let mut words = match stage.and_then(|at| Stage::ALL.get(at)) {
            Some(stage) => format!(", at {}", stage.word()),
            None => String::new(),
        };
        if let Some(marked) = self.marked(fallen.task) {
            words += &format!(", in {} at hook {}", marked.plugin, marked.hook.name());
        }
        if fallen.message != 0 {
            self.crashes.count((0, fallen.message.into()), 1, REMEMBERED);
            words += &format!(", message {:016x}", fallen.message);
        }
        words
    }

    /// Whether workers have crashed over a message.
    pub(super) fn is_deadly(&self, fingerprint: u64) -> bool {
        self.crashes.level((0, fingerprint.into()), REMEMBERED) >= DEADLY
    }

    /// The log level that an operator has set, for all workers.
    pub(super) fn loglevel(&self) -> Option<Level> {
        self.level_in(LOGLEVEL)
    }

    /// Sets such a level, or forgets it and those of plugins.
    pub(super) fn set_loglevel(&self, level: Option<Level>) {
        self.set_level_in(LOGLEVEL, level);
        if level.is_none() {
            (0..self.marks().len()).for_each(|at| self.set_level_in(own_level(at), None));
        }
    }

    /// Sets or forgets the level of a plugin by its name in the log or in config/plugins; false if there is none.
    pub(super) fn set_loglevel_of(&self, plugin: &str, level: Option<Level>) -> bool {
        let marks = self.marks();
        let is = |one: &Marked| one.plugin.eq_ignore_ascii_case(plugin) || one.name.eq_ignore_ascii_case(plugin);
        let found = marks.iter().enumerate().filter(|(_, one)| is(one));
        found.fold(false, |_, (at, _)| {
            self.set_level_in(own_level(at), level);
            true
        })
    }

    /// The plugins with a level of their own.
    pub(super) fn loglevels(&self) -> BTreeMap<Arc<str>, Level> {
        let marks = self.marks();
        let set = |(at, one): (usize, &Marked)| Some((one.plugin.clone(), self.level_in(own_level(at))?));
        marks.iter().enumerate().filter_map(set).collect()
    }

    fn level_in(&self, column: usize) -> Option<Level> {
        let number = self.counters.get(self.own_row, column);
        (number > 0).then(|| Level::from_number(number as i64 - 1))
    }

    fn set_level_in(&self, column: usize, level: Option<Level>) {
        let number = level.map_or(0, |level| level as u64 + 1);
        self.counters.set(self.own_row, column, number);
    }

    pub(super) fn count_call(&self, row: usize, mark: Mark, ruling: Ruling, took: Duration) {
        let Some(at) = usize::from(mark).checked_sub(1) else {
            return;
        };
        let first = FIRST + at * WIDTH;
        let micros = took.as_micros() as u64;
        self.counters.add(row, first + SUM, micros);
        self.counters.add(row, first + CLASS + class(micros), 1);
        self.counters.raise(row, first + MOST, micros);
        if ruling != Ruling::Decline {
            self.counters.add(row, first + ruling as usize, 1);
        }
    }
}

impl Orders for Gauge {
    fn level(&self, mark: Mark) -> Option<Level> {
        let own = usize::from(mark)
            .checked_sub(1)
            .and_then(|at| self.level_in(own_level(at)));
        own.or_else(|| self.loglevel())
    }
}

/// The column of a plugin's own log level.
fn own_level(at: usize) -> usize {
    FIRST + at * WIDTH + OWN_LEVEL
}

/// The marks that a former master has given; none if one of them means nothing here.
fn read(words: &[u8]) -> Option<Vec<Marked>> {
    let mark = |line: &str| {
        let mut words = line.split('\t');
        let (name, plugin) = (words.next()?.into(), words.next()?.into());
        let hook = words.next()?.parse().ok()?;
        Some(Marked { name, plugin, hook })
    };
    std::str::from_utf8(words).ok()?.lines().map(mark).collect()
}

/// Differs where columns mean something else.
fn meaning_of_columns() -> u64 {
    let mut hasher = DefaultHasher::new();
    let (tallies, rulings) = (
        Tally::ALL.iter().map(|one| one.word()),
        Ruling::ALL.iter().map(|one| one.word()),
    );
    tallies.chain(rulings).for_each(|word| word.hash(&mut hasher));
    [FIRST, LOGLEVEL, WIDTH, SUM, MOST, CLASS, CLASSES, OWN_LEVEL].hash(&mut hasher);
    hasher.finish()
}

/// The class of a latency.
fn class(micros: u64) -> usize {
    (64 - micros.leading_zeros() as usize).min(CLASSES - 1)
}

/// The end of a class, in microseconds; what lies in it is less.
pub(super) fn class_end(class: usize) -> u64 {
    1 << class
}

impl Calls {
    /// All calls.
    pub(super) fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The time that so many of a thousand calls took less than, in microseconds; never more than the longest.
    pub(super) fn quantile(&self, thousandths: u64) -> u64 {
        let wanted = (self.count() * thousandths).div_ceil(1000);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let found = self.classes.iter().position(reaches);
        found.map_or(0, class_end).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(micros: &[u64]) -> Calls {
        let gauge = Gauge::new(2).expect("memory");
        for (number, time) in micros.iter().enumerate() {
            gauge.count_call(number % 2, 1, Ruling::Decline, Duration::from_micros(*time));
        }
        gauge.calls_of(0)
    }

    #[test]
    fn latencies_fall_into_classes() {
        assert_eq!([0, 1, 2, 3, 4, 1023, 1024].map(class), [0, 1, 2, 2, 3, 10, 11]);
        assert_eq!(class(u64::MAX), CLASSES - 1);
        assert!(
            [0, 1, 2, 3, 4, 1023, 1024]
                .iter()
                .all(|time| *time < class_end(class(*time)))
        );
    }

    #[test]
    fn quantiles_tell_the_end_of_their_class_and_never_more_than_the_longest() {
        let mut times = vec![3; 98];
        times.extend([700, 900]);
        let calls = took(&times);
        assert_eq!((calls.count(), calls.sum, calls.most), (100, 98 * 3 + 1600, 900));
        assert_eq!([500, 980, 990, 1000].map(|part| calls.quantile(part)), [4, 4, 900, 900]);
        assert_eq!(Calls::default().quantile(990), 0);
    }

    #[test]
    fn what_is_not_counted_by_itself_is_the_rest() {
        let gauge = Gauge::new(2).expect("memory");
        let short = Duration::from_micros(5);
        for ruling in [Ruling::Decline, Ruling::Decline, Ruling::Deny, Ruling::Panic] {
            gauge.count_call(1, 3, ruling, short);
        }
        gauge.count_call(1, 0, Ruling::Deny, short);
        assert_eq!(gauge.calls_of(2).rulings, [2, 0, 1, 0, 0, 1]);
        assert_eq!(gauge.calls_of(0).count(), 0);
    }

    #[test]
    fn marks_survive_the_journey() {
        let gauge = Gauge::new(1).expect("memory");
        let mark = |plugin: &str, hook| Marked {
            name: "rcpt_ok".into(),
            plugin: plugin.into(),
            hook,
        };
        *gauge.marks() = vec![mark("rcpt_ok", Hook::rcpt), mark("rcpt_ok:1", Hook::connect)];
        let (key, words) = gauge.bequest();
        assert_eq!((key, read(&words).as_ref()), ("marks", Some(&*gauge.marks())));
        assert_eq!(read(b"a\tb\tno_such_hook\n"), None);
        assert_eq!(read(b""), Some(Vec::new()));
    }

    #[test]
    fn an_operators_level_holds_until_it_is_forgotten() {
        let gauge = Gauge::new(1).expect("memory");
        assert_eq!(gauge.loglevel(), None);
        gauge.set_loglevel(Some(Level::Emerg));
        assert_eq!(gauge.loglevel(), Some(Level::Emerg));
        gauge.set_loglevel(None);
        assert_eq!(gauge.loglevel(), None);
    }

    #[test]
    fn all_tallies_have_room() {
        assert!(Tally::ALL.len() < LOGLEVEL && Ruling::ALL.len() <= SUM && OWN_LEVEL < WIDTH);
        assert!(Stage::ALL.len() < 255);
    }
}
