//! The session: one client, and all that a plugin may see and change of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Channel, Pending};
use super::remote::{Lost, Remote, Target};
use super::services::Services;
use super::{Forwarded, Hello, Karma, Login, Mark, Naughty, Notes, Peer, Proxied, Tls, Transaction, Watch};
use crate::config::{Fault, Lines, Map, Settings};
use crate::log::{Level, Record};
use crate::mail::{Address, Header, Message, Reply, Status};

/// Who is speaking: set by the engine around each call of a plugin.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The hook that runs.
    pub hook: Option<&'static str>,
    /// The plugin's name in the log.
    pub plugin: Option<Arc<str>>,
    /// The plugin's argument `loglevel`.
    pub loglevel: Option<Loglevel>,
    /// The number of plugin and hook, as the watcher has it.
    pub mark: Mark,
}

/// The common argument `loglevel`: at which level a plugin's records are written (catalogue 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loglevel {
    /// All at this level.
    Fixed(Level),
    /// So many levels up or down, within 0 to 7.
    Shift(i8),
}

impl Loglevel {
    /// The level a record gets.
    pub fn apply(self, level: Level) -> Level {
        match self {
            Loglevel::Fixed(fixed) => fixed,
            Loglevel::Shift(by) => Level::from_number(level as i64 + i64::from(by)),
        }
    }
}

/// What one client has said and what is known of it.
///
/// What most clients never have is in boxes: thousands of them may be there at once.
pub struct Session {
    /// Who it is.
    pub peer: Peer,
    /// How it greeted; none before, and none while the helo and ehlo hooks run.
    pub hello: Option<Hello>,
    /// Facts of TLS, if the connection is encrypted.
    pub tls: Option<Box<Tls>>,
    /// Whether LMTP is spoken with it, and not SMTP.
    pub lmtp: bool,
    /// What a proxy told of the connection.
    pub proxied: Option<Box<Proxied>>,
    /// What a server that passes mail on told of its client.
    pub forwarded: Option<Box<Forwarded>>,
    /// What came of AUTH.
    pub login: Login,
    /// Whether it may send to anybody.
    pub relay_client: bool,
    /// Text that is appended to every recipient: the value of RELAYCLIENT (catalogue 7).
    pub recipient_suffix: String,
    /// What a super-server said of this client in the environment (catalogue 7). Empty in a daemon, whose own
    /// environment is about no client.
    pub environment: BTreeMap<String, String>,
    /// Reasons to refuse it later.
    pub naughty: Naughty,
    /// Its standing.
    pub karma: Karma,
    /// Whether no rate of its network holds for it (connection_rate and its kin); plugins may say so.
    pub rate_exempt: bool,
    /// Whether a whitelist names the client; makes it immune.
    pub whitelisted: bool,
    /// What plugins found out about the connection, for Authentication-Results: iprev.
    pub results: Vec<String>,
    /// Words to add to the reply to EHLO.
    pub capabilities: Vec<String>,
    /// Notes that live as long as the connection.
    pub notes: Notes,
    /// The mail transaction; none outside of one.
    pub transaction: Option<Box<Transaction>>,
    /// original_string: the command line as it came.
    pub original_string: String,
    /// envelope_from: what stood behind `MAIL`.
    pub envelope_from: String,
    /// envelope_rcpt: what stood behind the last `RCPT`.
    pub envelope_rcpt: String,
    /// The number in the pid column of the log.
    pub number: u64,
    /// The core settings, as they were when the session began.
    pub settings: Arc<Settings>,
    /// Who watches the session, if anyone does.
    pub watch: Option<Box<dyn Watch>>,
    pub(crate) channel: Channel,
    /// How often each reply is sent: in LMTP, once for each recipient when the message is decided.
    pub(crate) replies: usize,
    pub(crate) context: Context,
    services: Arc<Services>,
}

impl Session {
    /// A session that has not said anything yet.
    #[inline(never)] // or the caller would keep room for it on its stack as long as the session lasts
    pub fn new(peer: Peer, channel: Channel, services: Arc<Services>, settings: Arc<Settings>) -> Box<Session> {
        Box::new(Session {
            peer,
            hello: None,
            tls: None,
            lmtp: false,
            proxied: None,
            forwarded: None,
            login: Login::default(),
            relay_client: false,
            recipient_suffix: String::new(),
            environment: BTreeMap::new(),
            naughty: Naughty::default(),
            karma: Karma::default(),
            rate_exempt: false,
            whitelisted: false,
            results: Vec::new(),
            capabilities: Vec::new(),
            notes: Notes::default(),
            transaction: None,
            original_string: String::new(),
            envelope_from: String::new(),
            envelope_rcpt: String::new(),
            number: std::process::id().into(),
            settings,
            watch: None,
            channel,
            replies: 1,
            context: Context::default(),
            services,
        })
    }

    /// The services behind the session.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// The lines of a setting (catalogue 2.1).
    ///
    /// # Errors
    /// What it says is not known, for a file cannot be read; this is not the same as an empty one.
    pub fn config(&self, name: &str) -> Result<Lines, Fault> {
        self.services.config(name)
    }

