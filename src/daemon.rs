//! Puts it all together: configuration, plugins and services become what the workers serve.

mod control;
mod gauge;
pub mod cert;
mod doors;
mod farewell;
mod generation;
mod meter;
mod overload;
pub mod passwd;
mod seat_watch;
mod secret;
mod single;
mod status;
mod told;
mod visitor;
mod walls;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::config::{Fault, Lookup, Settings, unknown_files};
use crate::log::{Level, Mark};
use crate::net::Keyring;
use crate::options::Bind;
use crate::plugins::REGISTER;
use crate::prefork::{self, Inherited, Plan, Purpose, Service};

use doors::{doors, open_doors};
use gauge::Gauge;
use generation::{Generation, Recipe, Voice};
use meter::SharedMeter;

pub use single::single;
pub use walls::Walls;

/// sysexits.h: the configuration is faulty.
const EX_CONFIG: u8 = 78;
/// sysexits.h: the system does not give what is needed.
const EX_OSERR: u8 = 71;
/// sysexits.h: something cannot be written.
const EX_IOERR: u8 = 74;

/// What a daemon's command line asks for.
pub struct Start {
    /// Directory of the configuration, instead of ./config.
    pub config: Option<PathBuf>,
    /// Only check the configuration.
    pub check: bool,
    /// What to log, instead of config/loglevel.
    pub loglevel: Option<Level>,
    /// Whether to ask DNS for the names of clients.
    pub reverse_name: bool,
    /// Where to listen; empty for what config/IP says.
    pub addresses: Vec<Bind>,
    /// Ports of the addresses that have none; empty for what config/port says.
    pub ports: Vec<u16>,
    /// How workers are confined.
    pub walls: Walls,
    /// The control socket, where it is not to be `control` in the spool directory.
    pub control: Door,
    /// Everything about processes.
    pub plan: Plan,
}

/// Where the control socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// `control` in the spool directory.
    #[default]
    Usual,
    /// There.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl Door {
    fn path(self, settings: &Settings) -> Option<PathBuf> {
        match self {
            Door::Usual => Some(settings.spool_dir.join("control")),
            Door::At(path) => Some(path),
            Door::Off => None,
        }
    }
}

/// Prints faults as they are meant to be read; true if one of them is an error.
fn print(faults: &[Fault]) -> bool {
    for fault in faults {
        prefork::tell(fault);
    }
    faults.iter().any(Fault::is_error)
}

