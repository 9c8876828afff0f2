//! The command line of qpsmtpctl.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{Cert, Passwd, VERSION};
use crate::daemon;

/// Checks and explains the configuration of qpsmtpd, and speaks to a running master.
///
/// Exit codes: 0 done; 1 the master refused; 69 no master answers; 78 the configuration is faulty.
#[derive(Parser, Debug)]
#[command(name = "qpsmtpctl", version = VERSION, max_term_width = 100, arg_required_else_help = true)]
pub struct Control {
    /// What to do
    #[command(subcommand)]
    pub task: Task,

    /// Which master to speak to.
    #[command(flatten)]
    pub master: Master,
}

/// Which master to speak to, and how.
#[derive(Args, Debug)]
pub struct Master {
    /// Directory of the configuration files, instead of ./config
    #[arg(long, value_name = "DIR", global = true)]
    pub config: Option<PathBuf>,

    /// The control socket of the master [default: control in the spool directory of the configuration]
    #[arg(long, value_name = "PATH", global = true)]
    pub control: Option<PathBuf>,

    /// Print the answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// What qpsmtpctl can do.
#[derive(Subcommand, Debug)]
pub enum Task {
    /// Load everything the daemon would load and print every fault; exit 78 if there is an error
    Check,
    /// Make a certificate for plugin tls, and a CA to sign it; a CA that is there is used again
    Cert(Box<Cert>),
    /// Add, change or remove a user of plugin auth/auth_flat_file; the password is asked for, or the first line of stdin
    Passwd(Passwd),
    /// Print a manual page, to be read with `man -l -`
    Man {
        /// qpsmtpd-prefork, qpsmtpd-forkserver, qpsmtpd, qpsmtpctl, qpsmtpd-config or qpsmtpd-plugins
        page: String,
    },
    /// A summary: state, generation, workers, sessions, messages, replies
    Status,
    /// Sessions with peer, phase, and the plugin and hook that run
    List {
        /// The oldest so many; with a minus the newest
        #[arg(allow_hyphen_values = true)]
        number: Option<i64>,
    },
    /// Sessions, rates and plugins, live
    Top {
        /// Seconds between two looks
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
        every: f64,
        /// End after so many looks
        #[arg(long, value_name = "N")]
        rounds: Option<u32>,
    },
    /// Worker processes
    Workers,
    /// Verdicts and latencies of each plugin at each hook
    Plugins,
    /// The limits that hold
    Limits,
    /// Counters in the text format of Prometheus
    Metrics,
    /// End the sessions of a client, or one session, with 550
    Kill {
        /// The client's address, or the id that list shows
        which: String,
    },
    /// Put off new clients with 451 until continue
    Pause,
    /// Serve new clients again
    Continue,
    /// Send new clients away with 421, and wait until no session is left; continue undoes it
    Drain,
    /// Load the configuration anew, and wait until it is in force; prints the faults if it is not sound
    Reload {
        /// Give it to so many workers first, and to all when these do no worse than the others: in what they accept,
        /// put off and refuse, in errors and crashes; 0 to all at once [default: --canary of the daemon]
        #[arg(long, value_name = "N")]
        canary: Option<u32>,
        /// Watch them so long: 60, 60s, 5m, 1h [default: --canary-for of the daemon]
        #[arg(long = "for", value_name = "TIME", requires = "canary", value_parser = span)]
        span: Option<Duration>,
    },
    /// Start the program anew, which by now may be another release, and wait until that serves in the daemon's place
    Upgrade,
    /// Set up to which level is logged, by all workers, or show it
    LogLevel {
        /// LOGEMERG to LOGDEBUG, 0 to 7, or default for what the configuration says
        level: Option<String>,
        /// The plugin whose records it holds for, as `plugins` or config/plugins names it [default: all; default
        /// forgets those of plugins, too]
        plugin: Option<String>,
    },
    /// End the daemon as SIGTERM does, and wait for its end
    Shutdown {
        /// Without letting transactions finish
        #[arg(long)]
        now: bool,
    },
}

impl Control {
    /// Reads the command line; prints help and ends the process where that is asked for.
    pub fn read() -> Control {
        Control::parse()
    }

