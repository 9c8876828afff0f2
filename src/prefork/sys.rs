//! The calls of the system that Rust cannot prove safe: fork, the shared mapping, priorities,
//! descriptors and memory that nobody has told Rust of, the allocator.
//!
//! All `unsafe` of the project is in this file. Each block says why it holds.

#![allow(unsafe_code)]

use std::cell::Cell as LocalCell;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::{NonNull, null, null_mut};
use std::sync::OnceLock;

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{ForkResult, Pid, SysconfVar, fork as system_fork, sysconf};

use super::board::{Head, Row};
use super::counters::Cell;
use super::rates::{RateHead, RateSlot, Touched};
use super::seat::Seat;
use super::title::MemoryMap;

/// How many threads this process has, or 1 where `/proc` is not to be had.
pub(super) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count().max(1))
}

/// Lets threads that are made from now on share so many heaps. glibc would make 8 for each processor.
pub(super) fn share_heaps(most: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator, which takes its lock for it.
    unsafe {
        // what it says of success changes nothing
        libc::mallopt(libc::M_ARENA_MAX, most);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = most;
}

/// Gives back to the system what the heaps of this process keep in whole pages and nobody uses. (glibc by itself gives
/// back no more than the end of a heap.)
pub(super) fn give_back_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and the locks of the allocator, and touches only memory that nobody owns.
    unsafe {
        // whether there was anything to give back changes nothing
        libc::malloc_trim(0);
    }
}

/// Makes a copy of this process: the child's id in the parent, `None` in the child.
///
/// Refuses when there is a second thread: a lock that it held would stay locked in the child for ever.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    let threads = threads();
    if threads > 1 {
        return Err(io::Error::other(format!("{threads} threads where one is allowed")));
    }
    // SAFETY: the only danger of fork is what other threads hold at that moment, and there are none.
    match unsafe { system_fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// The descriptors from `first` on that this process was started with, each with its number; they are closed with the
/// programs that it will start.
pub(super) fn descriptors_from_outside(first: RawFd) -> Vec<(RawFd, OwnedFd)> {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = names.filter_map(|name| name.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<RawFd> = numbers.filter(|number| *number >= first).collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .filter_map(|number| {
            // SAFETY: F_GETFD and F_SETFD take numbers and touch no memory; a descriptor that is closed is an error.
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            // What this process has opened itself is closed at exec; what has come through exec cannot be.
            if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
                return None;
            }
            // SAFETY: as above.
            unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
            // SAFETY: it is open, and nobody owns it: std and the libraries open with O_CLOEXEC without exception. From
            // now on it has that flag, too, so that nobody is given it twice.
            Some((number, unsafe { OwnedFd::from_raw_fd(number) }))
        })
        .collect()
}

/// What may lie in memory that several processes write at once.
///
/// # Safety
/// The type consists of atomics alone, no pointers among them, and any bits are a value of it.
pub(super) unsafe trait AllAtomic: Sync {}

// SAFETY: the six are structs of AtomicU64 and AtomicU32, for which any bits are a value.
unsafe impl AllAtomic for Head {}
// SAFETY: as above.
unsafe impl AllAtomic for Row {}
// SAFETY: as above.
unsafe impl AllAtomic for Seat {}
// SAFETY: as above.
unsafe impl AllAtomic for RateHead {}
// SAFETY: as above.
unsafe impl AllAtomic for Touched {}
// SAFETY: as above.
unsafe impl AllAtomic for RateSlot {}
// SAFETY: as above.
unsafe impl AllAtomic for Cell {}

/// A slice in a file that is mapped, shared with every process that is forked afterwards or maps the file as well.
pub(super) struct Shared<T: AllAtomic> {
    start: NonNull<T>,
    len: usize,
}

impl<T: AllAtomic> Shared<T> {
    /// Maps `len` values of a file, which holds as many from `offset`, a multiple of the size of pages, and must not
    /// become shorter.
    pub(super) fn within(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
        let bytes = NonZeroUsize::new(len * size_of::<T>()).ok_or_else(wrong)?;
        if file.metadata()?.len() < offset + bytes.get() as u64 {
            return Err(wrong());
        }
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let offset = offset.try_into().map_err(io::Error::other)?;
        // SAFETY: no address is asked for, so that no other mapping can be hurt.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, file, offset) }?;
        Ok(Self {
            start: start.cast(),
            len,
        })
    }
}

impl<T: AllAtomic> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is page-aligned, len values long, lives as long as self, holds whatever others have
        // written, which AllAtomic makes valid, and all writing to it goes through atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: AllAtomic> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and no borrow of it outlives self.
        let _ = unsafe { munmap(self.start.cast(), self.len * size_of::<T>()) };
    }
}

