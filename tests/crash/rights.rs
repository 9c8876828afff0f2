//! What these tests may do: mount a small disk, limit and stop processes of other users.

use std::process::Command;

use crate::programs::need;

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "QPSMTPD_CRASH_INSIDE";

/// Whether there are the programs that tests need, and this process is root. Says so if not.
///
/// # Panics
/// If it must be so, for `QPSMTPD_REQUIRE_REAL` is 1.
pub fn may(programs: &[&str]) -> bool {
    if programs.iter().any(|name| need(name).is_none()) {
        return false;
    }
    nix::unistd::geteuid().is_root() || refused("this process is not root")
}

/// Runs a test of this program again in a mount namespace of its own; true in there.
///
/// # Panics
/// As [`may`].
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !may(&["strace", "unshare", "mount", "prlimit", "setpriv"]) {
        return false;
    }
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return refused("this process may not mount");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().expect("unshare").success(), "see above");
    false
}

fn refused(why: &str) -> bool {
    let required = std::env::var_os("QPSMTPD_REQUIRE_REAL").is_some_and(|value| value == "1");
    assert!(!required, "{why}");
    eprintln!("SKIPPED: {why}");
    false
}
