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

    /// The table in Markdown: a row for each step, and one for the files left to the sweep.
    pub fn markdown(&self, scene: &str) -> String {
        let tried = |fault: &Fault| self.leftovers.contains_key(fault);
        let faults: Vec<Fault> = Fault::ALL.into_iter().filter(tried).collect();
        let row = |name: &str, cell: &dyn Fn(Fault) -> Option<String>| {
            let cells = faults
                .iter()
                .map(|fault| cell(*fault).unwrap_or_else(|| "-".to_owned()));
            format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let mut text = row(&format!("{scene}, after"), &|fault| Some(fault.name().to_owned()));
        text.push_str(&format!("|---|{}\n", "---|".repeat(faults.len())));
        for (at, step) in self.steps.iter().enumerate() {
            text.push_str(&row(step, &|fault| self.cells.get(&(at, fault)).map(show)));
        }
        text.push_str(&row("files left to the sweep", &|fault| {
            self.leftovers.get(&fault).map(ToString::to_string)
        }));
        text
    }

    /// The row of a table of all scenes and all faults: the sums over the steps, and the number of runs.
    pub fn total(&self, scene: &str) -> String {
        let cells = Fault::ALL.map(|fault| {
            let cells = self.cells.iter().filter(|((_, of), _)| *of == fault);
            let add = |sum: Counts, (_, cell): (_, &Counts)| std::array::from_fn(|at| sum[at] + cell[at]);
            let tried = self.leftovers.contains_key(&fault);
            tried.then(|| show(&cells.fold(Counts::default(), add)))
        });
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        format!("| {scene} | {} | {} |", self.runs, cells.join(" | "))
    }
}

fn show(counts: &Counts) -> String {
    counts.map(|count| count.to_string()).join("/")
}