    /// Does what is asked for; returns the exit code.
    pub fn run(self) -> ExitCode {
        let Control { task, master } = self;
        let (config, socket) = (master.config.as_deref(), master.control.as_deref());
        match (task.question(), task) {
            (Some(question), _) if master.json => daemon::ask(config, socket, &format!("json {question}")),
            (Some(question), _) => daemon::ask(config, socket, &question),
            (_, Task::Cert(options)) => daemon::cert::run(&(*options).into()),
            (_, Task::Passwd(options)) => daemon::passwd::run(&options.order(config)),
            (_, Task::Man { page }) => daemon::man(&page),
            (_, Task::Top { every, rounds }) => {
                let pause = Duration::try_from_secs_f64(every).unwrap_or(Duration::from_secs(1));
                daemon::top(config, socket, pause, rounds)
            }
            _ => daemon::check(config),
        }
    }
}

/// A time: seconds, or a number with its unit.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    let number = number.parse::<u32>().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| format!("'{text}' is no time (60, 60s, 5m or 1h)"))?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

impl Task {
    /// What the master is asked; none for what needs no master, or more than one question.
    fn question(&self) -> Option<String> {
        let with = |word: &str, argument: Option<String>| match argument {
            Some(argument) => format!("{word} {argument}"),
            None => word.to_owned(),
        };
        Some(match self {
            Task::Check | Task::Cert(_) | Task::Passwd(_) | Task::Man { .. } | Task::Top { .. } => return None,
            Task::Status => "status".into(),
            Task::List { number } => with("list", number.map(|number| number.to_string())),
            Task::Workers => "workers".into(),
            Task::Plugins => "plugins".into(),
            Task::Limits => "limits".into(),
            Task::Metrics => "metrics".into(),
            Task::Kill { which } => with("kill", Some(which.clone())),
            Task::Pause => "pause".into(),
            Task::Continue => "continue".into(),
            Task::Drain => "drain".into(),
            Task::Reload { canary, span } => {
                let seconds = span.map_or_else(String::new, |span| format!(" {}", span.as_secs()));
                with("reload", canary.map(|workers| format!("canary {workers}{seconds}")))
            }
            Task::Upgrade => "upgrade".into(),
            Task::LogLevel { level, plugin } => {
                let words: Vec<&str> = level.iter().chain(plugin).map(String::as_str).collect();
                with("log-level", (!words.is_empty()).then(|| words.join(" ")))
            }
            Task::Shutdown { now } => with("shutdown", now.then(|| "now".to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(words: &[&str]) -> Option<String> {
        let whole = [&["qpsmtpctl"], words].concat();
        Control::try_parse_from(whole).ok()?.task.question()
    }

    #[test]
    fn a_reload_may_be_tried_first() {
        let asked = |words: &[&str]| question(words).unwrap_or_default();
        assert_eq!(asked(&["reload"]), "reload");
        assert_eq!(asked(&["reload", "--canary", "2"]), "reload canary 2");
        assert_eq!(
            asked(&["reload", "--canary", "2", "--for", "60s"]),
            "reload canary 2 60"
        );
        assert_eq!(asked(&["reload", "--canary", "0"]), "reload canary 0");
        assert_eq!(question(&["reload", "--for", "60s"]), None);
    }

    #[test]
    fn times_have_units() {
        let seconds = |text: &str| span(text).ok().map(|span| span.as_secs());
        assert_eq!(["60", "60s", "5m", "1h"].map(seconds), [60, 60, 300, 3600].map(Some));
        assert_eq!(["", "s", "0", "-1", "1d", "1.5h"].map(seconds), [None; 6]);
    }
}
