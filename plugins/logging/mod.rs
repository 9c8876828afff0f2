//! Where log records go (catalogue 21). While one of these is loaded, the built-in log is off.

pub mod devnull;
pub mod file;
pub mod warn;
