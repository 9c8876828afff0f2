//! The daemon as a service: under the supervisors, super-servers and service managers it is made for, installed as the
//! README says, and its log read with the log tools.
//!
//! `.ci/run` installs the programs of others. A test whose programs are missing says so and passes; with
//! `QPSMTPD_REQUIRE_REAL=1` it fails.

mod account;
mod activation;
mod install;
mod logs;
mod machine;
mod notify;
mod place;
mod readme;
mod registry;
mod rights;
mod supervised;
mod systemd;
mod sysv;
mod tcpserver;
mod titles;

// Other tests use more of these than we do.
#[allow(dead_code)]
#[path = "../daemon/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../daemon/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../real/programs.rs"]
mod programs;
