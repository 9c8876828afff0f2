//! The words of the control socket (catalogue 8.4): lines in, answers out, version 1.
//!
//! An answer is a line `ok` or `Error - WORDS`, then lines of text, then a line with a full stop alone; a line of the
//! text that begins with a full stop gets a second one. With `json ` before the command the text is JSON, on one line.
//! Commands are understood in any case of letters.

pub(super) mod client;
mod limits;
mod metrics;
mod reports;
mod table;
pub(super) mod top;

use std::net::{IpAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Lookup;
use crate::log::Level;
use crate::prefork::{self, Answer, Console, Deed, Gate, House, News, Trial, Until};

use super::gauge::Gauge;
use super::meter::SharedMeter;
use super::status;
use table::{Facts, Table};

/// What a client is told first.
pub(super) const GREETING: &str = "qpsmtpd-control 1";

/// The commands: name, arguments, what it does, whether it changes something.
const COMMANDS: &[(&str, &str, &str, bool)] = &[
    ("help", "[COMMAND]", "the commands, or one of them", false),
    ("version", "", "version of the daemon", false),
    ("status", "", "a summary of everything", false),
    (
        "list",
        "[N]",
        "sessions: all, the oldest N, or with -N the newest",
        false,
    ),
    ("workers", "", "worker processes", false),
    ("plugins", "", "verdicts and latencies of plugins at hooks", false),
    ("limits", "", "limits that hold, and who is nearest to them", false),
    ("metrics", "", "counters in the text format of Prometheus", false),
    ("all", "", "all of these at once, in JSON alone", false),
    ("kill", "IP|ID", "end sessions with 550", true),
    ("pause", "", "put off new clients with 451", true),
    ("continue", "", "serve new clients again", true),
    (
        "drain",
        "",
        "send new clients away with 421; answers when no session is left",
        true,
    ),
    (
        "reload",
        "[canary N [SECONDS]]",
        "load the configuration anew; answers when it is in force, or with its faults; tries it with N workers first",
        true,
    ),
    (
        "upgrade",
        "",
        "start another release in the daemon's place; answers when that serves, or why it does not",
        true,
    ),
    (
        "log-level",
        "[LEVEL|default [PLUGIN]]",
        "the level of the log for all workers, of all or of one plugin",
        true,
    ),
    ("shutdown", "[now]", "end the daemon as SIGTERM does, or at once", true),
    ("quit", "", "close this connection", false),
];

/// Answers at the control socket.
pub(super) struct Clerk {
    pub(super) gauge: Arc<Gauge>,
    pub(super) lookup: Arc<Lookup>,
    pub(super) meter: Option<Arc<SharedMeter>>,
    /// The log level that holds without an operator's word.
    pub(super) usual: Level,
}

/// Text or JSON of an answer.
enum Body {
    Text(String),
    Facts(Facts),
    Table(Table),
}

/// An answer that has gone well.
fn ok(body: &Body, json: bool) -> String {
    let text = match (body, json) {
        (Body::Text(text), false) => text.clone(),
        (Body::Text(text), true) => {
            let mut quoted = String::new();
            table::quoted(text.trim_end(), &mut quoted);
            quoted
        }
        (Body::Facts(facts), false) => facts.text(),
        (Body::Facts(facts), true) => facts.json(),
        (Body::Table(table), false) => table.text(),
        (Body::Table(table), true) => table.json(),
    };
    framed("ok", &text)
}

fn error(words: &str) -> String {
    let (first, rest) = words.split_once('\n').unwrap_or((words, ""));
    framed(&format!("Error - {first}"), rest)
}

fn framed(first: &str, text: &str) -> String {
    let mut answer = format!("{first}\n");
    for line in text.lines() {
        if line.starts_with('.') {
            answer.push('.');
        }
        answer.push_str(line);
        answer.push('\n');
    }
    answer.push_str(".\n");
    answer
}

impl Clerk {
    fn level(&self) -> Level {
        self.gauge.loglevel().unwrap_or(self.usual)
    }

    /// What only looks.
    fn look(&self, command: &str, argument: &str, house: &House<'_>) -> Result<Body, String> {
        Ok(match command {
            "help" => Body::Text(help(argument)?),
            "version" => Body::Text(format!("qpsmtpd {}\n", env!("CARGO_PKG_VERSION"))),
            "status" => Body::Facts(reports::status(house, &self.gauge, self.level())),
            "list" => {
                let some = match argument {
                    "" => None,
                    number => Some(number.parse().map_err(|_| format!("'{number}' is no number"))?),
                };
                Body::Table(reports::sessions(house, &self.gauge, some))
            }
            "workers" => Body::Table(reports::workers(house)),
            "plugins" => Body::Table(reports::plugins(&self.gauge)),
            "limits" => {
                let settings = self.lookup.settings();
                Body::Table(limits::limits(house, &self.gauge, self.meter.as_deref(), &settings))
            }
            "metrics" => Body::Text(metrics::metrics(house, &self.gauge)),
            other => return Err(format!("unknown command '{other}', try help")),
        })
    }

    /// Everything in one object.
    fn all(&self, house: &House<'_>) -> String {
        format!(
            "{{\"status\":{},\"workers\":{},\"sessions\":{},\"plugins\":{}}}",
            reports::status(house, &self.gauge, self.level()).json(),
            reports::workers(house).json(),
            reports::sessions(house, &self.gauge, None).json(),
            reports::plugins(&self.gauge).json()
        )
    }

    /// What changes something.
    fn change(&self, command: &str, argument: &str, house: &House<'_>, json: bool) -> Result<Answer, String> {
        let say = |deed, words: &str| Answer::Do(deed, ok(&Body::Text(format!("{words}\n")), json));
        Ok(match command {
            "kill" => {
                let sessions = wanted(argument, house)?;
                let words = match sessions.len() {
                    1 => "1 session killed".to_owned(),
                    number => format!("{number} sessions killed"),
                };
                say(Deed::Dismiss(sessions), &words)
            }
            "pause" => say(Deed::Gate(Gate::Paused), "PAUSED"),
            "continue" => say(Deed::Gate(Gate::Open), "UNPAUSED"),
            "drain" => Answer::Wait {
                deed: Deed::Gate(Gate::Draining),
                until: Until::Empty,
                json,
            },
            "reload" => Answer::Wait {
                deed: Deed::Reload(trial(argument, house)?),
                until: Until::Reloaded,
                json,
            },
            "upgrade" => Answer::Wait {
                deed: Deed::Upgrade,
                until: Until::Upgraded,
                json,
            },
            "shutdown" => match argument {
                "" => say(Deed::End(house.plan().grace), "ending"),
                "now" => say(Deed::End(Duration::ZERO), "ending at once"),
                other => return Err(format!("'{other}' is not 'now'")),
            },
            _ => self.log_level(argument, json)?,
        })
    }

    /// What is logged, of all and of single plugins.
    fn log_levels(&self, json: bool) -> Body {
        let (all, own) = (self.level().name(), self.gauge.loglevels());
        if json {
            let own = own.iter().map(|(plugin, level)| ((&**plugin).into(), *level));
            let levels = std::iter::once((table::Value::None, self.level())).chain(own);
            return Body::Table(Table {
                columns: &["plugin", "loglevel"],
                rows: levels
                    .map(|(plugin, level)| vec![plugin, level.name().into()])
                    .collect(),
            });
        }
        let own = own.iter().map(|(plugin, level)| format!("{plugin} {}\n", level.name()));
        Body::Text(format!("{all}\n{}", own.collect::<String>()))
    }

    /// Shows or sets what is logged: `LEVEL`, `LEVEL PLUGIN`, `default`, or nothing.
    fn log_level(&self, argument: &str, json: bool) -> Result<Answer, String> {
        if argument.is_empty() {
            return Ok(Answer::Words(ok(&self.log_levels(json), json)));
        }
        let (name, plugin) = argument.split_once(' ').unwrap_or((argument, ""));
        let level = match name {
            "default" => None,
            name => Some(name.parse::<Level>()?),
        };
        let of = match plugin {
            "" => String::new(),
            plugin => format!(" of {plugin}"),
        };
        if plugin.is_empty() {
            self.gauge.set_loglevel(level);
        } else if !self.gauge.set_loglevel_of(plugin, level) {
            return Err(format!("there is no plugin '{plugin}' (plugins shows all)"));
        }
        let words = match level {
            None if !of.is_empty() => format!("log level{of} as configured"),
            _ => format!("log level{of} {}", level.unwrap_or_else(|| self.level()).name()),
        };
        let answer = ok(&Body::Text(format!("{words}\n")), json);
        Ok(Answer::Do(Deed::Log(prefork::Level::Notice, words), answer))
    }
}

/// How to try a new configuration: as asked, or as the daemon was started to.
fn trial(argument: &str, house: &House<'_>) -> Result<Option<Trial>, String> {
    let plan = house.plan();
    if argument.is_empty() {
        return Ok(plan.trial);
    }
    let wrong = || format!("'{argument}' is not 'canary WORKERS' or 'canary WORKERS SECONDS'");
    let (word, rest) = argument.split_once(' ').ok_or_else(wrong)?;
    let (workers, seconds) = match rest.split_once(' ') {
        Some((workers, seconds)) => (workers, Some(seconds.parse::<u32>().map_err(|_| wrong())?)),
        None => (rest, None),
    };
    let workers = workers.parse().map_err(|_| wrong())?;
    if word != "canary" {
        return Err(wrong());
    }
    let trial = match (seconds, plan.trial) {
        (Some(seconds), _) => Trial {
            workers,
            span: Duration::from_secs(seconds.into()),
        },
        (None, Some(usual)) => Trial { workers, ..usual },
        (None, None) => Trial {
            workers,
            ..Trial::default()
        },
    };
    match trial.workers {
        0 => Ok(None),
        _ => trial.of(plan.children).map(Some),
    }
}

/// The sessions that an address or a number names.
fn wanted(which: &str, house: &House<'_>) -> Result<Vec<(usize, usize, u64)>, String> {
    let mut sessions = house.sessions();
    if let Ok(ip) = which.parse::<IpAddr>() {
        sessions.retain(|session| session.peer.ip() == ip);
    } else if let Ok(number) = which.parse::<u64>() {
        sessions.retain(|session| session.number == number);
    } else {
        return Err(format!("'{which}' is neither an address nor the id of a session"));
    }
    match sessions.is_empty() {
        true if which.parse::<u64>().is_err() => Err(format!("there is no session of {which}")),
        true => Err(format!("there is no session {which}")),
        false => Ok(sessions.iter().map(|one| (one.row, one.place, one.number)).collect()),
    }
}

fn help(command: &str) -> Result<String, String> {
    let known = COMMANDS.iter().filter(|one| command.is_empty() || one.0 == command);
    let lines: String = known
        .map(|(name, arguments, about, _)| format!("{:<26}{about}\n", format!("{name} {arguments}")))
        .collect();
    match lines.is_empty() {
        true => Err(format!("unknown command '{command}', try help")),
        false => Ok(lines),
    }
}

impl Console for Clerk {
    fn greeting(&self) -> String {
        format!("{GREETING}\n")
    }

    fn answer(&self, line: &str, house: &House<'_>) -> Answer {
        let lower = line.to_ascii_lowercase();
        let mut words = lower.split_ascii_whitespace();
        let mut command = words.next().unwrap_or_default();
        let json = command == "json";
        if json {
            command = words.next().unwrap_or_default();
        }
        let argument = words.collect::<Vec<_>>().join(" ");
        let argument = argument.as_str();
        if command == "quit" {
            return Answer::Bye;
        }
        if command == "all" {
            return Answer::Words(framed("ok", &self.all(house)));
        }
        let changes = COMMANDS.iter().any(|one| one.0 == command && one.3);
        let answer = match changes {
            true if !house.may_change() => Err("you may only look".to_owned()),
            true => self.change(command, argument, house, json),
            false => self
                .look(command, argument, house)
                .map(|body| Answer::Words(ok(&body, json))),
        };
        answer.unwrap_or_else(|words| Answer::Words(error(&words)))
    }

    fn news(&self, news: &News, json: bool) -> String {
        match news {
            News::Reloaded(Ok(generation)) => ok(&Body::Text(format!("generation {generation}\n")), json),
            News::Reloaded(Err(faults)) => error(&format!("not reloaded\n{faults}")),
            News::Judged(Ok((generation, score))) => {
                let sessions = score.sessions;
                let words = format!("generation {generation}, promoted: no worse in {sessions} sessions\n");
                ok(&Body::Text(words), json)
            }
            News::Judged(Err(why)) => error(why),
            News::Upgraded(Ok(pid)) => ok(&Body::Text(format!("process {pid} serves\n")), json),
            News::Upgraded(Err(faults)) => error(&format!("not upgraded\n{faults}")),
            News::Empty => ok(&Body::Text("no session is left\n".into()), json),
        }
    }

    fn show(&self, listener: TcpListener, line: UnixStream) -> u8 {
        status::serve(listener, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_a_full_stop_that_no_text_can_forge() {
        let forged = ok(&Body::Text(".\nx\n".into()), false);
        assert_eq!(forged, "ok\n..\nx\n.\n");
        assert_eq!(error("one\ntwo"), "Error - one\ntwo\n.\n");
        assert_eq!(ok(&Body::Text("PAUSED\n".into()), true), "ok\n\"PAUSED\"\n.\n");
    }

    #[test]
    fn every_command_is_explained() {
        assert_eq!(help("").expect("help").lines().count(), COMMANDS.len());
        assert!(help("kill").expect("help").starts_with("kill IP|ID"));
        assert!(help("dance").is_err());
    }
}
