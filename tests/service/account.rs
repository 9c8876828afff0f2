//! The user smtpd: made for a test where it is missing, and removed after it.
//!
//! A daemon that root starts looks for that user, so that it must not come or go while one starts: tests that make it
//! have this machine to themselves, and the others share it.

use std::fs::File;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::unistd::{Uid, User};

use crate::place::output_of;

static TESTS: RwLock<()> = RwLock::new(());

/// While this is held the user neither comes nor goes.
pub fn settled() -> RwLockReadGuard<'static, ()> {
    TESTS.read().unwrap_or_else(PoisonError::into_inner)
}

/// The user smtpd is there.
pub struct Account {
    made: bool,
    // Tests of other checkouts on this machine want the same.
    _machine: File,
    _tests: RwLockWriteGuard<'static, ()>,
}

impl Account {
    /// Makes sure of it, if need be with this command; none if we are not root.
    pub fn ensure(useradd: &str) -> Option<Account> {
        if !Uid::effective().is_root() {
            return None;
        }
        let tests = TESTS.write().unwrap_or_else(PoisonError::into_inner);
        let lock = std::env::temp_dir().join("qpsmtpd-test-user.lock");
        let machine = File::create(lock).expect("a file");
        machine.lock().expect("lock");
        let missing = User::from_name("smtpd").expect("users").is_none();
        if missing {
            output_of(Command::new("sh").args(["-c", useradd]));
        }
        Some(Account {
            made: missing,
            _machine: machine,
            _tests: tests,
        })
    }

    /// The number of the user.
    pub fn uid(&self) -> u32 {
        let user = User::from_name("smtpd").expect("users");
        user.expect("the user smtpd").uid.as_raw()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.made {
            // -f: a daemon of another checkout may run as smtpd now; it keeps its number.
            let _ = Command::new("userdel").args(["-f", "smtpd"]).output();
        }
    }
}
