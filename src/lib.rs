//! qpsmtpd: an SMTP receiver whose core speaks only SMTP and whose every decision is a plugin's.
//!
//! The map of the house, in reading order. A module may use those its line names, and no others
//! (`tests/architecture.rs` checks it).

/// The words mail is written in: addresses, replies, headers, bodies. Uses nothing.
pub mod mail;
/// Log records and their format. Uses nothing.
pub mod log;
/// qmail's way of configuration: one file per setting. Uses mail, log.
pub mod config;
/// What is known of a client: peer, greeting, login, transaction, notes. Uses mail, config, log.
pub mod session;
/// All that a plugin may see and say: hooks, verdicts, arguments, manners. Uses session, config, mail, log.
pub mod plugin;
/// One file per plugin. Uses plugin alone.
#[path = "../plugins/mod.rs"]
pub mod plugins;
/// The protocol: commands, dialogue, data; no sockets, no processes. Uses plugin, session, config, mail,
/// log.
pub mod smtp;
/// The outside world: sockets, TLS and DNS; every wait has a deadline. Uses session, plugin, mail.
pub mod net;
/// Processes: listeners, workers, scoreboard, signals; knows nothing of SMTP. Uses nothing of ours.
pub mod prefork;
/// The command lines of the programs. Uses daemon, prefork, config, log.
pub mod options;
/// Puts it all together. Uses everything.
pub mod daemon;
