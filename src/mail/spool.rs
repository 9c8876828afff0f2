//! Where bodies and other files of a transaction lie while it lasts (catalogue 1.5, item 6).
//!
//! Files are named `time:pid:counter`, belong to the session alone (mode 0600, never opened if the name exists) and
//! vanish with the value that stands for them. What killed processes have left is removed by age: each process looks
//! when it makes its first file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The age at which a file belongs to no session any more.
const STALE: Duration = Duration::from_secs(36 * 3600);

/// Where bodies lie and from which size on they are files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// The directory of the files (config/spool_dir).
    pub dir: PathBuf,
    /// The size in bytes from which on a body is a file; 0: always (config/size_threshold).
    pub threshold: u64,
    /// The mode the directory should have.
    pub perms: u32,
}

impl Spool {
    /// A spool that keeps bodies in memory; only a plugin that asks for a file makes one, in the system's directory
    /// for such.
    pub fn in_memory() -> Spool {
        Spool {
            dir: std::env::temp_dir(),
            threshold: u64::MAX,
            perms: 0o700,
        }
    }

    /// Makes the directory if it is missing. Returns a warning if others than we may use it.
    ///
    /// # Errors
    /// The directory cannot be made or looked at.
    pub fn prepare(&self) -> io::Result<Option<String>> {
        let dir = self.dir.display();
        match fs::metadata(&self.dir) {
            Ok(found) if !found.is_dir() => Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("spool_dir {dir} is not a directory"),
            )),
            Ok(found) => {
                let mode = found.permissions().mode() & 0o7777;
                let perms = self.perms;
                Ok((mode != perms).then(|| format!("Permissions on spool_dir {dir} are {mode:04o}, not {perms:04o}")))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(self.perms).create(&self.dir)?;
                // The umask has had its say in the mode.
                fs::set_permissions(&self.dir, fs::Permissions::from_mode(self.perms))?;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a new file in the directory.
    pub(super) fn create(&self) -> io::Result<SpoolFile> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&self.dir, is_ours));
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        loop {
            let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = self.dir.join(format!("{time}:{}:{counter}", std::process::id()));
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match opened {
                Ok(file) => return Ok(SpoolFile { file, path }),
                // Left behind by a process of the same number that died in the same second.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Removes from a folder what processes that were killed have left in it: files of such names that nobody has written
/// to for 36 hours. Failures do not matter: another process will try.
pub fn sweep(folder: &Path, is_ours: impl Fn(&str) -> bool) {
    let now = SystemTime::now();
    let is_stale = |entry: &fs::DirEntry| {
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let age = now.duration_since(meta.modified().ok()?).ok()?;
        Some(age > STALE && is_ours(&entry.file_name().to_string_lossy()))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_stale(&entry) == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a name is one that files of sessions have.
fn is_ours(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split(':').count() == 3 && name.split(':').all(is_number)
}

/// A file that is removed when it is no longer used.
#[derive(Debug)]
pub(super) struct SpoolFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // Nobody is left to be told; the file is gone already or its directory is no longer ours.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether an error says that the disk, or the user's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn spool(dir: PathBuf) -> Spool {
        Spool {
            dir,
            threshold: 0,
            perms: 0o700,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn directory_is_made_with_its_mode() {
        let top = tempfile::tempdir().unwrap();
        let spool = spool(top.path().join("a/b"));
        assert_eq!(spool.prepare().unwrap(), None);
        assert_eq!(mode(&spool.dir), 0o700);
        assert_eq!(spool.prepare().unwrap(), None);
        fs::set_permissions(&spool.dir, fs::Permissions::from_mode(0o755)).unwrap();
        let warning = spool.prepare().unwrap().unwrap();
        assert!(warning.starts_with("Permissions on spool_dir "), "{warning}");
        assert!(warning.ends_with("are 0755, not 0700"), "{warning}");
    }

    #[test]
    fn a_file_is_no_directory() {
        let top = tempfile::tempdir().unwrap();
        let spool = spool(top.path().join("file"));
        fs::write(&spool.dir, "").unwrap();
        assert_eq!(spool.prepare().unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn files_are_private_and_vanish() {
        let top = tempfile::tempdir().unwrap();
        let spool = spool(top.path().to_owned());
        let (one, two) = (spool.create().unwrap(), spool.create().unwrap());
        assert_ne!(one.path, two.path);
        assert_eq!(mode(&one.path), 0o600);
        let name = one.path.file_name().unwrap().to_str().unwrap().to_owned();
        let parts: Vec<&str> = name.split(':').collect();
        assert_eq!(parts.len(), 3, "{name}");
        assert_eq!(parts[1], std::process::id().to_string());
        drop((one, two));
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_left_long_ago_is_swept() {
        let top = tempfile::tempdir().unwrap();
        let file = |name: &str, age: Duration| {
            let path = top.path().join(name);
            File::create(&path)
                .unwrap()
                .set_modified(SystemTime::now() - age)
                .unwrap();
            path
        };
        let old = file("1000:7:0", STALE + Duration::from_secs(60));
        let kept = [
            file("2000:7:0", STALE / 2),
            file("deadly-0123456789abcdef", 2 * STALE),
            file("1000:7", 2 * STALE),
            file("1000::0", 2 * STALE),
        ];
        sweep(top.path(), is_ours);
        sweep(&top.path().join("missing"), is_ours);
        assert!(!old.exists());
        assert!(kept.iter().all(|path| path.exists()));
    }

    #[test]
    fn full_disk() {
        if let Ok(mut full) = OpenOptions::new().write(true).open("/dev/full") {
            assert!(is_full(&full.write_all(b"x").unwrap_err()));
        }
        assert!(is_full(&io::ErrorKind::QuotaExceeded.into()));
        assert!(!is_full(&io::ErrorKind::PermissionDenied.into()));
    }
}
