//! A generation: one loaded configuration with its plugins, and how it serves a connection.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Fault, Lookup, Settings};
use crate::log::{Builtin, Level, Record};
use crate::mail::Spool;
use crate::net::{self, Dialler, Libraries, PolledWire, SystemDns};
use crate::plugin::{Chain, Hook, load_plugins};
use crate::plugins::REGISTER;
use crate::prefork::{Confinement, Connection, Console, Fallen, Refusal, Service};
use crate::session::channel::Channel;
use crate::session::services::{Clock, Meter, NoMeter, NoOrders, Orders, Services, SideHooks};
use crate::session::tls::Encrypt;
use crate::session::{Peer, Session, Watch};
use crate::smtp::{self, Entry};

use super::control::Clerk;
use super::doors::Door;
use super::farewell::{self, Noticed};
use super::gauge::Gauge;
use super::meter::SharedMeter;
use super::overload;
use super::seat_watch::SeatWatch;
use super::told::Told;
use super::visitor::visitor;
use super::walls::Walls;

/// One loaded configuration with its plugins: a generation.
pub(super) struct Generation {
    chain: Arc<Chain>,
    pub(super) services: Arc<Services>,
    loglevel: Option<Level>,
    reverse_name: bool,
    walls: Walls,
    watch: overload::Watch,
    /// The faults of the configuration that have been told.
    told: Told,
    gauge: Option<Arc<Gauge>>,
    clerk: Option<Clerk>,
    voice: Voice,
    keyring: Arc<net::Keyring>,
    /// By the number of the listener: what is spoken there.
    doors: Vec<Door>,
}

/// By whom the master logs: the generation that serves, whatever others are on trial.
#[derive(Clone, Default)]
pub(super) struct Voice(Arc<Mutex<Option<Arc<Services>>>>);

impl Voice {
    /// Logs in the name of the process.
    pub(super) fn log(&self, level: Level, text: &str) {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(services) = services {
            say(&services, level, text);
        }
    }
}

/// What makes a generation, besides the files of the configuration.
#[derive(Default)]
pub(super) struct Recipe {
    pub(super) config: Option<PathBuf>,
    pub(super) loglevel: Option<Level>,
    pub(super) reverse_name: bool,
    /// How workers are confined.
    pub(super) walls: Walls,
    /// Who speaks for the master.
    pub(super) voice: Voice,
    /// Who counts for all workers; none for a process that serves one session.
    pub(super) meter: Option<Arc<SharedMeter>>,
    /// What is counted for displays; none for a process that serves one session.
    pub(super) gauge: Option<Arc<Gauge>>,
    /// Certificates and keys, which one who has given up root may not be able to read again.
    pub(super) keyring: Arc<net::Keyring>,
    /// The home of the user who will serve, if that is another than the one who starts.
    pub(super) home: Option<PathBuf>,
}

impl Recipe {
    /// Loads configuration and plugins, and all faults that they have.
    pub(super) fn load(&self) -> (Generation, Vec<Fault>) {
        let lookup = Lookup::standard(self.config.as_deref());
        let lookup = Arc::new(match &self.home {
            Some(home) => lookup.with_home(home.clone()),
            None => lookup,
        });
        let settings = lookup.settings();
        let (mut chain, mut faults) = load_plugins(&lookup, &REGISTER);
        if let Some(gauge) = &self.gauge {
            chain.number(|loaded, hook| gauge.mark(loaded, hook));
        }
        let chain = Arc::new(chain);
        faults.splice(0..0, lookup.faults());
        let tls = self.tls(&chain, &mut faults);
        let level = self.loglevel.unwrap_or(settings.loglevel);
        let orders = self.gauge.clone().map(|gauge| gauge as Arc<dyn Orders>);
        let meter = self.meter.clone().map(|meter| meter as Arc<dyn Meter>);
        let services = Services {
            clock: Clock::default(),
            dns: Arc::new(SystemDns),
            dial: Arc::new(Dialler),
            stores: Arc::new(Libraries::default()),
            log: Arc::new(Builtin::stderr(level)),
            hooks: chain.clone(),
            orders: orders.unwrap_or_else(|| Arc::new(NoOrders)),
            meter: meter.unwrap_or_else(|| Arc::new(NoMeter)),
            secret: super::secret::of(&lookup),
            lookup,
            tls,
            spool: Arc::new(Spool {
                dir: settings.spool_dir.clone(),
                threshold: settings.size_threshold,
                perms: settings.spool_perms,
            }),
        };
        let clerk = self.gauge.clone().map(|gauge| Clerk {
            gauge,
            lookup: services.lookup.clone(),
            meter: self.meter.clone(),
            usual: level,
        });
        let told = Told::of(&faults, &services.lookup);
        let generation = Generation {
            clerk,
            voice: self.voice.clone(),
            keyring: self.keyring.clone(),
            chain,
            services: Arc::new(services),
            loglevel: self.loglevel,
            reverse_name: self.reverse_name,
            walls: self.walls,
            watch: overload::Watch::default(),
            told,
            gauge: self.gauge.clone(),
            doors: Vec::new(),
        };
        (generation, faults)
    }

