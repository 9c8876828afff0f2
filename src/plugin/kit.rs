//! The test kit for authors of plugins: a client in memory, no sockets, no DNS, no waiting.
//!
//! ```
//! use qpsmtpd::plugin::*;
//!
//! plugin! {
//!     /// Knows one mailbox.
//!     "one_box", OneBox {
//!         /// Its local part.
//!         @1 user: String,
//!     }
//!     hooks [rcpt]
//! }
//!
//! impl OneBox {
//!     fn rcpt(&self, _: &mut Session, recipient: &Address, _: &Params) -> Answer {
//!         match recipient.user() == self.user {
//!             true => declined(),
//!             false => deny("no such person"),
//!         }
//!     }
//! }
//!
//! let mut t = Kit::load(&DECLARATION, "box");
//! t.mail("a@b.org").declined();
//! t.rcpt("box@example.com").declined();
//! t.rcpt("bad@example.com").denied("no such person");
//! ```

mod dial;
mod outcome;
mod script;
mod stores;

pub use dial::KitDial;
pub use outcome::Outcome;
pub use script::script;
pub use stores::KitStores;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Alias, Chain, Credentials, Declaration, Event, Hook, Loaded, Register, load_line};
use crate::config::{Fault, Lines, Lookup};
use crate::log::{Builtin, Level, Record, Sink};
use crate::mail::{Address, Extensions, Message, Params, RcptOptions, Spool, Syntax};
use crate::session::channel::Channel;
use crate::session::memory::MemoryWire;
use crate::session::services::{Clock, Dns, NoMeter, NoOrders, Resolver, Services};
use crate::session::tls::TlsPlan;
use crate::session::trust::Tlsa;
use crate::session::{Hello, HelloKind, Peer, Session, Transaction, Verdict};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Sink for Kept {
    fn take(&self, record: &Record<'_>) {
        let line = record.to_string();
        let line = line.split_once(' ').map_or("", |(_, words)| words).to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// A DNS that knows what the test told it; everything else does not exist.
#[derive(Clone, Default)]
pub struct KitDns(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    reverse: HashMap<IpAddr, Dns<String>>,
    addresses: HashMap<String, Dns<IpAddr>>,
    tlsa: HashMap<(String, u16), Dns<Tlsa>>,
}

impl KitDns {
    /// The answer to a reverse question.
    pub fn reverse_is(&self, ip: &str, answer: Dns<String>) {
        if let Ok(ip) = ip.parse() {
            self.answers().reverse.insert(ip, answer);
        }
    }

    /// The answer to the question for the addresses of a host.
    pub fn addresses_are(&self, host: &str, answer: Dns<IpAddr>) {
        self.answers().addresses.insert(host.to_owned(), answer);
    }

    /// The answer to the question for TLSA records.
    pub fn tlsa_is(&self, host: &str, port: u16, answer: Dns<Tlsa>) {
        self.answers().tlsa.insert((host.to_owned(), port), answer);
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for KitDns {
    fn reverse(&self, ip: IpAddr, _: Duration) -> Dns<String> {
        self.answers().reverse.get(&ip).cloned().unwrap_or(Dns::NoName)
    }

    fn addresses(&self, host: &str, _: Duration) -> Dns<IpAddr> {
        self.answers().addresses.get(host).cloned().unwrap_or(Dns::NoName)
    }

    fn tlsa(&self, host: &str, port: u16, _: Duration) -> Dns<Tlsa> {
        let known = self.answers().tlsa.get(&(host.to_owned(), port)).cloned();
        known.unwrap_or(Dns::NoData)
    }
}

/// A plugin and a client to try it with.
pub struct Kit {
    /// The session, to look at and to prepare.
    pub s: Box<Session>,
    chain: Arc<Chain>,
    lookup: Arc<Lookup>,
    wire: MemoryWire,
    log: Kept,
    dns: KitDns,
    dial: KitDial,
    stores: KitStores,
}

impl Kit {
    /// A kit with one plugin and its arguments.
    ///
    /// # Panics
    /// If the arguments are faulty; see [`Kit::faults`].
    pub fn load(declaration: &'static Declaration, arguments: &str) -> Kit {
        Kit::load_with(declaration, arguments, &[])
    }

    /// As [`Kit::load`], with configuration files that the plugin reads while it is loaded.
    ///
    /// # Panics
    /// If the arguments are faulty.
    pub fn load_with(declaration: &'static Declaration, arguments: &str, files: &[(&str, &[&str])]) -> Kit {
        let lookup = Lookup::in_memory();
        for (name, lines) in files {
            lookup.set(name, lines);
        }
        let (loaded, faults) = try_load(declaration, arguments, &lookup);
        let text: Vec<String> = faults.iter().map(Fault::to_string).collect();
        match loaded {
            Some(loaded) => Kit::with(Chain::new(vec![loaded]), lookup),
            None => panic!("{}", text.join("\n")),
        }
    }

    /// The faults that loading a plugin with these arguments finds.
    pub fn faults(declaration: &'static Declaration, arguments: &str) -> Vec<String> {
        Kit::faults_with(declaration, arguments, &[])
    }

    /// As [`Kit::faults`], with configuration files that the plugin reads while it is loaded.
    pub fn faults_with(declaration: &'static Declaration, arguments: &str, files: &[(&str, &[&str])]) -> Vec<String> {
        let lookup = Lookup::in_memory();
        for (name, lines) in files {
            lookup.set(name, lines);
        }
        let (_, faults) = try_load(declaration, arguments, &lookup);
        faults.iter().map(Fault::to_string).collect()
    }

    /// A kit around any chain.
    pub fn with(chain: Chain, lookup: Lookup) -> Kit {
        let (chain, lookup) = (Arc::new(chain), Arc::new(lookup));
        let (wire, log, dns) = (MemoryWire::default(), Kept::default(), KitDns::default());
        let (dial, stores) = (KitDial::default(), KitStores::default());
        let services = Arc::new(Services {
            lookup: lookup.clone(),
            clock: Clock::default(),
            dns: Arc::new(dns.clone()),
            dial: Arc::new(dial.clone()),
            stores: Arc::new(stores.clone()),
            log: Arc::new(Builtin::new(Level::Debug, Box::new(log.clone()))),
            hooks: chain.clone(),
            meter: Arc::new(NoMeter),
            orders: Arc::new(NoOrders),
            tls: None,
            secret: [7; 32],
            spool: Arc::new(Spool::in_memory()),
        });
        let far = Instant::now() + Duration::from_secs(3600);
        let channel = Channel::new(Box::new(wire.clone()), Duration::from_secs(60), far);
        let settings = lookup.settings();
        let s = Session::new(
            Peer::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
            channel,
            services,
            settings,
        );
        Kit {
            s,
            chain,
            lookup,
            wire,
            log,
            dns,
            dial,
            stores,
        }
    }

    /// Sets the lines of a configuration file.
    pub fn config(&mut self, name: &str, lines: &[&str]) {
        self.lookup.set(name, lines);
        self.s.settings = self.lookup.settings();
    }

    /// Sets the pairs of a map.
    pub fn map(&mut self, name: &str, pairs: &[(&str, &str)]) {
        self.lookup.set_map(name, pairs);
    }

    /// The clock that the session goes by.
    pub fn clock(&self) -> Clock {
        self.s.services().clock.clone()
    }

    /// The extensions that the plugin takes as one that queues.
    pub fn takes(&self) -> Extensions {
        self.chain.takes()
    }

    /// How the plugin wants TLS to be offered.
    pub fn tls_plan(&self) -> Option<TlsPlan> {
        self.chain.tls_plan().map(|(_, plan)| plan.clone())
    }

    /// Whether the plugin wants connections from this address to begin with a PROXY header.
    pub fn is_proxy(&self, ip: &str) -> bool {
        ip.parse().is_ok_and(|ip| self.chain.is_proxy(ip))
    }

    /// The directories that the plugin wants to be made at the start.
    pub fn owned_dirs(&self) -> Vec<std::path::PathBuf> {
        self.chain.owned_dirs()
    }

    /// Lets the plugin begin its work.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(&self) {
        if let Err(why) = self.chain.start() {
            panic!("{why}");
        }
    }

    /// The DNS that the session asks.
    pub fn dns(&self) -> &KitDns {
        &self.dns
    }

    /// The way to other servers.
    pub fn dial(&self) -> &KitDial {
        &self.dial
    }

    /// The databases and directories that are asked.
    pub fn stores(&self) -> &KitStores {
        &self.stores
    }

    /// The wire, to speak before one's turn.
    pub fn wire(&self) -> &MemoryWire {
        &self.wire
    }

    /// Makes the client one of another address.
    pub fn from(&mut self, ip: &str) -> &mut Kit {
        match ip.parse() {
            Ok(ip) => self.s.peer = Peer::new(ip),
            Err(_) => panic!("'{ip}' is no address"),
        }
        self
    }

    /// Takes what has been logged so far: `(hook) plugin: words`.
    pub fn logged(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the plugin itself has written to the client.
    pub fn written(&mut self) -> String {
        let _ = self.s.channel.flush();
        String::from_utf8_lossy(&self.wire.heard()).into_owned()
    }

    /// Asks any event.
    pub fn ask(&mut self, event: Event<'_>) -> Outcome {
        let chain = self.chain.clone();
        let decision = chain.ask(&mut self.s, event);
        Outcome {
            hook: event.hook(),
            verdict: decision.verdict,
            text: decision.text.into_owned(),
            status: decision.status,
            code: decision.code,
            path: decision.path,
            failed: decision.failed,
            login: decision.login,
        }
    }

    /// Tells observers of any event.
    pub fn tell(&mut self, event: Event<'_>) {
        let chain = self.chain.clone();
        chain.tell(&mut self.s, event);
    }

    /// HELO with a name; the greeting is noted if nobody refuses it.
    pub fn helo(&mut self, host: &str) -> Outcome {
        let outcome = self.ask(Event::Helo { host });
        self.greeted(HelloKind::Helo, host, outcome)
    }

    /// EHLO with a name; the greeting is noted if nobody refuses it.
    pub fn ehlo(&mut self, host: &str) -> Outcome {
        let outcome = self.ask(Event::Ehlo { host });
        self.greeted(HelloKind::Ehlo, host, outcome)
    }

    fn greeted(&mut self, kind: HelloKind, host: &str, outcome: Outcome) -> Outcome {
        if !outcome.verdict.denies() {
            let host = host.to_owned();
            self.s.hello = Some(Hello { kind, host });
        }
        outcome
    }

    /// MAIL from an address (empty: the null sender); opens a transaction if nobody refuses it.
    pub fn mail(&mut self, sender: &str) -> Outcome {
        let sender = address(sender);
        self.s.envelope_from = format!("FROM:{}", sender.path());
        let params = Params::default();
        let (spool, now) = (self.s.services().spool.clone(), self.clock().now());
        let transaction = Transaction::new(sender.clone(), Params::default(), &spool, now);
        self.s.transaction = Some(Box::new(transaction));
        let outcome = self.ask(Event::Mail {
            sender: &sender,
            params: &params,
        });
        if outcome.verdict.denies() {
            self.s.transaction = None;
        }
        outcome
    }

    /// RCPT to an address; the recipient is kept if the plugin accepts it.
    pub fn rcpt(&mut self, recipient: &str) -> Outcome {
        let recipient = address(recipient);
        self.s.envelope_rcpt = format!("TO:{}", recipient.path());
        let params = Params::default();
        let outcome = self.ask(Event::Rcpt {
            recipient: &recipient,
            params: &params,
        });
        if outcome.verdict == Verdict::Ok {
            self.keep(recipient);
        }
        outcome
    }

    /// Adds a recipient without asking.
    pub fn accept(&mut self, recipient: &str) {
        self.keep(address(recipient));
    }

    fn keep(&mut self, address: Address) {
        let params = Params::default();
        if let Some(transaction) = &mut self.s.transaction {
            transaction.recipients.push(crate::session::Recipient {
                address,
                params,
                options: RcptOptions::default(),
            });
        }
    }

    /// Puts a message, with LF line ends, into the transaction (opens one from a@example.org if there is none).
    pub fn message(&mut self, text: &str) {
        if self.s.transaction.is_none() {
            let spool = self.s.services().spool.clone();
            let now = self.clock().now();
            let transaction = Transaction::new(address("a@example.org"), Params::default(), &spool, now);
            self.s.transaction = Some(Box::new(transaction));
        }
        let spool = self.s.services().spool.clone();
        let message = Message::parse(&spool, text.as_bytes());
        if let (Some(transaction), Ok(message)) = (&mut self.s.transaction, message) {
            transaction.data_size = text.len() as u64;
            transaction.message = message;
        }
    }

    /// The message as a queue plugin would get it.
    pub fn message_text(&mut self) -> String {
        let mut out = Vec::new();
        if let Some(message) = self.s.message() {
            let _ = message.write_to(&mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Whether the plugin offers a mechanism, in lower case.
    pub fn offers(&self, hook: Hook, mechanism: &str) -> bool {
        self.chain.offers(&self.s, hook, mechanism)
    }

    /// AUTH with a mechanism, by its own hook or the general one.
    pub fn auth(&mut self, with: &Credentials) -> Outcome {
        let own = match with.mechanism {
            "plain" => Event::AuthPlain { with },
            "login" => Event::AuthLogin { with },
            "cram-md5" => Event::AuthCramMd5 { with },
            "external" => Event::AuthExternal { with },
            "oauthbearer" | "xoauth2" => Event::AuthToken { with },
            _ => Event::AuthScram { with },
        };
        let outcome = self.ask(own);
        match outcome.verdict {
            Verdict::Declined if with.password.is_some() || with.digest.is_some() => {
                let general = self.ask(Event::Auth { with });
                Outcome {
                    failed: general.failed || outcome.failed && general.verdict == Verdict::Declined,
                    ..general
                }
            }
            _ => outcome,
        }
    }

    /// What the hook user_config gives for an address.
    pub fn user_config(&self, who: &str, name: &str) -> Lines {
        self.s.user_config(&address(who), name).expect("known")
    }
}

fn try_load(declaration: &'static Declaration, arguments: &str, lookup: &Lookup) -> (Option<Loaded>, Vec<Fault>) {
    let plugins: &'static [&'static Declaration] = Box::leak(Box::new([declaration]));
    let register = Register {
        plugins,
        aliases: &[] as &[Alias],
        gone: &[],
        ignored: &[],
    };
    let text = format!("{} {arguments}", declaration.name);
    let mut faults = Vec::new();
    let loaded = load_line(&Lines::of("plugins", [text.trim()])[0], lookup, &register, &mut faults);
    (loaded, faults)
}

/// Reads an address, bare or in brackets.
///
/// # Panics
/// If it is none: the test is wrong.
fn address(text: &str) -> Address {
    let path = match text.starts_with('<') {
        true => text.to_owned(),
        false => format!("<{text}>"),
    };
    match Address::parse(
        &path,
        Syntax {
            underscore: true,
            lenient_local: true,
            utf8: true,
        },
    ) {
        Ok(address) => address,
        Err(why) => panic!("'{text}' is no address: {why}"),
    }
}
