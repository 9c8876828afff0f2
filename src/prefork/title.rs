//! The command line that `ps` and `top` show, made to say what a process does now.

use std::fmt::{Arguments, Write};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::sys;

/// The longest title, in bytes, and the zero that ends it.
const ROOM: usize = 96;

/// Where the kernel looks for the title, if this process has one.
static TITLE: OnceLock<&'static [AtomicU8]> = OnceLock::new();

/// Where the parts of a process lie in its memory, as prctl(2) wants it for PR_SET_MM_MAP.
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// From now on this process, and those it forks, can have titles; where the kernel cannot do that (it needs
/// CONFIG_CHECKPOINT_RESTORE), they go without.
pub(super) fn begin() -> io::Result<()> {
    if has_title() {
        return Ok(());
    }
    // The kernel reads it as long as the process lives.
    let room: &'static [AtomicU8] = Box::leak((0..ROOM).map(|_| AtomicU8::new(0)).collect());
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let map = moved(&stat, sys::end_of_heap(), room.as_ptr().addr() as u64);
    sys::set_memory_map(&map.ok_or(io::ErrorKind::InvalidData)?)?;
    let _ = TITLE.set(room);
    Ok(())
}

/// Whether [`title`] has an effect.
pub(super) fn has_title() -> bool {
    TITLE.get().is_some()
}

/// Names this process, if processes are named; costs next to nothing if they are not.
pub fn title(words: Arguments<'_>) {
    if let Some(room) = TITLE.get() {
        let mut pen = Pen { room, at: 0 };
        // Too long a title is cut off.
        let _ = pen.write_fmt(words);
        room[pen.at..].iter().for_each(|byte| byte.store(0, Relaxed));
    }
}

struct Pen {
    room: &'static [AtomicU8],
    at: usize,
}

impl Write for Pen {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            if self.at + 1 >= self.room.len() {
                return Err(std::fmt::Error);
            }
            self.room[self.at].store(byte, Relaxed);
            self.at += 1;
        }
        Ok(())
    }
}

/// What `/proc/self/stat` says, with the arguments at another place.
fn moved(stat: &str, brk: u64, arg_start: u64) -> Option<MemoryMap> {
    // The name of the program may hold anything; the third field begins behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        arg_start,
        arg_end: arg_start + ROOM as u64,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        // The program stays the same.
        exe_fd: u32::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_the_one_of_the_process_but_for_the_arguments() {
        let numbers: Vec<String> = (3..=52).map(|number: u32| number.to_string()).collect();
        let stat = format!("1 (a) b) {}\n", numbers.join(" "));
        let map = moved(&stat, 470, 1000).unwrap();
        assert_eq!((map.start_code, map.end_code, map.start_stack), (26, 27, 28));
        assert_eq!(
            (map.start_data, map.end_data, map.start_brk, map.brk),
            (45, 46, 47, 470)
        );
        assert_eq!((map.arg_start, map.arg_end), (1000, 1000 + ROOM as u64));
        assert_eq!((map.env_start, map.env_end, map.exe_fd), (50, 51, u32::MAX));
        assert_eq!(moved("1 (a) S 2", 0, 0), None);
    }

    #[test]
    fn titles_fit_their_room() {
        let room: &'static [AtomicU8] = Box::leak((0..8).map(|_| AtomicU8::new(0)).collect());
        let mut pen = Pen { room, at: 0 };
        assert!(pen.write_str("longer than that").is_err());
        let bytes: Vec<u8> = room.iter().map(|byte| byte.load(Relaxed)).collect();
        assert_eq!(bytes, b"longer \0");
    }
}
