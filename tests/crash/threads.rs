//! What /proc tells of processes and their threads: how long they ran, and who has done something.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;

use nix::unistd::Pid;

use crate::process::eventually;

/// How often each thread of a process has gone to sleep, when all of them sleep.
fn sleeps(process: Pid) -> HashMap<Pid, u64> {
    let count = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        // one that has ended meanwhile has done nothing for us
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let sleeps = field("State:")?.starts_with('S');
        let count = sleeps
            .then(|| field("voluntary_ctxt_switches:")?.parse().ok())
            .flatten();
        Some((Pid::from_raw(number), count))
    };
    let found = RefCell::new(HashMap::new());
    eventually("all threads sleep", || {
        let entries = fs::read_dir(format!("/proc/{process}/task"))
            .expect("threads")
            .flatten();
        let all: Vec<(Pid, Option<u64>)> = entries.filter_map(count).collect();
        let asleep = all.iter().filter_map(|(thread, count)| Some((*thread, (*count)?)));
        *found.borrow_mut() = asleep.collect();
        found.borrow().len() == all.len()
    });
    found.into_inner()
}

/// The thread of a process that does something whenever this is done.
pub fn acting(process: Pid, mut act: impl FnMut()) -> Pid {
    let found = Cell::new(None);
    eventually("one thread has done something", || {
        let before = sleeps(process);
        act();
        let now = sleeps(process);
        let acted = |(thread, count): &(Pid, u64)| before.get(thread) != Some(count);
        let all: Vec<Pid> = now.into_iter().filter(acted).map(|(thread, _)| thread).collect();
        found.set(
            all.first()
                .copied()
                .filter(|thread| all.len() == 1 && *thread != process),
        );
        found.get().is_some()
    });
    found.get().expect("a thread")
}

/// Time that a process has had of the processor, in ticks of the clock.
pub fn ticks(process: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let times = fields.skip(11).take(2);
    times.filter_map(|field| field.parse::<u64>().ok()).sum()
}
