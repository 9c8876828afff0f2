//! What a session may ask of the world: configuration, the clock, DNS, the log.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::Mark;
use super::remote::Dial;
use super::stores::Stores;
use super::tls::Encrypt;
use super::trust::Tlsa;
use crate::config::{Fault, Lines, Lookup, Rate};
use crate::log::{Builtin, Level, Record};
use crate::mail::{Address, Spool};

/// The answer to a DNS question; a failure is not the same as "there is none" (catalogue 10.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns<T> {
    /// There are such records.
    Found(Vec<T>),
    /// The name exists, but not with such records.
    NoData,
    /// There is no such name.
    NoName,
    /// SERVFAIL, a time-out, no server.
    Failed(String),
}

/// Someone who answers DNS questions; blocks at most for the time given.
pub trait Resolver: Send + Sync {
    /// The names of an address (PTR).
    fn reverse(&self, ip: IpAddr, wait: Duration) -> Dns<String>;
    /// The addresses of a host (hosts file, AAAA and A), those of IPv6 first.
    fn addresses(&self, host: &str, wait: Duration) -> Dns<IpAddr>;
    /// The TLSA records of a port of a host. Only those that DNSSEC vouches for are found; where DNSSEC vouches for
    /// nothing there is no data.
    fn tlsa(&self, host: &str, port: u16, wait: Duration) -> Dns<Tlsa>;
}

/// What is counted for a network of clients over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A connection; file connection_rate.
    Connection,
    /// A transaction begun; file message_rate.
    Message,
    /// A recipient named; file recipient_rate.
    Recipient,
    /// A command answered by 5xx; file error_rate.
    Error,
    /// A login that failed; file auth_failure_rate.
    AuthFailure,
    /// A login that failed, as it makes the next ones wait; file auth_delay.
    AuthDelay,
}

/// Someone who counts events of networks, for all workers together.
pub trait Meter: Send + Sync {
    /// Counts an event if the rate allows it; false if it does not.
    fn admit(&self, what: Event, network: u128, rate: Rate) -> bool;
    /// Counts an event, allowed or not; false if the rate is exceeded with it.
    fn count(&self, what: Event, network: u128, rate: Rate) -> bool;
    /// Counts an event: how many there have been in this time, with it.
    fn add(&self, what: Event, network: u128, within: Duration) -> u32;
    /// Whether so many events have been counted that the rate is exceeded or reached.
    fn reached(&self, what: Event, network: u128, rate: Rate) -> bool;
}

/// Counts nothing: for a process that serves one session.
pub struct NoMeter;

impl Meter for NoMeter {
    fn admit(&self, _: Event, _: u128, _: Rate) -> bool {
        true
    }
    fn count(&self, _: Event, _: u128, _: Rate) -> bool {
        true
    }
    fn add(&self, _: Event, _: u128, _: Duration) -> u32 {
        1
    }
    fn reached(&self, _: Event, _: u128, _: Rate) -> bool {
        false
    }
}

/// What an operator wants to see in the log while the daemon runs, whatever is configured.
pub trait Orders: Send + Sync {
    /// Up to which level, of the plugin at the hook of this mark, or of all that is no plugin's with 0; none if nothing
    /// was said.
    fn level(&self, mark: Mark) -> Option<Level>;
}

/// Nobody says anything: for a process that serves one session.
pub struct NoOrders;

impl Orders for NoOrders {
    fn level(&self, _: Mark) -> Option<Level> {
        None
    }
}

/// Hooks that are asked without a session: chains of plugins implement it.
pub trait SideHooks: Send + Sync {
    /// Whether any plugin serves the hook config.
    fn has_config(&self) -> bool;
    /// Hook config: the lines of a setting, if a plugin knows them.
    ///
    /// # Errors
    /// A plugin that was asked has failed.
    fn config(&self, name: &str) -> Result<Option<Lines>, Fault>;
    /// Hook user_config: the lines of a setting for one address.
    ///
    /// # Errors
    /// A plugin that was asked has failed.
    fn user_config(&self, who: &Address, name: &str) -> Result<Option<Lines>, Fault>;
    /// The highest level a logging plugin wants; none if no logging plugin is loaded.
    fn logs_up_to(&self) -> Option<Level>;
    /// Hook logging.
    fn log(&self, record: &Record<'_>);
}

/// Time, which a test may push on.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// The time of day.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + self.ahead()
    }

    /// Time that only goes forward.
    pub fn instant(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// Lets time pass, in a test.
    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// All services; made once per generation and shared by its sessions.
pub struct Services {
    /// The configuration files.
    pub lookup: Arc<Lookup>,
    /// The clock.
    pub clock: Clock,
    /// DNS.
    pub dns: Arc<dyn Resolver>,
    /// Connections that we make.
    pub dial: Arc<dyn Dial>,
    /// Databases and directories.
    pub stores: Arc<dyn Stores>,
    /// The log that is used while no logging plugin is loaded.
    pub log: Arc<Builtin>,
    /// What an operator wants of the log.
    pub orders: Arc<dyn Orders>,
    /// The plugins' side hooks.
    pub hooks: Arc<dyn SideHooks>,
    /// The rates of networks of clients.
    pub meter: Arc<dyn Meter>,
    /// What encrypts connections; none if TLS is not to be had.
    pub tls: Option<Arc<dyn Encrypt>>,
    /// What only this server knows, and all its processes do: salts for users whom nobody knows are made of it.
    pub secret: [u8; 32],
    /// Where messages are kept while they come in.
    pub spool: Arc<Spool>,
}

impl Services {
    /// A setting: hooks config first, then the files (catalogue 2.1).
    ///
    /// # Errors
    /// What it says is not known: a file cannot be read, or a plugin has failed.
    pub fn config(&self, name: &str) -> Result<Lines, Fault> {
        if self.hooks.has_config()
            && let Some(lines) = self.hooks.config(name)?
        {
            return Ok(lines);
        }
        self.lookup.sound_lines(name)
    }

    /// A setting for one address: hooks user_config first, then as for everybody (catalogue 2.7).
    ///
    /// # Errors
    /// What it says is not known.
    pub fn user_config(&self, who: &Address, name: &str) -> Result<Lines, Fault> {
        match self.hooks.user_config(who, name)? {
            Some(lines) => Ok(lines),
            None => self.config(name),
        }
    }

    /// Whether a record of this level would go anywhere, if it comes from the plugin at the hook of this mark, or from
    /// none with 0.
    pub fn wants(&self, level: Level, mark: Mark) -> bool {
        match self.orders.level(mark).or_else(|| self.hooks.logs_up_to()) {
            Some(most) => level <= most,
            None => self.log.wants(level),
        }
    }

    /// Logs a record that is wanted: the logging plugins if there are any, else the built-in log (catalogue 5).
    pub fn log(&self, record: &Record<'_>, mark: Mark) {
        if !self.wants(record.level, mark) {
            return;
        }
        let record = Record {
            ordered: self.orders.level(mark).is_some(),
            ..*record
        };
        match self.hooks.logs_up_to() {
            Some(_) => self.hooks.log(&record),
            None => self.log.take(&record),
        }
    }
}
