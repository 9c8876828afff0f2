//! AUTH as others see it: real clients with every mechanism, what fail2ban makes of the log, and that no secret is in
//! any log.
//!
//! `.ci/real-programs` gets the clients. A test whose programs are missing says so and passes; with
//! `QPSMTPD_REQUIRE_REAL=1` it fails.

mod ban;
mod passwd;
mod peers;
mod place;
mod secrets;

// The tests of the daemon and of TLS use more of these than we do.
#[allow(dead_code)]
#[path = "../daemon/ask.rs"]
mod ask;
#[allow(dead_code)]
#[path = "../tls/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../daemon/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../daemon/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../real/programs.rs"]
mod programs;
