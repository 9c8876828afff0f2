//! The command line of qpsmtpd-forkserver (catalogue 8.2).

use std::path::PathBuf;

use clap::Parser;

use super::{Bind, Common, VERSION, more};
use crate::daemon::Start;
use crate::prefork::Plan;

/// Receives mail by SMTP; the daemon of qpsmtpd-prefork under the option names of qpsmtpd-forkserver.
#[derive(Parser, Debug)]
#[command(name = "qpsmtpd-forkserver", version = VERSION, max_term_width = 100, after_help = more())]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Forkserver {
    /// Address to listen on, with or without a port (0: any free one); may be given several times. smtps:// before it
    /// is TLS from the first byte, as port 465 is by itself; smtp:// is without; lmtp:// is LMTP, as is a unix socket
    /// (unix:/PATH or lmtp:///PATH)
    #[arg(short, long, value_name = "[smtps://]ADDR[:PORT]", help_heading = "Listening")]
    listen_address: Vec<Bind>,

    /// Port of the addresses without one of their own; may be given several times [default: 2525]
    #[arg(short, long, value_name = "PORT", help_heading = "Listening")]
    port: Vec<u16>,

    /// Sessions there may be at a time
    #[arg(short = 'c', long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Limits")]
    limit_connections: u32,

    /// Sessions that one client address may have at a time; 0 is no limit
    #[arg(short, long, value_name = "N", default_value_t = 5, help_heading = "Limits")]
    max_from_ip: u32,

    /// User to serve as [default: smtpd, else nobody, when started by root]
    #[arg(short, long, value_name = "USER", help_heading = "Processes")]
    user: Option<String>,

    /// File to keep the master's process id in; its owner alone can read it
    #[arg(long, value_name = "FILE", help_heading = "Processes")]
    pid_file: Option<PathBuf>,

    /// Go to the background when everything is ready; standard error is nowhere then, so that the log needs a plugin in
    /// config/logging
    #[arg(short, long, help_heading = "Processes")]
    detach: bool,

    #[command(flatten)]
    common: Common,
}

impl Forkserver {
    /// Reads the command line; prints help and ends the process where that is asked for.
    pub fn read() -> Forkserver {
        Forkserver::parse()
    }
}

impl From<Forkserver> for Start {
    fn from(options: Forkserver) -> Start {
        let Forkserver { common, .. } = options;
        let plan = Plan {
            children: options.limit_connections,
            idle_children: options.limit_connections.min(5),
            max_from_ip: options.max_from_ip,
            user: options.user,
            renice_parent: 0,
            pid_file: options.pid_file,
            detach: options.detach,
            ..common.plan()
        };
        let ports = match options.port {
            none if none.is_empty() => vec![2525],
            given => given,
        };
        Start {
            control: common.door(),
            walls: common.walls(),
            config: common.config,
            check: common.check,
            loglevel: None,
            reverse_name: !common.no_rdns,
            addresses: options.listen_address,
            ports,
            plan,
        }
    }
}
