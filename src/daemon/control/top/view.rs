//! The page that `top` shows: what was seen, in what order, and how much of it has room.

mod rows;

use std::collections::BTreeMap;
use std::time::Instant;

use super::terminal::Key;
use rows::Rows;

/// From this width on, columns are shown that one can do without.
const WIDE: usize = 100;

/// By which columns sessions can be sorted, the usual one first.
const SESSION_ORDERS: [&str; 6] = ["age", "for", "peer", "phase", "plugin", "id"];
/// The same for plugins.
const PLUGIN_ORDERS: [&str; 6] = ["/s", "calls", "p99", "max", "deny", "error"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// Whether it is a heading.
    pub(super) head: bool,
}

impl Line {
    fn text(text: String) -> Line {
        Line { text, head: false }
    }
}

/// What the master has told at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    at: Instant,
    facts: BTreeMap<String, String>,
    sessions: Rows,
    plugins: Rows,
}

impl Default for Look {
    fn default() -> Look {
        Look::of("", "", "")
    }
}

impl Look {
    /// Of three answers in the form of text.
    pub(super) fn of(status: &str, list: &str, plugins: &str) -> Look {
        let fact = |line: &str| {
            let (name, value) = line.split_once("  ")?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        Look {
            at: Instant::now(),
            facts: status.lines().filter_map(fact).collect(),
            sessions: Rows::of(list),
            plugins: Rows::of(plugins),
        }
    }

    fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("-", String::as_str)
    }

    fn number(&self, name: &str) -> f64 {
        self.fact(name).parse().unwrap_or(0.0)
    }

    /// How much a counter grows in a second.
    fn rate(&self, name: &str, before: Option<&Look>) -> f64 {
        per_second(
            self.number(name),
            before.map(|before| before.number(name)),
            self.since(before),
        )
    }

    fn since(&self, before: Option<&Look>) -> f64 {
        before.map_or(0.0, |before| self.at.saturating_duration_since(before.at).as_secs_f64())
    }
}

/// None, while nothing is known of before; and none after the counters began anew, with another master.
fn per_second(now: f64, before: Option<f64>, seconds: f64) -> f64 {
    match before {
        Some(before) if seconds > 0.0 => ((now - before) / seconds).max(0.0),
        _ => 0.0,
    }
}

/// Bytes in the unit that suits them.
fn bytes(count: f64) -> String {
    let mut left = count;
    for unit in ["B", "kB", "MB", "GB"] {
        if left < 1000.0 {
            let digits = usize::from(unit != "B" && left < 100.0);
            return format!("{left:.digits$} {unit}");
        }
        left /= 1000.0;
    }
    format!("{left:.1} TB")
}

/// Which of the tables are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Both,
    Sessions,
    Plugins,
}

/// What the reader has chosen.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Why nothing new is to be seen.
    pub(super) trouble: Option<String>,
    sessions_by: usize,
    plugins_by: usize,
    reversed: bool,
    shown: Shown,
    /// How many sessions, or plugins if these are alone, are above the page.
    above: usize,
}

