//! Benchmarks, by name.

mod scale;
mod study;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use mesh_lab::report::{Row, bench_table};

use crate::{cargo, packages};

/// A benchmark: its name, what it measures, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    measure: fn() -> Result<Vec<Row>>,
}

const BENCHES: [Bench; 2] = [
    Bench { name: "scale", about: "33 hosts join one mesh; memory of a daemon", measure: scale::measure },
    Bench {
        name: "study",
        about: "secure sum, absent addresses, a newcomer becoming visible",
        measure: study::measure,
    },
];

/// Measures, prints a table, and writes JSON if wanted.
pub fn run(name: Option<&str>, json: Option<&Path>) -> Result<()> {
    let Some(name) = name else {
        BENCHES.iter().for_each(|bench| println!("{}  {}", bench.name, bench.about));
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no benchmark {name}; there are: {}", names.join(", "));
    };
    mesh_lab::possible()?;
    packages::install()?;
    cargo::build()?;
    let rows = (bench.measure)()?;
    print!("{}", bench_table(&rows));
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&rows).context("write the rows")?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
