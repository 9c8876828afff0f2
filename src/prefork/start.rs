//! From the command line to the moment before the first fork: bind, give up root, load.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use socket2::Socket;

use super::background::{self, Detached, Launch, allow_descriptors, detach, tell};
use super::board::Board;
use super::control::Door;
use super::heritage::Heritage;
use super::keepsake::Keepsake;
use super::listen::{Listen, bind_all, name, shown};
use super::pidfile::PidFile;
use super::user::{Account, become_user, choose, own_directory, present};
use super::{Level, Load, Log, Plan, Purpose, Service, sys, title, unix};

/// The command line cannot be meant, as clap says it.
const EX_USAGE: u8 = 2;
/// Exit codes of sysexits(3).
const EX_NOUSER: u8 = 67;
const EX_OSERR: u8 = 71;
const EX_CANTCREAT: u8 = 73;
const EX_CONFIG: u8 = 78;

/// Why the daemon does not start.
pub(super) struct Trouble {
    /// The exit code.
    pub(super) exit: u8,
    /// What the user is told.
    pub(super) words: String,
}

/// All that the master begins with.
pub(super) struct Start {
    pub(super) plan: Plan,
    pub(super) listeners: Vec<Socket>,
    /// How many of them, from the first on, belong to whoever started us.
    pub(super) inherited: usize,
    pub(super) service: Arc<dyn Service>,
    pub(super) pid_file: Option<PidFile>,
    pub(super) launch: Option<Launch>,
    pub(super) nice: Option<i32>,
    /// What a former master has left that still serves.
    pub(super) heritage: Option<Heritage>,
    /// The home directory of the user that this process has become, if it has.
    pub(super) home: Option<PathBuf>,
    /// Whether root has started this master or a former one.
    pub(super) root: bool,
    /// The scoreboard.
    pub(super) board: Board,
    /// What is kept for the next master.
    pub(super) keepsakes: Vec<Keepsake>,
    /// The control socket.
    pub(super) door: Option<Door>,
    /// Where to show what the daemon does.
    pub(super) show: Option<TcpListener>,
}

/// Which process this is after the preparations.
pub(super) enum Prepared {
    /// The one that was started, which has to end with this code.
    Launcher(u8),
    /// The master.
    Master(Box<Start>),
}

/// Does everything that comes before the first fork. What a former master has left is handed on, or stays where it is
/// if something fails.
pub(super) fn prepare(
    mut plan: Plan,
    heritage: &mut Option<Heritage>,
    load: Load<'_>,
    log: Log<'_>,
) -> Result<Prepared, Trouble> {
    let trouble = |exit| move |words| Trouble { exit, words };
    let trial = plan.trial.map(|trial| trial.of(plan.children)).transpose();
    plan.trial = trial.map_err(trouble(EX_USAGE))?;
    let mut listeners = std::mem::take(&mut plan.inherited);
    let inherited = listeners.len();
    let bound = heritage.as_mut().map(|heritage| std::mem::take(&mut heritage.bound));
    let bound = bound.unwrap_or_default();
    // what a former master has bound, it has also handed over
    let is_fresh = |place: &&Listen| !bound.iter().any(|(left, _)| left == *place);
    let fresh: Vec<Listen> = plan.listeners.iter().filter(is_fresh).cloned().collect();
    listeners.extend(bind_all(&plan.listeners, bound).map_err(trouble(EX_OSERR))?);
    let mut pid_file = claim(&plan, heritage.as_mut()).map_err(trouble(EX_CANTCREAT))?;
    announce(&listeners, log);
    let left = heritage.as_mut().and_then(|heritage| heritage.show.take());
    let show = plan.show.map(|address| bind_show(address, left));
    let show = show.transpose().map_err(trouble(EX_OSERR))?;
    let account = choose(plan.user.as_deref(), log).map_err(trouble(EX_NOUSER))?;
    for place in &fresh {
        unix::hand_over(place, &plan.socket, account.as_ref()).map_err(trouble(EX_CANTCREAT))?;
    }
    for directory in &plan.owned_directories {
        own_directory(directory, account.as_ref(), log).map_err(trouble(EX_CANTCREAT))?;
    }
    if let Err(why) = allow_descriptors(plan.children, plan.sessions) {
        log(Level::Warning, &why);
    }
    background::keep_to_ourselves();
    if let Some(nice) = heritage.as_ref().and_then(|heritage| heritage.nice) {
        // back to where the former master began, if that is allowed
        let _ = sys::set_niceness(nice);
    }
    let nice = background::renice(plan.renice_parent);
    if let Some(account) = &account {
        become_user(account).map_err(trouble(EX_NOUSER))?;
    }
    let (user, group) = present();
    log(Level::Info, &format!("Running as user {user}, group {group}"));

    let service = load_soundly(load, Purpose::Service).map_err(trouble(EX_CONFIG))?;
    service.takes_office();

    let system = |what: &'static str| {
        move |e| Trouble {
            exit: EX_OSERR,
            words: format!("{what}: {e}"),
        }
    };
    // whoever takes over is in the background already, if that is wanted
    let launch = match plan.detach && heritage.is_none() {
        false => None,
        true => match detach().map_err(system("cannot detach"))? {
            Detached::Launcher(code) => return Ok(Prepared::Launcher(code)),
            Detached::Daemon(launch) => Some(launch),
        },
    };
    if let Some(file) = &mut pid_file
        && heritage.is_none()
    {
        file.write().map_err(system("cannot write the pid file"))?;
    }
    if plan.pretty_child {
        background::name_process(c"qpsmtpd master");
        if let Err(e) = title::begin() {
            log(Level::Notice, &format!("no titles of processes: {e}"));
        }
    }
    let left = heritage.as_mut().and_then(|heritage| heritage.kept("board"));
    let (rows, sessions) = (plan.rows(), plan.sessions.max(1) as usize);
    let (board, keepsake) = Board::kept((rows, plan.children as usize), sessions, plan.grouping(), left)
        .map_err(system("no shared memory for the scoreboard"))?;
    let mut keepsakes = std::mem::take(&mut plan.keepsakes);
    keepsakes.push(keepsake);
    for (one, why) in keepsakes.iter().filter_map(|one| Some((one, one.refused.as_ref()?))) {
        log(
            Level::Warning,
            &format!("{} of the former master cannot be used, and begin anew: {why}", one.key),
        );
    }
    let door = match heritage {
        Some(_) => None,
        None => {
            warn_of_another(&plan, log);
            open_door(&plan, &*service, log)
        }
    };
    let root = account.is_some() || heritage.as_ref().is_some_and(Heritage::began_as_root);
    Ok(Prepared::Master(Box::new(Start {
        board,
        keepsakes,
        door,
        show,
        plan,
        listeners,
        inherited,
        service,
        pid_file,
        launch,
        nice,
        heritage: heritage.take(),
        home: account.map(Account::into_home),
        root,
    })))
}