    /// TLS as a plugin wants it, with the faults at the plugin's line.
    fn tls(&self, chain: &Chain, faults: &mut Vec<Fault>) -> Option<Arc<dyn Encrypt>> {
        let (loaded, plan) = chain.tls_plan()?;
        self.keyring.begin();
        let (server, troubles) = net::tls_server(plan, &self.keyring);
        let line = &loaded.line;
        let sound = troubles.iter().all(|trouble| !trouble.error);
        for trouble in troubles {
            let at = line.find(&trouble.file).unwrap_or(0);
            let named = at > 0 && !trouble.file.is_empty();
            let span = if named {
                at..at + trouble.file.len()
            } else {
                0..line.len()
            };
            let fault = line.fault(span, format!("tls: {}", trouble.why));
            faults.push(if trouble.error { fault } else { fault.as_warning() });
        }
        if server.is_none() && sound {
            faults.push(line.blame(line, "tls: error, TLS is not offered").as_warning());
        }
        server
    }
}

impl Generation {
    /// Directories that must exist and belong to the user who serves.
    pub(super) fn owned_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = self.chain.owned_dirs();
        dirs.push(self.services.spool.dir.clone());
        dirs
    }

    /// The same, for listeners of which some begin with TLS.
    ///
    /// # Errors
    /// There is no TLS to begin with.
    pub(super) fn with_listeners(self, doors: &[Door]) -> Result<Generation, String> {
        if self.services.tls.is_none()
            && let Some(door) = doors.iter().find(|door| door.tls)
        {
            return Err(format!(
                "{} is to begin with TLS, which needs the plugin tls and a certificate (smtp:// before the address: \
                 without TLS)",
                door.listen
            ));
        }
        Ok(Generation {
            doors: doors.to_vec(),
            ..self
        })
    }

    /// Gets ready to serve: the plugins begin their work, and the spool directory is made if it is missing.
    pub(super) fn prepare(&self) -> Result<(), String> {
        self.chain.start()?;
        let loggers = self.chain.plugins().iter();
        for logger in loggers.filter(|one| one.hooks.contains(&Hook::logging)) {
            self.log(Level::Info, &format!("Loaded {}", logger.line));
        }
        if let Some(why) = self.walls.breach(&self.chain) {
            self.log(Level::Warn, &why);
        }
        let spool = &self.services.spool;
        let prepared = spool.prepare();
        if let Some(warning) = prepared.map_err(|why| format!("spool_dir {}: {why}\n", spool.dir.display()))? {
            self.log(Level::Warn, &warning);
        }
        Ok(())
    }

    fn begins_with_tls(&self, listener: usize) -> bool {
        self.doors.get(listener).is_some_and(|door| door.tls)
    }

    /// The settings for a session that begins now: what is on disk now, or what config hooks say.
    pub(super) fn settings(&self) -> Arc<Settings> {
        let lookup = &self.services.lookup;
        lookup.refresh();
        for fault in self.told.news(lookup) {
            let level = if fault.is_error() { Level::Error } else { Level::Warn };
            self.log(level, &fault.headline());
        }
        let settings = match self.chain.has_config() {
            true => self.hooked_settings().unwrap_or_else(|| lookup.settings()),
            false => lookup.settings(),
        };
        if self.loglevel.is_none() {
            self.services.log.set_threshold(settings.loglevel);
        }
        settings
    }

    /// The settings as config hooks say; none, which is logged, if they are not sound.
    fn hooked_settings(&self) -> Option<Arc<Settings>> {
        let failed = Cell::new(false);
        let source = |name: &str| {
            let lines = self.services.config(name);
            failed.set(failed.get() || lines.is_err());
            lines.unwrap_or_default()
        };
        let (settings, faults) = Settings::read(&source);
        for fault in faults.iter().filter(|fault| fault.is_error()) {
            self.log(Level::Error, &fault.headline());
            failed.set(true);
        }
        (!failed.get()).then(|| Arc::new(settings))
    }

    /// Logs in the name of the process.
    pub(super) fn log(&self, level: Level, text: &str) {
        say(&self.services, level, text);
    }

    /// A session over any wire.
    pub(super) fn session<E: net::Ends + 'static>(
        &self,
        wire: PolledWire<E>,
        peer: Peer,
        settings: Arc<Settings>,
        watch: Option<Box<dyn Watch>>,
        entry: Entry,
        number: u64,
    ) -> Box<Session> {
        let longest = settings
            .limits
            .max_session_time
            .unwrap_or(Duration::from_secs(u32::MAX.into()));
        let channel = Channel::new(Box::new(wire), settings.timeoutsmtpd, Instant::now() + longest);
        let mut session = Session::new(peer, channel, self.services.clone(), settings);
        session.watch = watch;
        session.number = number;
        if !entry.pre_connection {
            // one session per process: what the super-server has set is about this client
            let text = |value: OsString| value.to_string_lossy().into_owned();
            session.environment = std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect();
        }
        session
    }

    /// Serves a session to its end.
    pub(super) fn converse(&self, session: Box<Session>, entry: Entry) {
        smtp::serve(session, &self.chain, entry);
    }

    /// Receives a client; none if there is too much to do.
    // Not inlined: what is only needed here must not lie on the stack of each client who waits.
    #[inline(never)]
    fn receive(&self, connection: Connection<'_>) -> Option<(Box<Session>, Entry)> {
        let mut settings = self.settings();
        if let Some(why) = self.watch.too_much(&settings.overload) {
            self.log(Level::Notice, &format!("turned away {}: {why}", connection.peer.ip()));
            if !self.begins_with_tls(connection.listener) {
                // who does not take these few bytes at once goes without them
                let _ = (&connection.stream).write(&farewell::too_busy());
            }
            return None;
        }
        overload::hurry(&mut settings, connection.busy, connection.children);
        let mut peer = visitor(&connection, &settings, &self.chain);
        if !self.reverse_name && peer.local.is_none() {
            peer.set_host(&format!("[{}]", peer.ip));
        }
        let watch = self.gauge.as_ref().map(|gauge| {
            let only = (!connection.company).then_some(peer.ip);
            let watch = SeatWatch::new(gauge.clone(), connection.notice.clone(), only);
            Box::new(watch) as Box<dyn Watch>
        });
        let tls = self.begins_with_tls(connection.listener);
        let noticed = Noticed {
            notice: connection.notice,
            clear: !tls,
        };
        let wire = PolledWire::new(connection.stream, Arc::new(noticed));
        let entry = Entry {
            pre_connection: true,
            reverse_name: self.reverse_name,
            tls,
            lmtp: self.doors.get(connection.listener).is_some_and(|door| door.lmtp),
        };
        // the pid names the session as long as it is the only one of the process
        let number = match connection.company {
            true => connection.number,
            false => std::process::id().into(),
        };
        Some((self.session(wire, peer, settings, watch, entry, number), entry))
    }
}

