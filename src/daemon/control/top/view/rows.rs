//! Tables as the master writes them: read, sorted, and made to fit.

use std::cmp::Reverse;

use super::Line;

/// A column that has to give way keeps so much.
const NARROWEST: usize = 6;

/// Columns of words; all others are of numbers and times, and aligned at the right.
const WORDS: [&str; 4] = ["peer", "phase", "plugin", "hook"];

/// The width of a column with what usually stands there, so that it does not change with each look.
fn usual_width(column: &str) -> usize {
    match column {
        "plugin" => 16,
        "peer" => 15,
        "hook" => 10,
        "phase" => 7,
        "calls" | "p99" | "max" | "for" | "age" | "/s" => 6,
        _ => 5,
    }
}

/// A table as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) heads: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Rows {
    pub(super) fn of(table: &str) -> Rows {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut lines = table.lines().map(words);
        let heads = lines.next().unwrap_or_default();
        // a row that is not whole is none
        let rows = lines.filter(|row| row.len() == heads.len()).collect();
        Rows { heads, rows }
    }

    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.heads.iter().position(|head| head == name)
    }

    /// Sorts by a column: times and numbers from the greatest, words from A, rows without a value last.
    pub(super) fn sort(&mut self, by: &str, reversed: bool) {
        let Some(at) = self.column(by) else { return };
        self.rows.sort_by_cached_key(|row| {
            let value = amount(&row[at]);
            (row[at] == "-", Reverse(value), row[at].clone())
        });
        if reversed {
            self.rows.reverse();
        }
    }

    /// The columns that are wanted, aligned and no wider than `width`; the heading of the one that is sorted by is in
    /// capitals.
    pub(super) fn lines(&self, wanted: &[&str], sorted: &str, width: usize) -> Vec<Line> {
        let columns: Vec<usize> = wanted.iter().filter_map(|name| self.column(name)).collect();
        let head = |at: &usize| match &self.heads[*at] {
            name if name == sorted => name.to_uppercase(),
            name => name.clone(),
        };
        let heads: Vec<String> = columns.iter().map(head).collect();
        let rows = self
            .rows
            .iter()
            .map(|row| columns.iter().map(|at| row[*at].clone()).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let widest = |at: usize| {
            let words = lines.iter().map(|line| line[at].len());
            words.chain([usual_width(&self.heads[columns[at]])]).max().unwrap_or(0)
        };
        let widths = fit((0..columns.len()).map(widest).collect(), width);
        let numbers = |at: usize| !WORDS.contains(&&*self.heads[columns[at]]);
        let rights: Vec<bool> = (0..columns.len()).map(numbers).collect();
        let line = |(number, words): (usize, &Vec<String>)| {
            let cells = words
                .iter()
                .enumerate()
                .map(|(at, word)| cell(word, widths[at], rights[at]));
            let text = cells.collect::<Vec<_>>().join(" ");
            Line {
                text: text.trim_end().to_owned(),
                head: number == 0,
            }
        };
        lines.iter().enumerate().map(line).collect()
    }
}

/// Makes the widest columns narrower until all of them, with blanks between, have room.
fn fit(mut widths: Vec<usize>, room: usize) -> Vec<usize> {
    while widths.iter().sum::<usize>() + widths.len().saturating_sub(1) > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn cell(word: &str, width: usize, right: bool) -> String {
    match word.len() > width {
        true => format!("{:.*}~", width.saturating_sub(1), word),
        false if right => format!("{word:>width$}"),
        false => format!("{word:<width$}"),
    }
}

/// A number, or a time as tables write it, in nanoseconds or whole numbers; none for words.
pub(super) fn amount(word: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 6] = [
        ("us", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
        ("d", 86_400e9),
    ];
    if let Ok(number) = word.parse::<f64>() {
        // rates have a fraction
        return (number >= 0.0).then_some((number * 1e3) as u64);
    }
    let (mut rest, mut sum) = (word, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = UNITS.iter().filter(|(unit, _)| rest[digits..].starts_with(unit));
        let (unit, size) = units.max_by_key(|(unit, _)| unit.len())?;
        sum += number * size;
        rest = &rest[digits + unit.len()..];
    }
    (!word.is_empty()).then_some(sum as u64)
}