/// Takes the pid file: the former master's, or one of our own.
fn claim(plan: &Plan, heritage: Option<&mut Heritage>) -> Result<Option<PidFile>, String> {
    let Some(path) = &plan.pid_file else { return Ok(None) };
    let left = heritage.and_then(|heritage| heritage.pid_file.take());
    match left.and_then(|file| PidFile::inherit(file, path)) {
        Some(file) => Ok(Some(file)),
        None => PidFile::claim(path).map(Some),
    }
}

fn announce(listeners: &[Socket], log: Log<'_>) {
    for listener in listeners {
        tell(format_args!("listening on {}", name(listener)));
        log(Level::Info, &format!("Listening on {}", shown(listener)));
    }
}

/// Says so if the control socket of a master that lives is about to be replaced.
fn warn_of_another(plan: &Plan, log: Log<'_>) {
    if let Some(path) = plan.control.as_deref().filter(|path| UnixStream::connect(path).is_ok()) {
        let path = path.display();
        let words = format!(
            "another master answers at {path}, and cannot be reached there any more; give one of them its own --control"
        );
        log(Level::Warning, &words);
    }
}

/// Makes the control socket, if it is wanted and can be had.
pub(super) fn open_door(plan: &Plan, service: &dyn Service, log: Log<'_>) -> Option<Door> {
    let path = plan.control.as_deref().filter(|_| service.console().is_some())?;
    let complain = |e: &io::Error| {
        log(Level::Error, &format!("no control socket {}: {e}", path.display()));
    };
    Door::open(path).inspect_err(complain).ok()
}

/// The listener of the status page, a former master's or our own, announced like the others.
fn bind_show(address: SocketAddr, left: Option<TcpListener>) -> Result<TcpListener, String> {
    let told = |e| format!("cannot listen on {address}: {e}");
    let listener = left.map_or_else(|| TcpListener::bind(address), Ok).map_err(told)?;
    tell(format_args!("status on {}", listener.local_addr().map_err(told)?));
    Ok(listener)
}

/// Loads a generation; a panic and a thread that was left running are faults like any other.
pub(super) fn load_soundly(load: Load<'_>, purpose: Purpose) -> Result<Arc<dyn Service>, String> {
    let loaded = catch_unwind(AssertUnwindSafe(|| load(purpose)));
    let service = loaded.unwrap_or_else(|_| Err("panic while loading".into()))?;
    match sys::threads() {
        1 => Ok(service),
        n => Err(format!(
            "loading left {n} threads running, which no worker would inherit"
        )),
    }
}
