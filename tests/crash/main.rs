//! What becomes of messages when something breaks: at every step of a delivery every fault, whole daemons and real
//! system calls.
//!
//! A message that was answered 250 is in the maildir once and whole; one that was not is there once at most, and whole.
//! `matrix` walks through all of it; README.md has its table.

mod client;
mod exhausted;
mod faults;
mod holders;
mod logs;
mod matrix;
mod next;
mod order;
mod place;
mod rights;
mod scene;
mod slow;
mod sweep;
mod table;
mod threads;
mod trace;

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
