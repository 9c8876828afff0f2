//! The command lines of the programs: the original's names and defaults (catalogue 8), and what is new.
//!
//! The only door to clap, with the manual pages that are made of it.

mod bind;
mod bounds;
mod cert;
mod control;
mod forkserver;
mod manual;
mod passwd;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser};

use crate::daemon::{Door, Start, Walls};
use crate::prefork::{Plan, SocketRights, Trial};

pub use bind::{Bind, Place, Scheme};
use bounds::Bounds;
use manual::more;

pub use cert::Cert;
pub use control::{Control, Master, Task};
pub use forkserver::Forkserver;
pub use manual::manual;
pub use passwd::Passwd;

/// Version and commit, for `--version`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("QPSMTPD_COMMIT"), ")");

/// What both daemons take besides their own options.
#[derive(Args, Debug)]
struct Common {
    /// Directory of the configuration files, instead of ./config
    #[arg(long, value_name = "DIR", help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// Check the configuration, print every fault, and exit
    #[arg(short = 'n', long, help_heading = "Configuration")]
    check: bool,

    /// Sessions that a worker serves at a time, on threads if they are more than one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Processes")]
    sessions: u32,

    /// Sessions that a worker serves before another takes its place [default: 100 for each that it may have at a time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Processes")]
    lifetime: Option<u64>,

    /// Seconds that transactions may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30, help_heading = "Processes")]
    grace: u64,

    /// Workers that get a new configuration first at HUP and reload; when they do no worse than the others, all get it
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Processes")]
    canary: u32,

    /// Seconds that they are watched
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Processes")]
    canary_for: u32,

    /// Permissions of unix sockets to listen on
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = bind::mode, help_heading = "Listening")]
    socket_mode: u32,

    /// Whose unix sockets to listen on are [default: the user who serves, and its group]
    #[arg(long, value_name = "[USER][:GROUP]", help_heading = "Listening")]
    socket_owner: Option<String>,

    /// Where to make the control socket that qpsmtpctl speaks to; 'none' makes none [default: control in the spool
    /// directory]
    #[arg(long, value_name = "PATH", help_heading = "Seeing")]
    control: Option<PathBuf>,

    /// Address for a status page, metrics and health checks by HTTP, from a process of its own
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Seeing")]
    status_listen: Option<SocketAddr>,

    #[command(flatten)]
    bounds: Bounds,

    /// Do not ask DNS for the names of clients
    #[arg(short = 'H', long, help_heading = "Limits")]
    no_rdns: bool,

    /// Let workers reach all files of their user (Landlock)
    #[arg(long, help_heading = "Confinement")]
    no_landlock: bool,

    /// Let workers make any system call (seccomp)
    #[arg(long, help_heading = "Confinement")]
    no_seccomp: bool,

    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort, help_heading = "About")]
    help: Option<bool>,

    /// Print version and commit
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "About")]
    version: Option<bool>,
}

/// Receives mail by SMTP with a pool of preforked workers; plugins decide what becomes of it. Without options it
/// serves the configuration in ./config on the address of config/IP and the port of config/port.
#[derive(Parser, Debug)]
#[command(name = "qpsmtpd-prefork", version = VERSION, max_term_width = 100, after_help = more())]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Prefork {
    /// Address to listen on, with or without a port (0: any free one); may be given several times. smtps:// before it
    /// is TLS from the first byte, as port 465 is by itself; smtp:// is without; lmtp:// is LMTP, as is a unix socket
    /// (unix:/PATH or lmtp:///PATH)
    #[arg(
        long,
        visible_alias = "interface",
        value_name = "[smtps://]ADDR[:PORT]",
        help_heading = "Listening"
    )]
    listen_address: Vec<Bind>,

    /// Port of the addresses without one of their own [default: config/port, else 25 as root, else 2525]
    #[arg(long, value_name = "PORT", help_heading = "Listening")]
    port: Option<u16>,

    /// Sessions that one client address may have at a time; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Limits")]
    max_from_ip: u32,

    /// The most workers there may be
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Processes")]
    children: u32,

    /// Sessions to keep room for, in workers that wait for connections; 0 is all
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Processes")]
    idle_children: u32,

    /// Name the processes for what they do
    #[arg(long, help_heading = "Processes")]
    pretty_child: bool,

    /// User to serve as [default: smtpd, else nobody, when started by root]
    #[arg(long, value_name = "USER", help_heading = "Processes")]
    user: Option<String>,

    /// How much nicer the master is than its workers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        allow_hyphen_values = true,
        help_heading = "Processes"
    )]
    renice_parent: i32,

    /// File to keep the master's process id in; its owner alone can read it
    #[arg(long, value_name = "FILE", help_heading = "Processes")]
    pid_file: Option<PathBuf>,

    /// Go to the background when everything is ready; standard error is nowhere then, so that the log needs a plugin in
    /// config/logging
    #[arg(long, help_heading = "Processes")]
    detach: bool,

    /// Log errors only, whatever config/loglevel says
    #[arg(long, conflicts_with = "debug", help_heading = "Log")]
    quiet: bool,

    /// Log everything, whatever config/loglevel says
    #[arg(long, help_heading = "Log")]
    debug: bool,

    #[command(flatten)]
    common: Common,
}

