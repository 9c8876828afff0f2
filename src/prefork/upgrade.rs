//! Starting the program that is to take this master's place.

use std::env;
use std::ffi::OsString;
use std::fs::metadata;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, dup};

use super::heritage::VARIABLE;
use super::keepsake::Keepsake;
use super::sys;

/// The program as it was started: a file of the same name may hold a newer one later.
pub(super) struct Program {
    file: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// This program; to be asked early, as long as its file is still in its place.
    pub(super) fn of_this_process() -> io::Result<Program> {
        let mut words = env::args_os();
        let name = words.next().unwrap_or_default();
        let running = env::current_exe()?;
        // The name by which it was called may be a link that will lead to the next release.
        let called = candidates(&name).into_iter().find(|file| are_one(file, &running));
        Ok(Program {
            file: called.unwrap_or(running),
            name,
            arguments: words.collect(),
        })
    }

    /// Starts it with what it inherits; the line is left to it, too. Finds its variable and its descriptors; nothing
    /// else gets them, because this process has one thread.
    ///
    /// # Errors
    /// The program cannot be run, or there are no descriptors left.
    pub(super) fn start(&self, estate: Estate, line: &UnixStream, home: Option<&Path>) -> io::Result<Pid> {
        let mut estate = estate;
        estate.leave("line", line, "")?;
        let mut command = Command::new(&self.file);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .env(VARIABLE, estate.words);
        // The service manager wants its signs of life from that process from then on.
        command.env_remove("WATCHDOG_PID");
        if let Some(home) = home {
            command.env("HOME", home);
        }
        let file = self.file.display();
        adopted(&mut command).map_err(|e| io::Error::new(e.kind(), format!("{file}: {e}")))
    }
}

/// Runs a command as a child of the process that takes in orphans, init or a service manager. It can only watch over a
/// main process of the service that is its own child.
fn adopted(command: &mut Command) -> io::Result<Pid> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let Some(between) = sys::fork()? else {
        // Signals are not held, because the command would inherit that. One that comes now wakes the master for nothing.
        let words = match command.spawn() {
            Ok(child) => child.id().to_string(),
            Err(e) => format!("-{}", e.raw_os_error().unwrap_or(libc::EINVAL)),
        };
        let told = theirs.write_all(words.as_bytes());
        std::process::exit(i32::from(told.is_err()));
    };
    drop(theirs);
    let mut words = String::new();
    let heard = ours.read_to_string(&mut words);
    // gone already, or about to go
    let _ = waitpid(between, None);
    heard?;
    match words.parse() {
        Ok(pid @ 1..) => Ok(Pid::from_raw(pid)),
        Ok(code) => Err(io::Error::from_raw_os_error(-code)),
        Err(_) => Err(io::Error::other("the process that was to start it has died")),
    }
}

/// What the next master inherits: copies of descriptors that outlive exec, as long as this lives, and their names.
pub(super) struct Estate {
    words: String,
    copies: Vec<OwnedFd>,
}

impl Estate {
    pub(super) fn new() -> Estate {
        Estate {
            words: format!("from={}", std::process::id()),
            copies: Vec::new(),
        }
    }

    /// Adds a descriptor.
    pub(super) fn leave(&mut self, key: &str, what: &impl AsFd, about: &str) -> io::Result<()> {
        // such a copy, unlike all that std makes, is not closed by exec
        let copy = dup(what.as_fd())?;
        let number = copy.as_raw_fd();
        self.tell(key, &format!("{number}{about}"));
        self.copies.push(copy);
        Ok(())
    }

    /// Adds memory, under its name.
    pub(super) fn keep(&mut self, one: &Keepsake) -> io::Result<()> {
        let copy = dup(one.file.as_fd())?;
        self.tell("keep", &format!("{}:{}@{}", one.key, copy.as_raw_fd(), one.about));
        self.copies.push(copy);
        Ok(())
    }

    /// Adds a word.
    pub(super) fn tell(&mut self, key: &str, value: &str) {
        self.words.push_str(&format!(" {key}={value}"));
    }
}

/// Files that a program may be that was called by this name.
fn candidates(name: &OsString) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).into_iter().collect();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).collect()
}

fn are_one(file: &Path, other: &Path) -> bool {
    let identity = |file: &Path| metadata(file).map(|found| (found.dev(), found.ino())).ok();
    identity(file).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_the_name_it_was_called_by() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        let running = env::current_exe().unwrap();
        std::os::unix::fs::symlink(&running, &link).unwrap();
        let named = candidates(&link.clone().into_os_string());
        assert_eq!(named, std::slice::from_ref(&link));
        assert!(are_one(&named[0], &running) && !are_one(place.path(), &running));
        assert!(!are_one(&place.path().join("none"), &place.path().join("none")));
        assert!(candidates(&"name".into()).iter().all(|file| file.ends_with("name")));
    }
}
