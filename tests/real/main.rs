//! Real counterparts: mail programs of others as clients of the daemon and as servers behind it.
//!
//! `.ci/real-programs` gets them. A test whose programs are missing says so and passes; with `QPSMTPD_REQUIRE_REAL=1`
//! it fails.

mod corpus;
mod esmtp;
mod forward;
mod inbound;
mod postfix;
mod postfix_client;
mod programs;
mod upstream;
mod relay;

// The tests of the daemon use more of these than we do.
#[allow(dead_code)]
#[path = "../daemon/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../daemon/process.rs"]
mod process;