/// Serves one SMTP session on stdin and stdout: for tcpserver, inetd, xinetd, or systemd with Accept=yes.
///
/// Facts of the connection come from the environment of tcpserver (TCPREMOTEIP and so on), else from the socket.
/// DATABYTES overrides config/databytes; RELAYCLIENT lets the client relay (plugin relay).
#[derive(Parser, Debug)]
#[command(name = "qpsmtpd", version = VERSION, max_term_width = 100)]
pub struct Single {
    /// Directory of the configuration files, instead of ./config
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,

    /// Do not ask DNS for the name of the client
    #[arg(short = 'H', long)]
    pub no_rdns: bool,

    /// Speak LMTP, and not SMTP
    #[arg(long)]
    pub lmtp: bool,
}

impl Prefork {
    /// Reads the command line; prints help and ends the process where that is asked for.
    pub fn read() -> Prefork {
        Prefork::parse()
    }
}

impl Single {
    /// Reads the command line; prints help and ends the process where that is asked for.
    pub fn read() -> Single {
        Single::parse()
    }
}

impl Common {
    fn walls(&self) -> Walls {
        Walls {
            landlock: !self.no_landlock,
            seccomp: !self.no_seccomp,
        }
    }

    fn door(&self) -> Door {
        match &self.control {
            None => Door::Usual,
            Some(path) if path.as_os_str() == "none" => Door::Off,
            Some(path) => Door::At(path.clone()),
        }
    }

    fn plan(&self) -> Plan {
        self.bounds.limit(Plan {
            show: self.status_listen,
            socket: SocketRights {
                mode: self.socket_mode,
                owner: self.socket_owner.clone(),
            },
            sessions: self.sessions,
            sessions_per_worker: self.lifetime.unwrap_or(100 * u64::from(self.sessions)),
            grace: Duration::from_secs(self.grace),
            trial: (self.canary > 0).then_some(Trial {
                workers: self.canary,
                span: Duration::from_secs(self.canary_for.into()),
            }),
            ..Plan::default()
        })
    }
}

impl From<Prefork> for Start {
    fn from(options: Prefork) -> Start {
        let Prefork { common, .. } = options;
        let plan = Plan {
            children: options.children,
            idle_children: options.idle_children,
            max_from_ip: options.max_from_ip,
            user: options.user,
            renice_parent: options.renice_parent,
            pid_file: options.pid_file,
            detach: options.detach,
            pretty_child: options.pretty_child,
            ..common.plan()
        };
        let loglevel = match (options.quiet, options.debug) {
            (true, _) => Some(crate::log::Level::Error),
            (_, true) => Some(crate::log::Level::Debug),
            _ => None,
        };
        Start {
            control: common.door(),
            walls: common.walls(),
            config: common.config,
            check: common.check,
            loglevel,
            reverse_name: !common.no_rdns,
            addresses: options.listen_address,
            ports: options.port.into_iter().collect(),
            plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_lines_are_sound() {
        Prefork::command().debug_assert();
        Forkserver::command().debug_assert();
        Single::command().debug_assert();
        Control::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let start = Start::from(Prefork::parse_from(["x"]));
        assert_eq!(
            (start.plan.children, start.plan.idle_children, start.plan.max_from_ip),
            (15, 5, 10)
        );
        assert_eq!((start.plan.renice_parent, start.plan.sessions_per_worker), (5, 100));
        let start = Start::from(Forkserver::parse_from(["x"]));
        assert_eq!(
            (start.plan.children, start.plan.max_from_ip, start.ports),
            (15, 5, vec![2525])
        );
    }
}
