//! The Perl original and our daemon, serving the same configuration: what they reply, deliver and log.
//!
//! The original is that of Debian's package, which `.ci/real-programs` unpacks; `QPSMTPD_PERL` names a checkout to take
//! instead. Without it these tests say so and pass; with `QPSMTPD_REQUIRE_REAL=1` they fail. What is said of the original
//! here is said of release 0.94.

mod config;
mod conversations;
mod logs;
mod perl;
mod plugins;
mod queues;
mod site;
mod tls;
mod wire;

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
#[allow(dead_code)]
#[path = "../talk/script.rs"]
mod script;
