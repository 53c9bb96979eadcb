//! Instructions of the packet path without its ciphers, counted by callgrind: a number that a busy machine
//! does not move. A checked-in baseline holds it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use mesh_lab::report::Row;

use crate::{cargo, packages};

const BASELINE: &str = "tests/instructions/baseline.txt";
/// How far a count may lie from the baseline, either way: a gain that is not written down is lost unseen.
const DRIFT_MAX: f64 = 0.02;
const NEEDED: [(&str, &str); 1] = [("valgrind", "valgrind")];
/// Counting starts at the first of these and pauses in the others: the ciphers, which are not our code.
const TOGGLES: [&str; 3] = [
    "--toggle-collect=*measured::measured*",
    "--toggle-collect=*EVP_AEAD_CTX_seal_scatter",
    "--toggle-collect=*EVP_AEAD_CTX_open_gather",
];

/// What to do with the counts.
#[derive(Debug, Args)]
pub struct Options {
    /// Make the counts of `instructions` the baseline.
    #[arg(long)]
    rebase: bool,
}

/// A piece of the packet path, as the counted program lists it.
struct Case {
    name: String,
    units: f64,
    unit: String,
    limit: f64,
}

/// A case and its instructions for each unit.
struct Count {
    case: Case,
    each: f64,
    baseline: Option<f64>,
}

impl Count {
    /// How far the count lies from the baseline, as a part of it.
    fn drift(&self) -> f64 {
        self.baseline.map_or(f64::INFINITY, |baseline| (self.each - baseline) / baseline)
    }

    fn holds(&self) -> bool {
        self.each <= self.case.limit && self.drift().abs() <= DRIFT_MAX
    }

    fn row(&self) -> Row {
        let Self { case, each, .. } = self;
        let name = format!("{}, each {}", case.name, case.unit);
        let mut row = Row::at_most(&name, *each, "instructions", case.limit);
        match self.baseline {
            Some(baseline) => write!(row.target, ", {baseline:.1} ± 2 %"),
            None => write!(row.target, ", no baseline"),
        }
        .expect("a string takes everything");
        row.held = self.holds();
        row
    }
}

/// Counts every case; on request the counts become the baseline.
pub fn measure(options: &Options) -> Result<Vec<Row>> {
    let mut counts = counts()?;
    if options.rebase {
        let lines = counts.iter().map(|count| format!("{} {:.1}\n", count.case.name, count.each));
        fs::write(BASELINE, lines.collect::<String>()).with_context(|| format!("write {BASELINE}"))?;
        counts.iter_mut().for_each(|count| count.baseline = Some(count.each));
    }
    Ok(counts.iter().map(Count::row).collect())
}

/// The cases that exceed their limit or left the baseline, in words.
pub fn breaches() -> Result<Vec<String>> {
    let counts = counts()?;
    let breaches = counts.iter().filter(|count| !count.holds());
    Ok(breaches
        .map(|count| {
            let row = count.row();
            format!("{}: {:.1} instructions, wanted {}", row.name, row.value, row.target)
        })
        .collect())
}

fn counts() -> Result<Vec<Count>> {
    packages::install_all(&NEEDED)?;
    let program = build()?;
    let baseline = baseline()?;
    cases(&program)?
        .into_iter()
        .map(|case| {
            let each = instructions(&program, &case.name)? / case.units;
            let baseline = baseline.get(&case.name).copied();
            Ok(Count { case, each, baseline })
        })
        .collect()
}

/// Builds the counted program and gives its path.
fn build() -> Result<PathBuf> {
    let line = [
        "build",
        "--release",
        "--jobs",
        "2",
        "--package",
        "mesh-lab",
        "--bench",
        "instructions",
        "--message-format",
        "json",
    ];
    let messages = cargo::output(&line)?;
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "instructions")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("find the program whose instructions count")
}

fn cases(program: &Path) -> Result<Vec<Case>> {
    let output = Command::new(program).output().context("list what is counted")?;
    let text = String::from_utf8(output.stdout).context("list what is counted")?;
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, units, unit, limit] = fields[..] else { bail!("read the case `{line}`") };
            let number = |text: &str| text.parse().with_context(|| format!("read the case `{line}`"));
            Ok(Case {
                name: name.to_owned(),
                units: number(units)?,
                unit: unit.to_owned(),
                limit: number(limit)?,
            })
        })
        .collect()
}

/// Instructions of one run of a case. Without an environment, whose size moves the stack.
fn instructions(program: &Path, case: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .env_clear()
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(TOGGLES)
        .arg(program)
        .arg(case)
        .output()
        .context("start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{case} ended with {}: {said}", output.status);
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.filter(|count| *count > 0.0).with_context(|| format!("find the count of {case} in: {said}"))
}

fn baseline() -> Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(BASELINE).with_context(|| format!("read {BASELINE}"))?;
    text.lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| format!("read `{line}`"))?;
            Ok((name.to_owned(), count.parse().with_context(|| format!("read `{line}`"))?))
        })
        .collect()
}