fn say(services: &Services, level: Level, text: &str) {
    let record = Record {
        level,
        number: std::process::id().into(),
        hook: None,
        plugin: None,
        ordered: false,
        text: format_args!("{text}"),
    };
    services.log(&record, 0);
}

impl Service for Generation {
    fn serve(&self, connection: Connection<'_>) {
        if let Some((session, entry)) = self.receive(connection) {
            self.converse(session, entry);
        }
    }

    fn console(&self) -> Option<&dyn Console> {
        self.clerk.as_ref().map(|clerk| clerk as &dyn Console)
    }

    fn takes_office(&self) {
        let mut voice = self.voice.0.lock().unwrap_or_else(PoisonError::into_inner);
        *voice = Some(self.services.clone());
    }

    fn bequest(&self) -> Vec<(&'static str, Vec<u8>)> {
        let marks = self.gauge.as_ref().map(|gauge| gauge.bequest());
        marks.into_iter().chain([self.keyring.bequest()]).collect()
    }

    fn confinement(&self) -> Confinement {
        self.walls.around(&self.chain, &self.services)
    }

    fn bury(&self, fallen: &Fallen) -> String {
        self.gauge.as_ref().map_or_else(String::new, |gauge| gauge.bury(fallen))
    }

    fn is_exempt(&self, client: IpAddr) -> bool {
        self.services.lookup.settings().is_exempt(client) || self.chain.is_proxy(client)
    }

    fn last_words(&self) -> Vec<u8> {
        farewell::last_words()
    }

    fn refusal(&self, why: Refusal, listener: usize) -> Vec<u8> {
        // before the handshake there are no words that a client of TLS would understand
        match self.begins_with_tls(listener) {
            true => Vec::new(),
            false => farewell::refusal(why),
        }
    }
}
