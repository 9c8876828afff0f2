//! `qpsmtpctl top`: the daemon live, in the terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::{Line, unreachable};

/// Shows the daemon until interrupted, every `pause` or, with `rounds`, so often.
pub(crate) fn run(socket: &Path, pause: Duration, rounds: Option<u32>) -> ExitCode {
    match show(socket, pause, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => unreachable(socket, &why),
    }
}

fn show(socket: &Path, pause: Duration, rounds: Option<u32>) -> io::Result<()> {
    let mut line = Line::to(socket)?;
    let mut before: Option<(Instant, Totals)> = None;
    for round in 1u32.. {
        let mut text = |command: &str| line.ask(command)?.map_err(io::Error::other);
        let (status, sessions, plugins) = (text("status")?, text("list")?, text("plugins")?);
        let now = (Instant::now(), totals(&status));
        let page = page(&now, before.as_ref(), &sessions, &plugins);
        // home, each line cleared to its end, and what is left below it
        let drawn = page.replace('\n', "\x1b[K\n");
        let start = if round == 1 { "\x1b[2J\x1b[H" } else { "\x1b[H" };
        io::stdout().write_all(format!("{start}{drawn}\x1b[J").as_bytes())?;
        io::stdout().flush()?;
        before = Some(now);
        if rounds == Some(round) {
            break;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

type Totals = BTreeMap<String, String>;

/// The facts of a status, by name.
fn totals(status: &str) -> Totals {
    let fact = |line: &str| {
        let (name, value) = line.split_once("  ")?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    status.lines().filter_map(fact).collect()
}

fn page(now: &(Instant, Totals), before: Option<&(Instant, Totals)>, sessions: &str, plugins: &str) -> String {
    let fact = |name: &str| now.1.get(name).map_or("", String::as_str);
    let mut page = format!(
        "qpsmtpd {}  {}  generation {}  up {}  log {}\nsessions {}/{}  workers {} busy, {} idle, {} at most\n",
        fact("version"),
        fact("state"),
        fact("generation"),
        fact("uptime"),
        fact("loglevel"),
        fact("sessions"),
        fact("most sessions"),
        fact("busy workers"),
        fact("idle workers"),
        fact("most workers"),
    );
    for name in ["connections", "accepted", "deferred", "rejected", "recipients", "bytes"] {
        let rate = before.map_or(0.0, |before| rate(name, now, before));
        page.push_str(&format!("{name} {} ({rate:.1}/s)  ", fact(name)));
    }
    let busy = busiest(plugins, 12);
    page.push_str(&format!("\n\n{}\n{busy}", head(sessions, 24)));
    page
}

fn rate(name: &str, now: &(Instant, Totals), before: &(Instant, Totals)) -> f64 {
    let number = |totals: &Totals| {
        totals
            .get(name)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let time = now.0.saturating_duration_since(before.0).as_secs_f64().max(0.001);
    (number(&now.1) - number(&before.1)) / time
}

/// The first lines of a table.
fn head(table: &str, lines: usize) -> String {
    table.lines().take(lines + 1).map(|line| format!("{line}\n")).collect()
}

/// The heading and those lines of the table of plugins that have most calls.
fn busiest(plugins: &str, lines: usize) -> String {
    let calls = |line: &str| line.split_whitespace().nth(2).and_then(|word| word.parse::<u64>().ok());
    let mut rows: Vec<&str> = plugins.lines().skip(1).filter(|line| calls(line) > Some(0)).collect();
    rows.sort_by_key(|line| std::cmp::Reverse(calls(line)));
    let shown = plugins.lines().take(1).chain(rows.into_iter().take(lines));
    shown.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let began = Instant::now();
        let before = (began, totals("accepted  10\nbusy workers  3\n"));
        let now = (began + Duration::from_secs(2), totals("accepted   30\n"));
        assert_eq!(rate("accepted", &now, &before), 10.0);
        assert_eq!(before.1["busy workers"], "3");
        let page = page(
            &now,
            Some(&before),
            "id\n1\n",
            "plugin hook calls\na rcpt 1\nb rcpt 0\nc rcpt 7\n",
        );
        assert!(page.contains("accepted 30 (10.0/s)"), "{page}");
        assert!(page.ends_with("calls\nc rcpt 7\na rcpt 1\n"), "{page}");
    }
}
