//! Logins with those who know the users: the plugins of auth/ in workers as they are, confined and without privileges,
//! and real counterparts behind them, each started by the test in a folder of its own.
//!
//! `.ci/real-programs` gets the counterparts. A test whose programs are missing says so and passes; with
//! `QPSMTPD_REQUIRE_REAL=1` it fails.

mod cvm;
mod dovecot;
mod failures;
mod ldap;
mod login;
mod pam;
mod servers;
mod vpopmail;

// The tests of the daemon use more of these than we do.
#[allow(dead_code)]
#[path = "../daemon/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../daemon/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../real/programs.rs"]
mod programs;
