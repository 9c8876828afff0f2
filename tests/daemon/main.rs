//! The whole daemon, from outside: the programs are started as an operator starts them, and spoken to over TCP.
//!
//! Each test has a directory and ports of its own; nothing waits for time to pass.

mod ask;
mod canary;
mod browser;
mod control;
mod crash;
mod ending;
mod harness;
mod limits;
mod lmtp;
mod mute;
mod pool;
mod process;
mod queue;
mod reload;
mod shut;
mod single;
mod soak;
mod start;
mod status;
mod top;
mod upgrade;
mod upstream;
