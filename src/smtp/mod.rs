//! The protocol: a dialogue over a wire, in which plugins decide. No sockets, no processes.
//!
//! Every command is checked (order, syntax, size), then the plugins are asked, then the table of answers says what
//! the client hears, then the session proceeds.

mod answers;
mod attributes;
mod auth;
mod bdat;
mod chunk;
pub mod command;
mod commands;
mod data;
mod dialogue;
mod dispatch;
mod envelope;
mod intake;
mod lmtp;
mod offer;
mod opening;
mod proxy;
mod rates;
mod receiving;
mod starttls;
mod trace;
mod upstream;
mod xclient;

pub use commands::bare_reply;
pub use dialogue::{Entry, serve};
pub use intake::{Intake, Step};
