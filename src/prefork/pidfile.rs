//! The file that holds the master's process id, and keeps a second master out.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{ELOOP, O_NOFOLLOW};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// The file, ours and locked. The lock is given back by the kernel when the last process that holds the
/// descriptor is gone, however it ends.
#[derive(Debug)]
pub(super) struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Opens and locks the file; refuses if the process in it lives. What a dead one left is replaced.
    pub(super) fn claim(path: &Path) -> Result<Self, String> {
        let fault = |e: std::io::Error| format!("pid file {}: {e}", path.display());
        let path = std::path::absolute(path).map_err(fault)?;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            // Root follows no link that the user who serves may have put there. And whoever can read a file can lock it,
            // and so keep the next master out.
            options.mode(0o600).custom_flags(O_NOFOLLOW);
            let mut file = options.open(&path).map_err(|e| match e.raw_os_error() {
                Some(ELOOP) => format!("pid file {}: it is a symbolic link", path.display()),
                _ => fault(e),
            })?;
            if file.try_lock().is_err() {
                return Err(format!("pid file {}: another master runs", path.display()));
            }
            // The one who held it before us may have removed it between our opening and locking.
            let ours = file.metadata().map_err(fault)?.ino();
            if path.symlink_metadata().is_ok_and(|now| now.ino() == ours) {
                refuse_beside_a_live_one(&mut file, &path)?;
                // one that was left may be open to all; if it is not ours, its owner has to see to that
                let _ = file.set_permissions(Permissions::from_mode(0o600));
                return Ok(Self { file, path });
            }
        }
    }

    /// The file that a former master has left, if it still is the one of this name. Its lock comes with it.
    pub(super) fn inherit(file: File, path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let ours = file.metadata().ok()?.ino();
        let same = path.symlink_metadata().is_ok_and(|now| now.ino() == ours);
        same.then_some(Self { file, path })
    }

    /// The file, to be left to the next master.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes the id of this process.
    pub(super) fn write(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())
    }

    /// Removes the file, or empties it where the user we have become may not remove it.
    pub(super) fn remove(self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

fn refuse_beside_a_live_one(file: &mut File, path: &Path) -> Result<(), String> {
    let mut text = String::new();
    // A file that holds no text holds no pid.
    let _ = file.read_to_string(&mut text);
    let Ok(pid) = text.trim().parse::<i32>() else {
        return Ok(());
    };
    // Our own id: the pids of a container begin anew with it.
    let other = pid > 0 && pid.unsigned_abs() != std::process::id();
    match kill(Pid::from_raw(pid), None) {
        Ok(()) | Err(Errno::EPERM) if other => Err(format!("pid file {}: process {pid} is alive", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_second_one_out_and_goes_away() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pid");
        let mut first = PidFile::claim(&path).unwrap();
        first.write().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        assert!(PidFile::claim(&path).unwrap_err().contains("another master"));
        first.remove();
        assert!(!path.exists());
        PidFile::claim(&path).unwrap();
    }

    #[test]
    fn the_lock_is_left_to_the_next_master() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pid");
        let first = PidFile::claim(&path).unwrap();
        let second = PidFile::inherit(first.file().try_clone().unwrap(), &path).unwrap();
        drop(first);
        assert!(PidFile::claim(&path).unwrap_err().contains("another master"));
        std::fs::rename(&path, place.path().join("other")).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(PidFile::inherit(second.file().try_clone().unwrap(), &path).is_none());
    }

    #[test]
    fn nobody_else_may_open_it_and_so_hold_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pid");
        for left in [None, Some(0o644)] {
            if let Some(mode) = left {
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            let file = PidFile::claim(&path).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
            file.remove();
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (path, other) = (place.path().join("pid"), place.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(PidFile::claim(&path).unwrap_err().contains("symbolic link"));
        assert!(!other.exists());
        std::fs::write(&other, "text").unwrap();
        assert!(PidFile::claim(&path).is_err());
        assert!(PidFile::inherit(File::open(&other).unwrap(), &path).is_none());
        assert!(PidFile::claim(place.path()).is_err());
    }

    #[test]
    fn replaces_what_a_dead_one_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pid");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(&path, format!("{}\n", child.id())).unwrap();
        assert!(PidFile::claim(&path).unwrap_err().contains("is alive"));
        child.kill().unwrap();
        child.wait().unwrap();
        PidFile::claim(&path).unwrap().write().unwrap();
        for leftover in ["", "what", "-5", "0"] {
            std::fs::write(&path, leftover).unwrap();
            PidFile::claim(&path).unwrap();
        }
    }
}
