//! How often something has happened lately, for all workers of the machine, in shared memory.
//!
//! A fixed table of slots, found by a keyed hash, each a window that slides: the events of the present window, and
//! of the one before as far as it still reaches into the time that is looked back on. A slot that nobody has used
//! for two windows may be taken by another key. There are no locks: an event is one compare-and-swap, so a limit is
//! exact however many workers count at the same moment.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::keepsake::{Keepsake, Left, keep, moment, sign_of_hashes};
use super::sys::Shared;

/// Slots that a key may lie in; more neighbours than that, and the table counts as full.
const NEIGHBOURS: usize = 32;
/// The most that one window can hold.
pub const MOST: u32 = 0xffff;

/// What all who use a table have to know.
#[derive(Default)]
#[repr(C)]
pub(super) struct RateHead {
    /// When it was made.
    made: AtomicU64,
    /// What nobody outside knows, so that nobody can choose addresses that meet in a few slots.
    secret: [AtomicU64; 2],
}

/// One key's window.
#[derive(Default)]
#[repr(C)]
pub(super) struct RateSlot {
    /// The hash of the key; 0 is free.
    key: AtomicU64,
    /// See [`Window`].
    window: AtomicU64,
    /// Milliseconds since the table was made after which nothing in the window counts any more.
    stale: AtomicU64,
    /// The key itself, for those who look: its parts, which only count if their hash is that above.
    name: [AtomicU64; 3],
}

/// Which of so many slots have ever been used, a bit for each [`BLOCK`], so that nobody who looks makes the kernel
/// provide memory for the others.
#[derive(Default)]
#[repr(transparent)]
pub(super) struct Touched(AtomicU64);

/// Slots of which one that is used makes all be looked at.
const BLOCK: usize = 64;

/// A rate that is not to be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So many events, at most [`MOST`].
    pub events: u32,
    /// Within so long; at least a millisecond.
    pub within: Duration,
}

/// What came of counting an event against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is within the limit, and counted.
    Within,
    /// It would exceed the limit, and is not counted.
    Exceeded,
    /// The table is full of other keys; the event is let pass uncounted.
    Full,
}

/// The table.
pub struct Rates {
    slots: Shared<RateSlot>,
    touched: Shared<Touched>,
    secret: [u64; 2],
    made: Instant,
}

/// The content of a slot's window: a tag of the key, so that a late writer cannot hurt the slot's next owner, the
/// number of the window, and the events of the one before and of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    tag: u16,
    number: u16,
    before: u16,
    now: u16,
}

impl Window {
    fn of(word: u64) -> Window {
        let part = |at: u32| (word >> at) as u16;
        Window {
            tag: part(48),
            number: part(32),
            before: part(16),
            now: part(0),
        }
    }

    fn word(self) -> u64 {
        u64::from(self.tag) << 48 | u64::from(self.number) << 32 | u64::from(self.before) << 16 | u64::from(self.now)
    }

    /// The same window seen from window `number` of key `tag`.
    fn turned(self, tag: u16, number: u16) -> Window {
        let (before, now) = match number.wrapping_sub(self.number) {
            _ if self.tag != tag => (0, 0),
            0 => (self.before, self.now),
            1 => (self.now, 0),
            _ => (0, 0),
        };
        Window {
            tag,
            number,
            before,
            now,
        }
    }

    /// Events in the time looked back on, when `passed` of `whole` of this window has passed; rounded up.
    fn events(self, passed: u64, whole: u64) -> u64 {
        u64::from(self.now) + (u64::from(self.before) * (whole - passed.min(whole))).div_ceil(whole)
    }
}

