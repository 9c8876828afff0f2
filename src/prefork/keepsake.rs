//! Memory that outlives a master: files without a name that processes share, and that go to the master which takes
//! over, with a word on how they are laid out.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};

use super::sys::{AllAtomic, Shared};

/// Parts begin at multiples of this, which is one of every size of pages.
const STEP: u64 = 1 << 16;
/// Nobody can make such a file shorter, so that none of its memory goes away.
const FIXED: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Something that is kept for the next master.
pub struct Keepsake {
    pub(super) key: &'static str,
    /// How it is laid out; one word, the same in all programs that understand it.
    pub(super) about: String,
    pub(super) file: OwnedFd,
    /// Why what a former master has left is not used.
    pub(super) refused: Option<String>,
    new: bool,
}

impl fmt::Debug for Keepsake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.about)
    }
}

/// What a former master has left.
#[derive(Debug)]
pub struct Left {
    pub(super) key: String,
    pub(super) about: String,
    pub(super) file: OwnedFd,
}

impl Left {
    /// Reads words of [`Keepsake::of_words`], and wipes them.
    pub fn words(self) -> io::Result<Vec<u8>> {
        let mut file = File::from(self.file);
        let mut words = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut words)?;
        file.rewind()?;
        file.write_all(&vec![0; words.len()])?;
        Ok(words)
    }
}

impl Keepsake {
    /// Whether no former master has used it.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// A file with these words, for whoever reads them first.
    pub(super) fn of_words(key: &'static str, words: &[u8]) -> io::Result<Keepsake> {
        let mut file = nameless(key)?;
        file.write_all(words)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(FIXED))?;
        Ok(Keepsake {
            key,
            about: String::new(),
            file: file.into(),
            refused: None,
            new: true,
        })
    }
}

fn nameless(key: &str) -> io::Result<File> {
    let name = format!("qpsmtpd {key}");
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // kernels before 6.3 do not know that it holds no program; later ones may insist on it
    let no_program = MFdFlags::from_bits_retain(nix::libc::MFD_NOEXEC_SEAL);
    let made = memfd_create(name.as_str(), flags | no_program).or_else(|_| memfd_create(name.as_str(), flags));
    Ok(File::from(made?))
}

/// A file that is laid out part by part.
pub(super) struct Sheet {
    file: File,
    used: u64,
    /// It is new, and all zero.
    fresh: bool,
}

impl Sheet {
    /// Whether a former master has used it.
    pub(super) fn is_used(&self) -> bool {
        !self.fresh
    }

    /// The next part: so many values.
    pub(super) fn part<T: AllAtomic>(&mut self, len: usize) -> io::Result<Shared<T>> {
        let from = self.used;
        self.used += ((len * size_of::<T>()) as u64).next_multiple_of(STEP);
        if self.fresh {
            self.file.set_len(self.used)?;
        } else if self.file.metadata()?.len() < self.used {
            return Err(io::Error::other("it is too short"));
        }
        Shared::within(&self.file, from, len)
    }

    /// Lays out memory; afterwards its size stays as it is.
    fn lay<M>(&mut self, lay: &dyn Fn(&mut Sheet) -> io::Result<M>) -> io::Result<M> {
        let made = lay(self)?;
        if self.fresh {
            fcntl(&self.file, FcntlArg::F_ADD_SEALS(FIXED))?;
        }
        Ok(made)
    }
}

