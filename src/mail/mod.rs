//! The words mail is written in: addresses, replies, headers, bodies. No I/O but the spool file.

pub mod address;
pub mod body;
pub mod date;
mod domain;
pub mod header;
mod mailbox;
pub mod message;
pub mod options;
pub mod params;
pub mod reply;
pub mod spare;
mod spool;
mod xtext;

pub use address::{Address, BadAddress, Syntax};
pub use body::{Body, BodyReader, Spool};
pub use domain::ascii_domain;
pub use header::{Field, Header};
pub use message::{Message, MessageFile};
pub use options::{BodyKind, Extensions, MailOptions, Notify, Orcpt, RcptOptions, Ret};
pub use params::{Params, PathLine};
pub use reply::{Reply, Status};
pub use xtext::encode as xtext;
