//! qmail's way of configuration: one file per setting, found in three folders, edited without a reload.
//!
//! [`Lookup`] finds files and keeps what was read; [`Lines`] are what it gives, each with its place; [`Settings`]
//! are the typed values of the core; [`TABLE`] names every file; a [`Fault`] says what is wrong and where.

mod cdb;
mod check;
pub mod fault;
mod folders;
pub mod lines;
pub mod lookup;
mod manual;
mod map;
mod nearest;
mod networks;
mod protocol;
mod proxies;
mod rate;
mod read;
pub mod settings;
mod stamp;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod values;

pub use check::unknown_files;
pub use fault::{Fault, Severity};
pub use lines::{Line, Lines, Place};
pub use lookup::Lookup;
pub use manual::{escape, manual};
pub use map::Map;
pub use nearest::nearest;
pub use networks::Networks;
pub use protocol::{Disabled, OutOfTurn};
pub use proxies::Proxies;
pub use rate::{Rate, Rates};
pub use settings::{Ip, Limits, Overload, Settings, host_name};
pub use table::{Kind, Setting, TABLE, setting};
