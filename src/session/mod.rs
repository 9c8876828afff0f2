//! What is known of a client, from its connection to its last word.

pub mod channel;
pub mod facts;
mod input;
pub mod memory;
pub mod notes;
pub mod origin;
pub mod remote;
pub mod services;
pub mod stores;
pub mod tls;
pub mod transaction;
pub mod trust;
pub mod verdict;
pub mod watch;
pub mod wire;

pub mod client;

pub use client::{Context, Loglevel, Session};
pub use facts::{Hello, HelloKind, Karma, Login, Naughty, Peer};
pub use notes::Notes;
pub use origin::{Forwarded, Local, Proxied, ProxiedTls};
pub use tls::{ClientCertificate, Tls};
pub use transaction::{RcptOutcome, Recipient, Transaction};
pub use verdict::Verdict;
pub use watch::{Company, Mark, Refused, Ruling, Stage, Tally, Watch};
