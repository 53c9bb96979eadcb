//! Instructions of the packet path without its ciphers, counted by callgrind: a number that a busy machine
//! does not move. A checked-in baseline holds it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use mesh_lab::report::Row;

use crate::{cargo, packages};

const BASELINE: &str = "tests/instructions/baseline.txt";
/// How far a count may lie from the baseline, either way: a gain that is not written down is lost unseen.
const DRIFT_MAX: f64 = 0.02;
const NEEDED: [(&str, &str); 1] = [("valgrind", "valgrind")];
/// Segments of the trains that the tests of the data threads carry.
const SEGMENTS: f64 = 45.0;
/// Trains that each of those tests carries.
const TRAINS: f64 = 11.0;

/// What to do with the counts.
#[derive(Debug, Args)]
pub struct Options {
    /// Make the counts of `instructions` the baseline.
    #[arg(long)]
    rebase: bool,
}

/// A piece of the packet path.
struct Case {
    name: String,
    units: f64,
    unit: String,
    limit: f64,
    /// The program and its arguments.
    line: Vec<String>,
    /// Counting starts where the first of these functions is entered and ends where it returns. In the others it
    /// pauses: ciphers are not our code, and fakes not that of the packet path.
    toggles: Vec<String>,
}

/// A test of the data threads between fakes, which counts as a case: all the code a train goes through.
struct Worker {
    name: &'static str,
    limit: f64,
    test: &'static str,
    toggles: [&'static str; 4],
}

const WORKERS: [Worker; 2] = [
    Worker {
        name: "tx-train",
        limit: 600.0,
        test: "dataplane::tests::a_train_costs_two_system_calls_and_no_allocation_on_its_way_out",
        toggles: [
            "*outbound::Outbound<*::burst",
            "*EVP_AEAD_CTX_seal_scatter",
            "*::FakeSocket as *",
            "*::FakeDevice as *",
        ],
    },
    Worker {
        name: "rx-train",
        limit: 450.0,
        test: "dataplane::tests::a_train_costs_two_system_calls_and_no_allocation_on_its_way_in",
        toggles: [
            "*inbound::Inbound<*::burst",
            "*EVP_AEAD_CTX_open_gather",
            "*::FakeSocket as *",
            "*::FakeDevice as *",
        ],
    },
];

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

    fn has_drifted(&self) -> bool {
        self.drift().abs() > DRIFT_MAX
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
        row.held &= !self.has_drifted();
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

/// The cases that left the baseline, in words.
pub fn breaches() -> Result<Vec<String>> {
    let counts = counts()?;
    let breaches = counts.iter().filter(|count| count.has_drifted()).map(Count::row);
    Ok(breaches
        .map(|row| format!("{}: {:.1} instructions, wanted {}", row.name, row.value, row.target))
        .collect())
}

fn counts() -> Result<Vec<Count>> {
    packages::install_all(&NEEDED)?;
    let baseline = baseline()?;
    let mut cases = pieces()?;
    cases.extend(workers()?);
    let count = |case: Case| {
        let each = instructions(&case)? / case.units;
        let baseline = baseline.get(&case.name).copied();
        Ok(Count { case, each, baseline })
    };
    cases.into_iter().map(count).collect()
}

/// The cases of the program that runs one piece at a time; it lists them itself.
fn pieces() -> Result<Vec<Case>> {
    let program = build(&["build", "--package", "mesh-lab", "--bench", "instructions"], "bench")?;
    let output = Command::new(&program).output().context("list what is counted")?;
    let text = String::from_utf8(output.stdout).context("list what is counted")?;
    text.lines()
        .map(|line| piece(&program, line).with_context(|| format!("read the case `{line}`")))
        .collect()
}

fn piece(program: &str, line: &str) -> Result<Case> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, units, unit, limit, pause] = fields[..] else { bail!("it has {} fields", fields.len()) };
    let toggles = ["*measured::measured", pause].map(str::to_owned);
    Ok(Case {
        name: name.to_owned(),
        units: units.parse().context("read its units")?,
        unit: unit.to_owned(),
        limit: limit.parse().context("read its limit")?,
        line: vec![program.to_owned(), name.to_owned()],
        toggles: toggles.into_iter().filter(|toggle| !toggle.is_empty()).collect(),
    })
}

/// The cases that are tests of the daemon.
fn workers() -> Result<Vec<Case>> {
    let program = build(&["test", "--no-run", "--package", "meshd", "--lib"], "lib")?;
    let case = |Worker { name, limit, test, toggles }: Worker| Case {
        name: name.to_owned(),
        units: SEGMENTS * TRAINS,
        unit: "segment".to_owned(),
        limit,
        line: [&program, "--exact", test].map(str::to_owned).to_vec(),
        toggles: toggles.map(str::to_owned).to_vec(),
    };
    Ok(WORKERS.into_iter().map(case).collect())
}

/// Builds one program of a kind, and what it needs, and gives its path.
pub fn build(what: &[&str], kind: &str) -> Result<String> {
    let line = [what, &["--release", "--jobs", "2", "--message-format", "json"]].concat();
    let messages = cargo::output(&line)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["kind"][0] == kind);
    let executable = built.find_map(|message| message["executable"].as_str().map(str::to_owned));
    executable.with_context(|| format!("find the program of `cargo {}`", line.join(" ")))
}

/// Instructions of one run of a case. Without an environment, whose size moves the stack.
fn instructions(case: &Case) -> Result<f64> {
    let output = Command::new("valgrind")
        .env_clear()
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(case.toggles.iter().map(|toggle| format!("--toggle-collect={toggle}")))
        .args(&case.line)
        .output()
        .context("start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{} ended with {}: {said}", case.name, output.status);
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.filter(|count| *count > 0.0).with_context(|| format!("find the count of {} in: {said}", case.name))
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
