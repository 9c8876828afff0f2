//! What can be seen of the daemon: a summary, sessions, workers, plugins, limits.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::gauge::Gauge;
use super::table::{Facts, Table, Value};
use crate::log::Level;
use crate::prefork::{self, Gate, House};
use crate::session::{Ruling, Stage, Tally};

/// The word for what the daemon does with new clients.
pub(super) fn state(house: &House<'_>) -> &'static str {
    match house.gate() {
        _ if house.is_ending() => "ending",
        Gate::Open => "serving",
        Gate::Paused => "paused",
        Gate::Draining => "draining",
    }
}

/// The summary.
pub(super) fn status(house: &House<'_>, gauge: &Gauge, level: Level) -> Facts {
    let (workers, plan) = (house.workers(), house.plan());
    let count = |state: &str| workers.iter().filter(|worker| worker.state == state).count();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut facts: Vec<(&'static str, Value)> = vec![
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("master", std::process::id().into()),
        ("time", time.as_secs().into()),
        ("uptime", house.uptime().into()),
        ("state", state(house).into()),
        ("generation", house.generation().into()),
        ("on_trial", trial(house)),
        ("sessions", house.sessions().len().into()),
        ("most_sessions", plan.most_sessions().into()),
        ("workers", workers.len().into()),
        ("most_workers", plan.children.into()),
        ("busy_workers", count("busy").into()),
        ("idle_workers", count("idle").into()),
        ("loglevel", level.name().into()),
        ("refused_by_limit", house.refused().into()),
    ];
    facts.extend(Tally::ALL.iter().map(|what| (what.word(), gauge.tally(*what).into())));
    Facts(facts)
}

/// The configuration on trial, with its workers and what is left of its time.
fn trial(house: &House<'_>) -> Value {
    let Some(trial) = house.trial() else {
        return Value::None;
    };
    let left = trial.until.saturating_duration_since(Instant::now()).as_secs();
    let (generation, workers) = (trial.generation, prefork::workers(trial.workers));
    Value::Text(format!("generation {generation}, {workers}, {left}s left"))
}

/// Sessions by age: all, the oldest `some`, or the newest if that is negative (catalogue 8.4).
pub(super) fn sessions(house: &House<'_>, gauge: &Gauge, some: Option<i64>) -> Table {
    let mut sessions = house.sessions();
    let wanted = some.map_or(usize::MAX, |some| some.unsigned_abs() as usize);
    if some.is_some_and(|some| some < 0) {
        sessions.reverse();
    }
    sessions.truncate(wanted);
    let pids: Vec<(usize, u32)> = house.workers().iter().map(|worker| (worker.row, worker.pid)).collect();
    let rows = sessions.iter().map(|session| {
        let pid = pids.iter().find(|(row, _)| *row == session.row).map(|(_, pid)| *pid);
        let stage = usize::from(session.stage.0)
            .checked_sub(1)
            .and_then(|at| Stage::ALL.get(at));
        let running = gauge.marked(session.task.0);
        let since = if running.is_some() {
            session.task.1
        } else {
            session.stage.1
        };
        vec![
            session.number.into(),
            pid.map_or(Value::None, Value::from),
            peer(session.peer.ip()).into(),
            u32::from(session.peer.port()).into(),
            session.age.into(),
            stage.map_or(Value::None, |stage| stage.word().into()),
            running.as_ref().map_or(Value::None, |one| (&*one.plugin).into()),
            running.as_ref().map_or(Value::None, |one| one.hook.name().into()),
            if stage.is_some() { since.into() } else { Value::None },
        ]
    });
    Table {
        columns: &["id", "pid", "peer", "port", "age", "phase", "plugin", "hook", "for"],
        rows: rows.collect(),
    }
}

/// A client, as it is shown.
fn peer(ip: IpAddr) -> String {
    match ip {
        // whoever came by a unix socket has no address
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => "unix".to_owned(),
        ip => ip.to_string(),
    }
}

/// Workers by row.
pub(super) fn workers(house: &House<'_>) -> Table {
    let sessions = house.sessions();
    let rows = house.workers().into_iter().map(|worker| {
        let own = sessions.iter().filter(|session| session.row == worker.row).count();
        vec![
            worker.row.into(),
            worker.pid.into(),
            worker.generation.into(),
            if worker.leaving { "leaving" } else { worker.state }.into(),
            own.into(),
            worker.served.into(),
        ]
    });
    Table {
        columns: &["row", "pid", "generation", "state", "sessions", "served"],
        rows: rows.collect(),
    }
}

/// Plugins at their hooks, with verdicts and latencies.
pub(super) fn plugins(gauge: &Gauge) -> Table {
    let time = |micros: u64| Value::Time(Duration::from_micros(micros));
    let rows = gauge.calls().into_iter().map(|(marked, calls)| {
        let mut row: Vec<Value> = vec![
            (&*marked.plugin).into(),
            marked.hook.name().into(),
            calls.count().into(),
        ];
        row.extend(Ruling::ALL.iter().map(|ruling| calls.rulings[*ruling as usize].into()));
        row.extend([calls.quantile(500), calls.quantile(990), calls.most].map(time));
        row
    });
    Table {
        columns: &[
            "plugin", "hook", "calls", "decline", "accept", "deny", "soft", "error", "panic", "p50", "p99", "max",
        ],
        rows: rows.collect(),
    }
}