/// Prints what was asked for. Whoever reads it may have gone, who has then read enough; but no disk may be full.
fn show(text: &str) -> ExitCode {
    let mut out = io::stdout();
    // what stands behind the last line end would be lost unseen at the end of the process
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            prefork::tell(format_args!("cannot print it: {e}"));
            ExitCode::from(EX_IOERR)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says why the daemon does not start.
fn complain(why: &str) {
    let mark = Mark::of(Level::Error);
    let lines = why.trim_end().lines();
    lines.for_each(|line| prefork::tell(format_args!("{mark}{line}")));
}

/// Runs a daemon until it is told to end.
pub fn run(start: Start) -> ExitCode {
    if start.check {
        return check(start.config.as_deref());
    }
    if let Err(why) = prefork::outlive_limits_of_files() {
        complain(&why.to_string());
        return ExitCode::from(EX_OSERR);
    }
    // before anything else is opened
    let Inherited {
        listeners: inherited,
        names,
        mut heritage,
    } = match prefork::inherited() {
        Ok(inherited) => inherited,
        Err(why) => {
            complain(&why);
            return ExitCode::from(EX_OSERR);
        }
    };
    match prepare(start, (inherited, &names), heritage.as_mut()) {
        Ok((recipe, first, doors, plan)) => serve(&recipe, &first, &doors, Plan { heritage, ..plan }),
        Err((exit, why)) => {
            complain(&why);
            if let Some(heritage) = heritage {
                heritage.decline(&why);
            }
            ExitCode::from(exit)
        }
    }
}

type Prepared = (Recipe, Generation, Vec<doors::Door>, Plan);

/// Loads the configuration for the first time, as root if root has started the daemon; else the exit code and why.
fn prepare(
    start: Start,
    (inherited, names): (Vec<prefork::Socket>, &[String]),
    mut heritage: Option<&mut prefork::Heritage>,
) -> Result<Prepared, (u8, String)> {
    let system = |what: &'static str| move |why: io::Error| (EX_OSERR, format!("no shared memory for {what}: {why}"));
    let (meter, rates) = SharedMeter::kept(heritage.as_deref_mut()).map_err(system("the rates of clients"))?;
    let workers = start.plan.children as usize;
    let (gauge, counts) = Gauge::kept(workers, heritage.as_deref_mut()).map_err(system("counters"))?;
    let keys = heritage.as_mut().and_then(|heritage| heritage.kept(Keyring::KEPT));
    let keys = keys.and_then(|left| left.words().ok());
    let recipe = Recipe {
        meter: Some(Arc::new(meter)),
        gauge: Some(Arc::new(gauge)),
        config: start.config,
        loglevel: start.loglevel,
        reverse_name: start.reverse_name,
        walls: start.walls,
        voice: Voice::default(),
        keyring: Arc::new(keys.map_or_else(Keyring::default, |words| Keyring::left(&words))),
        home: prefork::home_of_server(start.plan.user.as_deref()),
    };
    let (first, faults) = recipe.load();
    let text: Vec<String> = faults.iter().map(Fault::to_string).collect();
    if faults.iter().any(Fault::is_error) {
        return Err((EX_CONFIG, text.join("\n")));
    }
    print(&faults);
    // whoever has opened sockets for us has decided where to listen
    let (doors, to_bind) = match inherited.is_empty() {
        true => {
            let root = geteuid().is_root() || heritage.is_some_and(|heritage| heritage.began_as_root());
            let settings = first.services.lookup.settings();
            let doors = doors(&start.addresses, &start.ports, &settings, root);
            (doors.clone(), doors)
        }
        false => {
            let doors = open_doors(&inherited, names).map_err(|why| (EX_CONFIG, why))?;
            (doors, Vec::new())
        }
    };
    let first = first.with_listeners(&doors).map_err(|why| (EX_CONFIG, why))?;
    let plan = Plan {
        keepsakes: counts.into_iter().chain([rates]).collect(),
        listeners: to_bind.into_iter().map(|door| door.listen).collect(),
        inherited,
        owned_directories: first.owned_dirs(),
        control: start.control.path(&first.services.lookup.settings()),
        ..start.plan
    };
    Ok((recipe, first, doors, plan))
}

fn serve(recipe: &Recipe, first: &Generation, doors: &[doors::Door], plan: Plan) -> ExitCode {
    // what the master logs goes where the generation that serves logs
    first.takes_office();
    let mut reloading = false;
    let mut loaded = |purpose| {
        let (generation, faults) = recipe.load();
        let text: Vec<String> = faults.iter().map(Fault::to_string).collect();
        if faults.iter().any(Fault::is_error) {
            return Err(text.join("\n"));
        }
        let generation = generation.with_listeners(doors)?;
        if purpose == Purpose::Service {
            generation.prepare()?;
            // the first time, what there is to say has been said a moment ago
            if std::mem::replace(&mut reloading, true) {
                let warnings = faults.iter().map(Fault::headline);
                warnings.for_each(|warning| generation.log(Level::Warn, &warning));
            }
        }
        Ok(Arc::new(generation) as Arc<dyn Service>)
    };
    ExitCode::from(prefork::run(plan, &mut loaded, &|level, text| {
        recipe.voice.log(level_of(level), text);
    }))
}

fn level_of(level: prefork::Level) -> Level {
    match level {
        prefork::Level::Critical => Level::Crit,
        prefork::Level::Error => Level::Error,
        prefork::Level::Warning => Level::Warn,
        prefork::Level::Notice => Level::Notice,
        prefork::Level::Info => Level::Info,
        prefork::Level::Debug => Level::Debug,
    }
}

/// The names of those paths that lie directly in `folder`.
fn names_within(folder: &Path, paths: &[PathBuf]) -> Vec<String> {
    let folder = std::path::absolute(folder).ok();
    let within =
        |path: &&PathBuf| std::path::absolute(path).ok().as_deref().and_then(Path::parent) == folder.as_deref();
    let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    paths.iter().filter(within).filter_map(name).collect()
}

/// `qpsmtpctl check`: everything the daemon would load, and files that nobody reads.
pub fn check(config: Option<&Path>) -> ExitCode {
    let home = prefork::home_of_server(None);
    let recipe = Recipe {
        config: config.map(Path::to_owned),
        home,
        ..Recipe::default()
    };
    let (generation, mut faults) = recipe.load();
    let lookup = &generation.services.lookup;
    if let Some(own) = lookup.dirs().iter().find(|dir| dir.is_dir()) {
        // also the files that arguments of plugins and include lines name
        let named = names_within(own, &lookup.files_read());
        let declared = REGISTER.plugins.iter().flat_map(|one| one.files).copied();
        let read: Vec<&str> = declared.chain(named.iter().map(String::as_str)).collect();
        faults.extend(unknown_files(own, &read));
    }
    if print(&faults) {
        return ExitCode::from(EX_CONFIG);
    }
    show("configuration ok\n")
}

/// The commands that qpsmtpctl passes on to a running master, and their exit code. Without a socket it is looked for
/// where the daemon with this configuration makes it.
pub fn ask(config: Option<&Path>, socket: Option<&Path>, command: &str) -> ExitCode {
    let waits_for_end = command.starts_with("shutdown") || command.starts_with("json shutdown");
    control::client::ask(&socket_of(config, socket), command, waits_for_end)
}

/// `qpsmtpctl top`.
pub fn top(config: Option<&Path>, socket: Option<&Path>, pause: Duration, rounds: Option<u32>) -> ExitCode {
    control::top::run(&socket_of(config, socket), pause, rounds)
}

fn socket_of(config: Option<&Path>, socket: Option<&Path>) -> PathBuf {
    let usual = || {
        let lookup = Lookup::standard(config);
        let lookup = match prefork::home_of_server(None) {
            Some(home) => lookup.with_home(home),
            None => lookup,
        };
        lookup.settings().spool_dir.join("control")
    };
    socket.map_or_else(usual, Path::to_owned)
}

/// `qpsmtpctl man`: prints a manual page.
pub fn man(page: &str) -> ExitCode {
    let text = match page {
        "qpsmtpd-config" => Some(crate::config::manual()),
        "qpsmtpd-plugins" => Some(crate::plugin::manual(&REGISTER)),
        program => crate::options::manual(program),
    };
    match text {
        Some(text) => show(&format!("{text}\n")),
        None => {
            prefork::tell(format_args!("there is no manual page '{page}'"));
            ExitCode::from(64)
        }
    }
}
