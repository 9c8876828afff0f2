//! The outside world: clients on sockets or stdin, servers that we connect to, TLS, certificates, DNS,
//! databases and directories. Everything
//! blocks, and every wait has a deadline.

pub mod cert;
mod dial;
mod dns;
#[cfg(feature = "ldap")]
mod ldap;
mod libraries;
#[cfg(feature = "mysql")]
mod sql;
mod tls;
mod wire;

pub use dial::Dialler;
pub use dns::SystemDns;
pub use libraries::Libraries;
pub use tls::{Keyring, Trouble, server as tls_server};
pub use wire::{Ending, Ends, Leave, NoEnding, PolledWire, Stdio};
