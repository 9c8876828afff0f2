//! The tables of the matrix: what became of the messages, by step and fault.

use std::collections::BTreeMap;

use crate::client::Fate;
use crate::faults::Fault;

/// How many messages were taken, put off and lost.
type Counts = [usize; 3];

/// Rows in the order in which they come first.
#[derive(Default)]
pub struct Table {
    steps: Vec<String>,
    cells: BTreeMap<(usize, Fault), Counts>,
    leftovers: BTreeMap<Fault, usize>,
    runs: usize,
}

impl Table {
    /// Makes a row, if there is none.
    pub fn row(&mut self, step: &str) -> usize {
        let known = self.steps.iter().position(|known| known == step);
        known.unwrap_or_else(|| {
            self.steps.push(step.to_owned());
            self.steps.len() - 1
        })
    }

    /// Counts a run.
    pub fn add(&mut self, step: &str, fault: Fault, fates: &[Fate], leftovers: usize) {
        let row = self.row(step);
        let cell = self.cells.entry((row, fault)).or_default();
        fates.iter().for_each(|fate| cell[*fate as usize] += 1);
        *self.leftovers.entry(fault).or_default() += leftovers;
        self.runs += 1;
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// The table in Markdown: a row for each step, and for all files left to the sweep; then all steps as one row.
    pub fn markdown(&self, scene: &str) -> String {
        let names = Fault::ALL.map(Fault::name).join(" | ");
        let mut text = format!(
            "| {scene}, after | {names} |\n|---|{}\n",
            "---|".repeat(Fault::ALL.len())
        );
        let mut line = |name: &str, cell: &dyn Fn(Fault) -> Option<String>| {
            let cells = Fault::ALL.map(|fault| cell(fault).unwrap_or_else(|| "-".to_owned()));
            text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
        };
        for (row, step) in self.steps.iter().enumerate() {
            line(step, &|fault| self.cells.get(&(row, fault)).map(show));
        }
        line("files left to the sweep", &|fault| {
            self.leftovers.get(&fault).map(ToString::to_string)
        });
        line(&format!("all of {scene}"), &|fault| {
            let cells = self.cells.iter().filter(|((_, of), _)| *of == fault);
            let add = |sum: Counts, (_, cell): (_, &Counts)| std::array::from_fn(|at| sum[at] + cell[at]);
            let sum = cells.fold(Counts::default(), add);
            (sum != Counts::default()).then(|| show(&sum))
        });
        text
    }
}

fn show(counts: &Counts) -> String {
    counts.map(|count| count.to_string()).join("/")
}