impl View {
    /// Heeds a key; false if it means to go.
    pub(super) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Leave | Key::Letter('q') => return false,
            Key::Letter('s') => self.sessions_by = (self.sessions_by + 1) % SESSION_ORDERS.len(),
            Key::Letter('p') => self.plugins_by = (self.plugins_by + 1) % PLUGIN_ORDERS.len(),
            Key::Letter('r') => self.reversed = !self.reversed,
            Key::Up | Key::Letter('k') => self.above = self.above.saturating_sub(1),
            Key::Down | Key::Letter('j') => self.above += 1,
            Key::PageUp => self.above = self.above.saturating_sub(10),
            Key::PageDown => self.above += 10,
            Key::Tab => {
                self.above = 0;
                self.shown = match self.shown {
                    Shown::Both => Shown::Sessions,
                    Shown::Sessions => Shown::Plugins,
                    Shown::Plugins => Shown::Both,
                };
            }
            Key::Letter(_) => {}
        }
        true
    }

    /// The page, at most so wide and so high.
    pub(super) fn page(&self, now: &Look, before: Option<&Look>, (width, height): (usize, usize)) -> Vec<Line> {
        let mut page = summary(now, before);
        if let Some(trouble) = &self.trouble {
            page.insert(
                0,
                Line {
                    text: trouble.clone(),
                    head: true,
                },
            );
        }
        let keys = "q quit  s,p sort sessions, plugins  r reverse  tab one table  up,down scroll";
        let room = height.saturating_sub(page.len() + 1);
        let sessions = self.sessions(now, width);
        let plugins = self.plugins(now, before, width);
        let scrolled = match self.shown {
            Shown::Both => {
                // what one does not need is the other's, and the blank line between them
                let half = room.saturating_sub(1) / 2;
                let below = plugins.len().min(half.max(room.saturating_sub(sessions.len() + 1)));
                let mut both = self.part(sessions, room.saturating_sub(below + 1));
                both.push(Line::text(String::new()));
                both.extend(plugins.into_iter().take(below));
                both
            }
            Shown::Sessions => self.part(sessions, room),
            Shown::Plugins => self.part(plugins, room),
        };
        page.extend(scrolled);
        if height < usize::MAX {
            page.resize(height.saturating_sub(1), Line::text(String::new()));
            page.push(Line {
                text: keys.to_owned(),
                head: true,
            });
        }
        page
    }

    /// So many lines of a table: its heading, and what is not above the page.
    fn part(&self, mut table: Vec<Line>, room: usize) -> Vec<Line> {
        let above = self.above.min(table.len().saturating_sub(room));
        table.drain(1.min(table.len())..(1 + above).min(table.len()));
        table.truncate(room);
        table
    }

    fn sessions(&self, now: &Look, width: usize) -> Vec<Line> {
        let by = SESSION_ORDERS[self.sessions_by];
        let mut rows = now.sessions.clone();
        rows.sort(by, self.reversed);
        let wanted: &[&str] = match width {
            WIDE.. => &["id", "pid", "peer", "port", "phase", "plugin", "hook", "for", "age"],
            _ => &["id", "peer", "phase", "plugin", "hook", "for", "age"],
        };
        rows.lines(wanted, by, width)
    }

    /// The plugins that have been called, with what they were called in a second.
    fn plugins(&self, now: &Look, before: Option<&Look>, width: usize) -> Vec<Line> {
        let by = PLUGIN_ORDERS[self.plugins_by];
        let mut rows = now.plugins.clone();
        if let Some(calls) = rows.column("calls") {
            rows.rows.retain(|row| row[calls] != "0");
            rows.sort("calls", false);
            rows.heads.push("/s".into());
            for row in &mut rows.rows {
                let same = |other: &&Vec<String>| other[..2] == row[..2];
                let then = before.and_then(|before| before.plugins.rows.iter().find(same)?[calls].parse().ok());
                let rate = per_second(row[calls].parse().unwrap_or(0.0), then, now.since(before));
                row.push(format!("{rate:.1}"));
            }
        }
        rows.sort(by, self.reversed);
        let wanted: &[&str] = match width {
            WIDE.. => &[
                "plugin", "hook", "calls", "/s", "decline", "accept", "deny", "soft", "error", "panic", "p50", "p99",
                "max",
            ],
            _ => &[
                "plugin", "hook", "calls", "/s", "accept", "deny", "soft", "error", "p99", "max",
            ],
        };
        rows.lines(wanted, by, width)
    }
}

/// What stands above the tables.
fn summary(now: &Look, before: Option<&Look>) -> Vec<Line> {
    let fact = |name: &str| now.fact(name);
    let rate = |name: &str| now.rate(name, before);
    let counted = |name: &str| format!("{name} {} ({:.1}/s)", fact(name), rate(name));
    let counts = |names: &[&str]| names.iter().map(|name| counted(name)).collect::<Vec<_>>().join("  ");
    let lines = [
        format!(
            "qpsmtpd {}  {}  generation {}  up {}  {}",
            fact("version"),
            fact("state"),
            fact("generation"),
            fact("uptime"),
            fact("loglevel")
        ),
        format!(
            "sessions {}/{}  workers {} busy, {} idle, {} at most  refused {}",
            fact("sessions"),
            fact("most sessions"),
            fact("busy workers"),
            fact("idle workers"),
            fact("most workers"),
            fact("refused by limit")
        ),
        counts(&["accepted", "deferred", "rejected"]),
        format!(
            "{}  {} ({}/s)",
            counts(&["connections", "recipients"]),
            bytes(now.number("bytes")),
            bytes(rate("bytes"))
        ),
        format!(
            "2xx {:.1}/s  4xx {:.1}/s  5xx {:.1}/s  broken off {}  over rate {}  killed {}",
            rate("replies positive"),
            rate("replies 4xx"),
            rate("replies 5xx"),
            fact("broken"),
            fact("over rate"),
            fact("killed")
        ),
        String::new(),
    ];
    lines.into_iter().map(Line::text).collect()
}

#[cfg(test)]
mod tests;
