//! The outside world: clients on sockets or stdin, servers that we connect to, TLS, certificates, and DNS. Everything
//! blocks, and every wait has a deadline.

pub mod cert;
mod dial;
mod dns;
mod tls;
mod wire;

pub use dial::Dialler;
pub use dns::SystemDns;
pub use tls::{Keyring, Trouble, server as tls_server};
pub use wire::{Ending, Ends, Leave, NoEnding, PolledWire, Stdio};