/// The memory that a former master has left, if it is laid out the way `about` tells; else new memory.
pub(super) fn keep<M>(
    key: &'static str,
    about: String,
    left: Option<Left>,
    lay: &dyn Fn(&mut Sheet) -> io::Result<M>,
) -> io::Result<(M, Keepsake)> {
    let take = |left: Left| -> Result<_, String> {
        if left.about != about {
            return Err(format!("it is laid out as {}, and not as {about}", left.about));
        }
        let sealed = fcntl(&left.file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & FIXED.bits() == FIXED.bits());
        let mut sheet = Sheet {
            file: left.file.into(),
            used: 0,
            fresh: false,
        };
        match sealed {
            true => Ok((sheet.lay(lay).map_err(|e| e.to_string())?, sheet)),
            false => Err("it could become shorter".into()),
        }
    };
    let (refused, taken) = match left.map(take) {
        Some(Ok(taken)) => (None, Some(taken)),
        Some(Err(why)) => (Some(why), None),
        None => (None, None),
    };
    let (made, sheet) = match taken {
        Some(taken) => taken,
        None => {
            let mut sheet = Sheet {
                file: nameless(key)?,
                used: 0,
                fresh: true,
            };
            (sheet.lay(lay)?, sheet)
        }
    };
    let keepsake = Keepsake {
        key,
        about,
        new: sheet.fresh,
        file: sheet.file.into(),
        refused,
    };
    Ok((made, keepsake))
}

/// The moment that a cell in shared memory holds, which is now if it holds none yet.
pub(super) fn moment(cell: &AtomicU64) -> io::Result<Instant> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let now = Duration::new(now.tv_sec().unsigned_abs(), now.tv_nsec() as u32).as_nanos() as u64;
    let then = match cell.compare_exchange(0, now, SeqCst, SeqCst) {
        Ok(_) => now,
        Err(then) => then,
    };
    // this is the clock that Instant reads
    let ago = Duration::from_nanos(now.saturating_sub(then));
    Ok(Instant::now().checked_sub(ago).unwrap_or_else(Instant::now))
}

/// Two programs whose signs are the same compute the same hashes.
pub(super) fn sign_of_hashes() -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(b"qpsmtpd");
    hasher.finish() & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::super::counters::Cell;
    use super::*;
    use std::os::fd::AsFd;

    fn left(keepsake: &Keepsake) -> Left {
        Left {
            key: keepsake.key.into(),
            about: keepsake.about.clone(),
            file: keepsake.file.as_fd().try_clone_to_owned().unwrap(),
        }
    }

    fn cells(about: &str, left: Option<Left>, len: usize) -> (Shared<Cell>, Shared<Cell>, Keepsake) {
        let lay = |sheet: &mut Sheet| Ok((sheet.part(1)?, sheet.part(len)?));
        let ((one, many), keepsake) = keep("cells", about.into(), left, &lay).unwrap();
        (one, many, keepsake)
    }

    #[test]
    fn memory_goes_on_in_other_hands() {
        let (one, many, keepsake) = cells("1", None, 10_000);
        one[0].add(7);
        many[9_999].add(9);
        let (other, others, again) = cells("1", Some(left(&keepsake)), 10_000);
        assert_eq!((other[0].get(), others[9_999].get(), others[0].get()), (7, 9, 0));
        others[0].add(1);
        assert_eq!(many[0].get(), 1, "it is the same memory");
        assert!(again.refused.is_none());
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let (one, _many, keepsake) = cells("1", None, 10);
        one[0].add(7);
        let (other, _, fresh) = cells("2", Some(left(&keepsake)), 10);
        assert_eq!(other[0].get(), 0);
        assert_eq!(fresh.refused.as_deref(), Some("it is laid out as 1, and not as 2"));
        let (other, _, fresh) = cells("1", Some(left(&keepsake)), 100_000);
        assert_eq!((other[0].get(), fresh.refused.as_deref()), (0, Some("it is too short")));
        let open = Left {
            file: nameless("open").unwrap().into(),
            ..left(&keepsake)
        };
        let (other, _, fresh) = cells("1", Some(open), 10);
        assert_eq!(
            (other[0].get(), fresh.refused.as_deref()),
            (0, Some("it could become shorter"))
        );
    }

    #[test]
    fn words_are_read_once() {
        let keepsake = Keepsake::of_words("words", b"secret").unwrap();
        assert_eq!(left(&keepsake).words().unwrap(), b"secret");
        assert_eq!(left(&keepsake).words().unwrap(), [0; 6]);
    }

    #[test]
    fn a_moment_is_the_same_for_all() {
        let cell = AtomicU64::new(0);
        let (first, then) = (moment(&cell).unwrap(), moment(&cell).unwrap());
        let apart = then.max(first) - then.min(first);
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }
}