impl Rates {
    /// The table that a former master has left, if it is for as many keys; else an empty one: for so many keys at a
    /// time, 48 bytes each, of which only the used ones take memory.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn kept(key: &'static str, keys: usize, left: Option<Left>) -> io::Result<(Rates, Keepsake)> {
        let slots = keys.max(NEIGHBOURS);
        keep(key, format!("2-{slots}-{:x}", sign_of_hashes()), left, &|sheet| {
            let head = sheet.part::<RateHead>(1)?;
            let secret = head[0].secret.each_ref().map(|cell| {
                let fresh = RandomState::new().hash_one(0) | 1;
                cell.compare_exchange(0, fresh, SeqCst, SeqCst).err().unwrap_or(fresh)
            });
            Ok(Rates {
                slots: sheet.part(slots)?,
                touched: sheet.part(slots / (BLOCK * 64) + 1)?,
                secret,
                made: moment(&head[0].made)?,
            })
        })
    }

    /// An empty table, for nobody after this master.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(keys: usize) -> io::Result<Rates> {
        Ok(Rates::kept("rates", keys, None)?.0)
    }

    /// Makes hashes that nobody outside can foretell, the same for all who use this table.
    pub fn hasher(&self) -> impl Hasher + use<> {
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        hasher
    }

    /// Counts `events` of `key` if the limit allows them.
    pub fn admit(&self, key: (u8, u128), events: u32, limit: Limit) -> Counted {
        self.admit_at(key, events, limit, self.now())
    }

    /// Counts `events` of `key`, whatever there were before.
    pub fn count(&self, key: (u8, u128), events: u32, within: Duration) {
        let endless = Limit {
            events: u32::MAX,
            within,
        };
        self.admit_at(key, events, endless, self.now());
    }

    /// How many events of `key` there were in the time before now.
    pub fn level(&self, key: (u8, u128), within: Duration) -> u32 {
        let (number, passed, whole) = position(self.now(), within);
        let hash = self.hash(key);
        let slot = self.neighbours(hash).find(|slot| slot.key.load(SeqCst) == hash);
        let window = slot.map(|slot| Window::of(slot.window.load(SeqCst)).turned(tag(hash), number));
        window.map_or(0, |window| window.events(passed, whole) as u32)
    }

    /// Keys that are in use now.
    pub fn used(&self) -> usize {
        let now = self.now();
        let used = |slot: &&RateSlot| slot.key.load(SeqCst) != 0 && slot.stale.load(SeqCst) > now;
        self.slots.iter().filter(used).count()
    }

    /// The keys of this kind with most events in the time before now, so many at most, the greatest first.
    pub fn heaviest(&self, kind: u8, within: Duration, most: usize) -> Vec<(u128, u32)> {
        let (number, passed, whole) = position(self.now(), within);
        let seen = |slot: &RateSlot| {
            let [own, high, low] = slot.name.each_ref().map(|part| part.load(SeqCst));
            let rest = u128::from(high) << 64 | u128::from(low);
            let hash = slot.key.load(SeqCst);
            if own != u64::from(kind) || self.hash((kind, rest)) != hash {
                return None;
            }
            let window = Window::of(slot.window.load(SeqCst)).turned(tag(hash), number);
            Some((rest, window.events(passed, whole) as u32)).filter(|(_, events)| *events > 0)
        };
        let used = self.slots.chunks(BLOCK).enumerate().filter(|(block, _)| {
            let bits = self.touched[block / 64].0.load(SeqCst);
            bits >> (block % 64) & 1 == 1
        });
        let mut found: Vec<_> = used.flat_map(|(_, block)| block).filter_map(seen).collect();
        found.sort_unstable_by_key(|(rest, events)| (std::cmp::Reverse(*events), *rest));
        found.truncate(most);
        found
    }

    /// Takes note that a slot is used.
    fn touch(&self, slot: &RateSlot) {
        let all = self.slots.as_ptr_range().start.addr();
        let block = (std::ptr::from_ref(slot).addr() - all) / size_of::<RateSlot>() / BLOCK;
        self.touched[block / 64].0.fetch_or(1 << (block % 64), SeqCst);
    }

    fn now(&self) -> u64 {
        self.made.elapsed().as_millis() as u64
    }

    fn hash(&self, key: (u8, u128)) -> u64 {
        let mut hasher = self.hasher();
        key.hash(&mut hasher);
        hasher.finish().max(1)
    }

    fn neighbours(&self, hash: u64) -> impl Iterator<Item = &RateSlot> {
        let first = hash as usize % self.slots.len();
        (0..NEIGHBOURS).map(move |step| &self.slots[(first + step) % self.slots.len()])
    }

    fn admit_at(&self, key: (u8, u128), events: u32, limit: Limit, now: u64) -> Counted {
        let hash = self.hash(key);
        let (number, passed, whole) = position(now, limit.within);
        let Some(slot) = self.slot(hash, key, now) else {
            return Counted::Full;
        };
        let mut word = slot.window.load(SeqCst);
        loop {
            let window = Window::of(word).turned(tag(hash), number);
            if window.events(passed, whole) + u64::from(events) > u64::from(limit.events) {
                return Counted::Exceeded;
            }
            let more = u32::from(window.now).saturating_add(events).min(MOST) as u16;
            let next = Window { now: more, ..window }.word();
            match slot.window.compare_exchange(word, next, SeqCst, SeqCst) {
                Ok(_) => {
                    slot.stale.fetch_max(now - passed + 2 * whole, SeqCst);
                    return Counted::Within;
                }
                Err(other) => word = other,
            }
        }
    }

    /// The key's slot, or a free or stale one that is now the key's.
    fn slot(&self, hash: u64, (kind, rest): (u8, u128), now: u64) -> Option<&RateSlot> {
        if let Some(own) = self.neighbours(hash).find(|slot| slot.key.load(SeqCst) == hash) {
            return Some(own);
        }
        for slot in self.neighbours(hash) {
            let key = slot.key.load(SeqCst);
            if key != 0 && slot.stale.load(SeqCst) > now {
                continue;
            }
            match slot.key.compare_exchange(key, hash, SeqCst, SeqCst) {
                Ok(_) => {
                    let parts = [kind.into(), (rest >> 64) as u64, rest as u64];
                    slot.name
                        .iter()
                        .zip(parts)
                        .for_each(|(cell, part)| cell.store(part, SeqCst));
                    self.touch(slot);
                    return Some(slot);
                }
                // another worker was faster, perhaps for the same key
                Err(taken) if taken == hash => return Some(slot),
                Err(_) => {}
            }
        }
        None
    }
}

fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16 | 1
}

/// The number of the window, and how much of it has passed, in milliseconds.
fn position(now: u64, within: Duration) -> (u16, u64, u64) {
    let whole = (within.as_millis() as u64).max(1);
    ((now / whole) as u16, now % whole, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    const MINUTE: Duration = Duration::from_secs(60);
    const KEY: (u8, u128) = (1, 0x7f00_0001);

    fn limit(events: u32) -> Limit {
        Limit { events, within: MINUTE }
    }

    #[test]
    fn a_limit_holds_within_its_window_and_slides() {
        let rates = Rates::new(64).expect("memory");
        for _ in 0..3 {
            assert_eq!(rates.admit_at(KEY, 1, limit(3), 1_000), Counted::Within);
        }
        assert_eq!(rates.admit_at(KEY, 1, limit(3), 59_999), Counted::Exceeded);
        assert_eq!(rates.admit_at((2, KEY.1), 1, limit(3), 1_000), Counted::Within);
        // at the start of the next window the three still count, 40 s later one of them, and in the end none
        assert_eq!(rates.admit_at(KEY, 1, limit(3), 60_000), Counted::Exceeded);
        assert_eq!(rates.admit_at(KEY, 1, limit(3), 100_000), Counted::Within);
        assert_eq!(rates.admit_at(KEY, 1, limit(3), 100_000), Counted::Within);
        assert_eq!(rates.admit_at(KEY, 1, limit(3), 100_000), Counted::Exceeded);
        assert_eq!(rates.admit_at(KEY, 3, limit(3), 300_000), Counted::Within);
    }

    #[test]
    fn events_are_counted_beyond_a_limit_too() {
        let rates = Rates::new(64).expect("memory");
        rates.count(KEY, 40, MINUTE);
        rates.count(KEY, 2, MINUTE);
        assert_eq!(rates.level(KEY, MINUTE), 42);
        assert_eq!(rates.admit(KEY, 1, limit(42)), Counted::Exceeded);
        assert_eq!(rates.level((9, 9), MINUTE), 0);
        assert_eq!(rates.used(), 1);
    }

    #[test]
    fn the_heaviest_are_known() {
        let rates = Rates::new(5000).expect("memory");
        for network in 1..=40u128 {
            rates.count((3, network << 80), network as u32, MINUTE);
            rates.count((4, network), 1, MINUTE);
        }
        assert_eq!(rates.heaviest(3, MINUTE, 2), [(40 << 80, 40), (39 << 80, 39)]);
        assert_eq!(rates.heaviest(4, MINUTE, 99).len(), 40);
        assert_eq!(rates.heaviest(5, MINUTE, 9), []);
    }

    #[test]
    fn stale_keys_make_room_and_fresh_ones_do_not() {
        let rates = Rates::new(NEIGHBOURS).expect("memory");
        for key in 0..NEIGHBOURS as u128 {
            assert_eq!(rates.admit_at((1, key), 1, limit(5), 0), Counted::Within);
        }
        assert_eq!(rates.admit_at((1, 999), 1, limit(5), 0), Counted::Full);
        assert_eq!(rates.admit_at((1, 999), 1, limit(1), 120_000), Counted::Within);
        assert_eq!(rates.admit_at((1, 999), 1, limit(1), 120_000), Counted::Exceeded);
    }

    #[test]
    fn many_processes_never_pass_a_limit_and_reach_it() {
        let rates = Rates::new(64).expect("memory");
        let long = Limit {
            events: 100,
            within: Duration::from_secs(3600),
        };
        let children: Vec<_> = (0..8)
            .map(|_| {
                super::super::sys::fork_for_test(|| {
                    (0..40)
                        .filter(|_| rates.admit_at(KEY, 1, long, 1) == Counted::Within)
                        .count() as i32
                })
            })
            .collect();
        let admitted: i32 = children
            .into_iter()
            .map(|child| match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, count)) => count,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(admitted, 100);
    }
}
