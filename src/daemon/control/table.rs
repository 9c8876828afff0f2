//! Answers as tables: one making for the reader's text and for JSON.

use std::fmt::{self, Write};
use std::time::Duration;

/// One value of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A number.
    Count(u64),
    /// Words.
    Text(String),
    /// A time; in JSON seconds.
    Time(Duration),
    /// Nothing.
    None,
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Count(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Count(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Count(number as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Value {
        Value::Time(time)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(number) => write!(f, "{number}"),
            Value::Text(text) => f.write_str(text),
            Value::Time(time) => short(*time, f),
            Value::None => f.write_str("-"),
        }
    }
}

/// A time in the unit that suits it.
fn short(time: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let seconds = time.as_secs();
    match time.as_micros() {
        0..1_000 => write!(f, "{}us", time.as_micros()),
        1_000..1_000_000 => write!(f, "{}ms", time.as_millis()),
        1_000_000..60_000_000 => write!(f, "{:.1}s", time.as_secs_f64()),
        _ if seconds < 3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => write!(f, "{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

impl Value {
    fn json(&self, to: &mut String) {
        let _ = match self {
            Value::Count(number) => write!(to, "{number}"),
            Value::Text(text) => return quoted(text, to),
            Value::Time(time) => write!(to, "{}", time.as_micros() as f64 / 1e6),
            Value::None => write!(to, "null"),
        };
    }

    fn is_number(&self) -> bool {
        !matches!(self, Value::Text(_))
    }
}

/// A JSON string.
pub(super) fn quoted(text: &str, to: &mut String) {
    to.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(to, "\\{c}"),
            c if c.is_control() => write!(to, "\\u{:04x}", c as u32),
            c => write!(to, "{c}"),
        };
    }
    to.push('"');
}

/// Rows of values under headings.
pub(super) struct Table {
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<Value>>,
}

impl Table {
    /// Aligned columns under their headings.
    pub(super) fn text(&self) -> String {
        let heads = self.columns.iter().map(|head| (*head).to_owned()).collect();
        let rows = self.rows.iter();
        let mut lines: Vec<Vec<String>> = vec![heads];
        lines.extend(rows.map(|row| row.iter().map(Value::to_string).collect()));
        let width = |at: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(at))
                .map(|word| word.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| width(at).unwrap_or(0)).collect();
        let right = |at: usize| self.rows.iter().all(|row| row.get(at).is_some_and(Value::is_number));
        let rights: Vec<bool> = (0..self.columns.len()).map(right).collect();
        let mut text = String::new();
        for line in &lines {
            let mut whole = String::new();
            for (at, word) in line.iter().enumerate() {
                let (width, gap) = (widths[at], if at == 0 { "" } else { "  " });
                let _ = match rights[at] {
                    true => write!(whole, "{gap}{word:>width$}"),
                    false => write!(whole, "{gap}{word:<width$}"),
                };
            }
            text.push_str(whole.trim_end());
            text.push('\n');
        }
        text
    }

    /// A list of objects.
    pub(super) fn json(&self) -> String {
        let mut text = String::from("[");
        for (number, row) in self.rows.iter().enumerate() {
            text.push_str(if number == 0 { "" } else { "," });
            object(self.columns.iter().copied().zip(row), &mut text);
        }
        text.push(']');
        text
    }
}

/// Facts with their names.
pub(super) struct Facts(pub(super) Vec<(&'static str, Value)>);

impl Facts {
    /// A fact to a line.
    pub(super) fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, value): &(&str, Value)| format!("{:<width$}  {value}\n", name.replace('_', " "));
        self.0.iter().map(line).collect()
    }

    /// An object.
    pub(super) fn json(&self) -> String {
        let mut text = String::new();
        object(self.0.iter().map(|(name, value)| (*name, value)), &mut text);
        text
    }
}

fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>, to: &mut String) {
    to.push('{');
    for (number, (name, value)) in fields.enumerate() {
        to.push_str(if number == 0 { "" } else { "," });
        quoted(name, to);
        to.push(':');
        value.json(to);
    }
    to.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            columns: &["id", "peer", "age"],
            rows: vec![
                vec![7u64.into(), "192.0.2.1".into(), Duration::from_millis(1500).into()],
                vec![12u64.into(), "a\"\n\\".into(), Value::None],
            ],
        }
    }

    #[test]
    fn columns_are_aligned_numbers_to_the_right() {
        let text = Table {
            rows: table().rows[..1].to_vec(),
            ..table()
        }
        .text();
        assert_eq!(text, "id  peer        age\n 7  192.0.2.1  1.5s\n");
    }

    #[test]
    fn json_is_escaped() {
        assert_eq!(
            table().json(),
            r#"[{"id":7,"peer":"192.0.2.1","age":1.5},{"id":12,"peer":"a\"\u000a\\","age":null}]"#
        );
        let facts = Facts(vec![("busy_workers", 3u64.into()), ("state", "serving".into())]);
        assert_eq!(facts.json(), r#"{"busy_workers":3,"state":"serving"}"#);
        assert_eq!(facts.text(), "busy workers  3\nstate         serving\n");
    }

    #[test]
    fn times_are_short() {
        let shown = |micros: u64| Value::Time(Duration::from_micros(micros)).to_string();
        let times = [12, 1_999, 1_500_000, 61_000_000, 3_660_000_000, 90_000_000_000];
        assert_eq!(times.map(shown), ["12us", "1ms", "1.5s", "1m01s", "1h01m", "1d01h"]);
    }
}
