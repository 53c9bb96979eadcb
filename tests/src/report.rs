//! Rows of numbers, as a table and as JSON.

use std::fs;

use serde::Serialize;

/// One number of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What is wanted, in words.
    pub target: String,
    /// Whether the number reaches the target.
    pub held: bool,
    /// The machine it was measured on.
    pub machine: String,
    /// Load of that machine over the last minute.
    pub load: f64,
}

impl Row {
    /// A number that should not exceed a limit.
    pub fn at_most(name: &str, value: f64, unit: &'static str, limit: f64) -> Self {
        Self::new(name, value, unit, format!("at most {limit}"), value <= limit)
    }

    /// A number that should reach a limit.
    pub fn at_least(name: &str, value: f64, unit: &'static str, limit: f64) -> Self {
        Self::new(name, value, unit, format!("at least {limit}"), value >= limit)
    }

    fn new(name: &str, value: f64, unit: &'static str, target: String, held: bool) -> Self {
        let name = name.to_owned();
        Self { name, value, unit, target, held, machine: machine(), load: load() }
    }
}

/// Lays rows of cells out as a table, with the first row as its head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Lays benchmark rows out as a table.
pub fn bench_table(rows: &[Row]) -> String {
    let mut cells = vec![["name", "value", "unit", "target", "held"].map(str::to_owned).to_vec()];
    for row in rows {
        let held = if row.held { "yes" } else { "no" };
        cells.push(vec![
            row.name.clone(),
            format!("{:.2}", row.value),
            row.unit.to_owned(),
            row.target.clone(),
            held.to_owned(),
        ]);
    }
    table(&cells)
}

/// Cores and kernel of this machine.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}", kernel.trim())
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
