//! TLS as others see it: what STARTTLS does to a session, TLS from the first byte, certificates and their renewal, and
//! real peers.
//!
//! `.ci/real-programs` gets the peers. A test whose programs are missing says so and passes; with
//! `QPSMTPD_REQUIRE_REAL=1` it fails.

mod certificates;
mod client;
mod dialogue;
mod peers;
mod place;

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