// SAFETY: what it gives out are shared references to Sync values; the pointer itself never changes.
unsafe impl<T: AllAtomic> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: AllAtomic> Sync for Shared<T> {}

/// The signals of which a process dies by a fault of its own.
const FAULTS: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What runs before the death by a fault, and who dealt with each of the signals before.
struct Death {
    last: fn(),
    before: [libc::sigaction; FAULTS.len()],
}

static DEATH: OnceLock<Death> = OnceLock::new();

/// Lets `last` run when this process is about to die of a fault of its own; it dies as it would have done without.
/// `last` runs in a handler of signals, on the stack that Rust keeps for each thread for a stack that is full: it must
/// neither lock nor allocate. To be called once.
pub(super) fn before_death(last: fn()) {
    let before = FAULTS.map(|signal| {
        let mut before = MaybeUninit::zeroed();
        // SAFETY: asks for the present action; all zeros is one, too, so there is one whatever the call says.
        unsafe {
            libc::sigaction(signal, null(), before.as_mut_ptr());
            before.assume_init()
        }
    });
    if DEATH.set(Death { last, before }).is_err() {
        return;
    }
    for signal in FAULTS {
        // SAFETY: zero is a value of the struct; the handler has the form that SA_SIGINFO asks for and lives for ever.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = dying as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, null_mut());
        }
    }
}

extern "C" fn dying(signal: libc::c_int, about: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some(death) = DEATH.get() else { return };
    (death.last)();
    // SAFETY: the kernel has given us the description; sigaction and raise may be called in a handler.
    unsafe {
        let at = FAULTS.iter().position(|one| *one == signal);
        match at.and_then(|at| death.before.get(at)) {
            // The fault comes again when this returns, and who dealt with it before does so: Rust has words for a
            // stack that is full.
            Some(before) if (*about).si_code > 0 => {
                libc::sigaction(signal, before, null_mut());
            }
            // Someone has sent it, as abort does; it is held back until this returns.
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
    }
}

/// A descriptor that becomes readable when the process ends; none if there is no such process.
pub(super) fn watch_process(pid: u32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: takes two numbers and touches no memory of ours.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    match RawFd::try_from(number) {
        // SAFETY: the kernel has just made it, closed at exec, and nobody else knows of it.
        Ok(number) if number >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(number) })),
        _ => match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            e => Err(e),
        },
    }
}

thread_local! {
    /// The far end of this thread's stack; null as long as nothing of it is to be given back.
    static STACK_END: LocalCell<*mut libc::c_void> = const { LocalCell::new(null_mut()) };
}

/// From now on [`give_back_stack`] does so on this thread, which must not be the first of the process: that one's
/// stack has no fixed end.
pub(super) fn stack_may_shrink() {
    let mut about = MaybeUninit::uninit();
    let (mut end, mut size) = (null_mut(), 0);
    // SAFETY: the calls fill in what they are given the places of; the description is only looked at after it has been
    // made, and done away with once.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), about.as_mut_ptr()) != 0 {
            return;
        }
        let about = about.assume_init_mut();
        if libc::pthread_attr_getstack(about, &raw mut end, &raw mut size) == 0 {
            STACK_END.set(end);
        }
        libc::pthread_attr_destroy(about);
    }
}

