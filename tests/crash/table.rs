//! The table of the matrix: what became of the messages, by step and fault.

use std::collections::BTreeMap;

use crate::faults::Fault;
use crate::place::Fate;

/// How many messages were taken, put off and lost.
type Counts = [usize; 3];

/// Rows in the order in which they come first.
#[derive(Default)]
pub struct Table {
    steps: Vec<String>,
    cells: BTreeMap<(usize, usize), Counts>,
    leftovers: BTreeMap<usize, usize>,
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
    pub fn add(&mut self, step: &str, fault: Fault, fate: Fate, leftovers: usize) {
        let row = self.row(step);
        let cell = self.cells.entry((row, fault as usize)).or_default();
        cell[fate as usize] += 1;
        *self.leftovers.entry(fault as usize).or_default() += leftovers;
        self.runs += 1;
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let names = Fault::ALL.map(Fault::name);
        let mut text = format!(
            "| after | {} |\n|---|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for (row, step) in self.steps.iter().enumerate() {
            let cells = Fault::ALL.map(|fault| self.cells.get(&(row, fault as usize)).map_or("-".to_owned(), show));
            text.push_str(&format!("| {step} | {} |\n", cells.join(" | ")));
        }
        let left = Fault::ALL.map(|fault| self.leftovers.get(&(fault as usize)).copied().unwrap_or(0).to_string());
        text.push_str(&format!("| files left to the sweep | {} |\n", left.join(" | ")));
        text
    }
}

fn show(counts: &Counts) -> String {
    counts.map(|count| count.to_string()).join("/")
}