    /// The lines of a setting as they hold for one address (catalogue 2.7).
    ///
    /// # Errors
    /// What they say is not known.
    pub fn user_config(&self, who: &Address, name: &str) -> Result<Lines, Fault> {
        self.services.user_config(who, name)
    }

    /// A map: a cdb file or a text file in its stead (catalogue 2.3).
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn map(&self, name: &str) -> Result<Map, Fault> {
        self.services.lookup.map(name)
    }

    /// Largest message in bytes as stored, 0 for no limit: the variable DATABYTES that a super-server has set for this
    /// client (catalogue 7), else the setting.
    pub fn databytes(&self) -> u64 {
        let own = self.environment.get("DATABYTES").and_then(|text| text.parse().ok());
        own.unwrap_or(self.settings.databytes)
    }

    /// Largest message in bytes; the greatest number if there is no limit.
    pub fn size_limit(&self) -> u64 {
        match self.databytes() {
            0 => u64::MAX,
            most => most,
        }
    }

    /// What a super-server has said was of another client than this one.
    pub fn forget_environment(&mut self) {
        self.environment.clear();
        self.recipient_suffix.clear();
        self.peer.local_host = None;
    }

    /// The reverse-path of the transaction; the null address outside of one.
    pub fn sender(&self) -> &Address {
        static NULL: std::sync::LazyLock<Address> = std::sync::LazyLock::new(Address::null);
        self.transaction
            .as_ref()
            .map_or(&NULL, |transaction| &transaction.sender)
    }

    /// The addresses of the accepted recipients.
    pub fn recipients(&self) -> impl Iterator<Item = &Address> {
        let all = self
            .transaction
            .as_ref()
            .map_or(&[][..], |transaction| &transaction.recipients);
        all.iter().map(|recipient| &recipient.address)
    }

    /// The header of the message; empty before there is one.
    pub fn header(&self) -> &Header {
        static EMPTY: std::sync::LazyLock<Header> = std::sync::LazyLock::new(Header::default);
        self.transaction
            .as_ref()
            .map_or(&EMPTY, |transaction| &transaction.message.header)
    }

    /// The message, to read or change it; none outside of a transaction.
    pub fn message(&mut self) -> Option<&mut Message> {
        self.transaction.as_mut().map(|transaction| &mut transaction.message)
    }

    /// Connects to another server, as a client of it.
    ///
    /// # Errors
    /// Nobody answers by the deadline.
    pub fn dial(&self, to: &Target, until: Instant) -> Result<Remote, Lost> {
        Remote::connect(&self.services.dial, to, until)
    }

    /// Waits up to `wait` to see whether the client talks before its turn; a client that is silent costs the time.
    pub fn pending(&mut self, wait: Duration) -> Pending {
        self.channel.pending(wait)
    }

    /// adjust_karma: gives or takes standing, and logs it (catalogue 6).
    pub fn adjust_karma(&mut self, by: i32) {
        let total = self.karma.score.unwrap_or(0).saturating_add(by);
        self.karma.score = Some(total);
        self.log(Level::Info, format_args!("karma {by} ({total})"));
    }

    /// is_immune: whether the common exemptions hold (catalogue 6); logs which one.
    pub fn is_immune(&self) -> bool {
        let why = if self.relay_client {
            "skip, relay client"
        } else if self.whitelisted {
            "skip, whitelisted host"
        } else if self.has_whitelisted_sender() {
            "skip, whitelisted sender"
        } else {
            return false;
        };
        self.log(Level::Info, format_args!("{why}"));
        true
    }

    fn has_whitelisted_sender(&self) -> bool {
        let notes = self.transaction.as_ref().map(|transaction| &transaction.notes);
        notes.is_some_and(|notes| notes.get::<WhitelistedSender>().is_some())
    }

    /// Whether a record of this level would go anywhere.
    pub fn wants(&self, level: Level) -> bool {
        let shown = self.context.loglevel.map_or(level, |loglevel| loglevel.apply(level));
        self.services.wants(shown, self.context.mark)
    }

    /// Logs words in the name of the plugin and hook that run.
    pub fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        let level = self.context.loglevel.map_or(level, |loglevel| loglevel.apply(level));
        let record = Record {
            level,
            number: self.number,
            hook: self.context.hook,
            plugin: self.context.plugin.as_deref(),
            ordered: false,
            text,
        };
        self.services.log(&record, self.context.mark);
    }

    /// Replies to the client in the place of the core (verdict DONE), and logs it as the core would.
    pub fn respond(&mut self, code: u16, status: Option<Status>, text: impl Into<Cow<'static, str>>) {
        let reply = Reply::new(code, status, text);
        let first = reply.text().lines().next().unwrap_or_default();
        let record = Record {
            level: Level::Info,
            number: self.number,
            hook: None,
            plugin: None,
            ordered: false,
            text: format_args!("{code} {first}"),
        };
        self.services.log(&record, 0);
        for _ in 0..self.replies {
            reply.write_to(self.channel.output());
        }
    }

    /// Writes raw bytes to the client: for plugins that answer for themselves (verdict DONE). Lines end CRLF.
    pub fn respond_raw(&mut self, bytes: &[u8]) {
        self.channel.output().extend_from_slice(bytes);
    }
}

/// Note on a transaction: a whitelist names its sender.
#[derive(Default)]
pub struct WhitelistedSender;