/// Gives back the memory of this thread's stack that calls have used which are over. (glibc and the kernel never do
/// as long as the thread lives.)
#[inline(never)]
pub fn give_back_stack() {
    /// Room for this call, the system call, and what the compiler keeps below the stack pointer.
    const OURS: usize = 1024;
    let end = STACK_END.get();
    if end.is_null() {
        return;
    }
    let page = match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(page)) => page as usize,
        _ => return,
    };
    let here = (&raw const end).addr();
    let unused = (here - OURS) / page * page;
    if unused <= end.addr() {
        return;
    }
    // SAFETY: from the far end of this thread's stack to below all of its frames, this one included, lies nothing that
    // anybody will read; whoever writes there again finds zeros first. No borrow points there.
    unsafe { libc::madvise(end, unused - end.addr(), libc::MADV_DONTNEED) };
}

/// The nice value of this process, -20 (first) to 19 (last).
pub(super) fn niceness() -> i32 {
    // SAFETY: takes two numbers and touches no memory of ours.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets the nice value of this process.
pub(super) fn set_niceness(nice: i32) -> io::Result<()> {
    // SAFETY: takes three numbers and touches no memory of ours.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the heap of this process ends.
pub(super) fn end_of_heap() -> u64 {
    // SAFETY: an increment of nothing changes nothing.
    unsafe { libc::sbrk(0) }.addr() as u64
}

/// Tells the kernel where the parts of this process lie, its arguments for one (prctl(2), PR_SET_MM_MAP).
pub(super) fn set_memory_map(map: &MemoryMap) -> io::Result<()> {
    let (start, size) = (std::ptr::from_ref(map), size_of::<MemoryMap>());
    // SAFETY: the kernel only reads the map, checks it, and uses it for what /proc shows of this process.
    match unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, start, size, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `body` in a child process and ends it with the exit code that it returns.
///
/// Tests run on threads, so the body must do nothing but arithmetic on shared memory.
#[cfg(test)]
pub(super) fn fork_for_test(body: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the child takes no lock and allocates nothing before it ends itself.
    match unsafe { system_fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = body();
            // SAFETY: ends this process without running what others registered for its end.
            unsafe { libc::_exit(code) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of the mapping in which `address` lies that are in memory.
    fn resident(address: usize) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let ends = range.map(|(start, end)| [start, end].map(|end| usize::from_str_radix(end, 16)));
            match ends {
                Some([Ok(start), Ok(end)]) => inside = (start..end).contains(&address),
                _ if inside && line.starts_with("Rss:") => {
                    return line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
                }
                _ => {}
            }
        }
        panic!("no mapping holds {address:x}");
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn gives_back_what_is_free_between_what_is_in_use() {
        const BLOCK: usize = 2000;
        let mut blocks: Vec<Vec<u8>> = (0..32_000).map(|_| vec![1; BLOCK]).collect();
        let middle = blocks[blocks.len() / 2].as_ptr().addr();
        let full = resident(middle);
        // every hundredth stays, so that no heap becomes shorter
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 100 == 0
        });
        give_back_heaps();
        let left = resident(middle);
        assert!(left < full / 2, "{left} of {full} KiB");
        assert!(blocks.iter().all(|block| block.iter().all(|byte| *byte == 1)));
    }

    #[inline(never)]
    fn goes_deep() {
        let deep = std::hint::black_box([1u8; 200 * 1024]);
        assert_eq!(deep[100_000], 1);
    }

    #[test]
    fn gives_back_what_is_not_used_of_a_stack() {
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        let thread = thread.spawn(|| {
            let near = std::hint::black_box([7u8; 3000]);
            let at = (&raw const near).addr();
            goes_deep();
            give_back_stack();
            assert!(resident(at) > 200, "nobody has allowed it");
            stack_may_shrink();
            give_back_stack();
            assert!(resident(at) < 50, "{} KiB", resident(at));
            goes_deep();
            assert!(resident(at) > 200);
            assert_eq!(std::hint::black_box(near), [7; 3000]);
        });
        thread.unwrap().join().unwrap();
    }
}
