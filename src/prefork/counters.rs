//! Counters in memory that master and workers share: a row for each worker, made before the first fork.
//!
//! A worker adds to a row that is as a rule its own, so that rows do not fight for cache lines; the master sums the rows. A row is never
//! cleared: who takes the place of a worker that is no more counts on, and so a sum never falls.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::keepsake::{Keepsake, Left, keep};
use super::sys::Shared;

/// Counters in a cache line.
const LINE: usize = 8;

/// One counter.
#[derive(Default)]
#[repr(transparent)]
pub(super) struct Cell(AtomicU64);

#[cfg(test)]
impl Cell {
    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A table of counters.
pub struct Counters {
    cells: Shared<Cell>,
    rows: usize,
    columns: usize,
}

impl Counters {
    /// The table that a former master has left, if it has the same size and `columns_mean` the same; else one of
    /// zeroes. Only what is used takes memory.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn kept(
        rows: usize,
        columns: usize,
        columns_mean: u64,
        left: Option<Left>,
    ) -> io::Result<(Counters, Keepsake)> {
        let columns = columns.next_multiple_of(LINE);
        keep(
            "counters",
            format!("1-{rows}-{columns}-{columns_mean:x}"),
            left,
            &|sheet| {
                Ok(Counters {
                    cells: sheet.part(rows * columns)?,
                    rows,
                    columns,
                })
            },
        )
    }

    /// A table of zeroes, for nobody after this master.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(rows: usize, columns: usize) -> io::Result<Counters> {
        Ok(Counters::kept(rows, columns, 0, None)?.0)
    }

    /// A cell, if it is in the table.
    fn cell(&self, row: usize, column: usize) -> Option<&AtomicU64> {
        let inside = row < self.rows && column < self.columns;
        inside.then(|| &self.cells[row * self.columns + column].0)
    }

    /// Adds to a counter; one that the table does not have is let be.
    pub fn add(&self, row: usize, column: usize, by: u64) {
        if let Some(cell) = self.cell(row, column) {
            cell.fetch_add(by, Relaxed);
        }
    }

    /// Makes a counter at least as large as `value`.
    pub fn raise(&self, row: usize, column: usize, value: u64) {
        if let Some(cell) = self.cell(row, column)
            && cell.load(Relaxed) < value
        {
            cell.fetch_max(value, Relaxed);
        }
    }

    /// Sets a counter.
    pub fn set(&self, row: usize, column: usize, value: u64) {
        if let Some(cell) = self.cell(row, column) {
            cell.store(value, Relaxed);
        }
    }

    /// The value in one row.
    pub fn get(&self, row: usize, column: usize) -> u64 {
        self.cell(row, column).map_or(0, |cell| cell.load(Relaxed))
    }

    /// The sum over all rows.
    pub fn sum(&self, column: usize) -> u64 {
        (0..self.rows).map(|row| self.get(row, column)).sum()
    }

    /// The largest of all rows.
    pub fn most(&self, column: usize) -> u64 {
        (0..self.rows).map(|row| self.get(row, column)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::waitpid;

    #[test]
    fn rows_are_summed_and_compared() {
        let counters = Counters::new(3, 5).expect("memory");
        counters.add(0, 4, 2);
        counters.add(2, 4, 5);
        counters.raise(1, 3, 7);
        counters.raise(1, 3, 6);
        counters.raise(0, 3, 1);
        assert_eq!((counters.sum(4), counters.most(4)), (7, 5));
        assert_eq!((counters.sum(3), counters.most(3), counters.get(1, 3)), (8, 7, 7));
        counters.set(1, 3, 0);
        assert_eq!(counters.most(3), 1);
    }

    #[test]
    fn what_is_outside_changes_nothing() {
        let counters = Counters::new(2, 8).expect("memory");
        counters.add(0, 8, 1);
        counters.add(2, 0, 1);
        counters.raise(5, 5, 9);
        assert!((0..8).all(|column| counters.sum(column) == 0));
    }

    #[test]
    fn processes_count_together() {
        let counters = Counters::new(4, 1).expect("memory");
        let children: Vec<_> = (0..4)
            .map(|row| {
                super::super::sys::fork_for_test(|| {
                    (0..1000).for_each(|_| counters.add(row, 0, 1));
                    0
                })
            })
            .collect();
        for child in children {
            waitpid(child, None).expect("a child");
        }
        assert_eq!(counters.sum(0), 4000);
    }
}
