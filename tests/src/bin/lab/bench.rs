//! Benchmarks, by name.

mod attach;
mod audit;
mod containers;
mod flood;
pub mod instructions;
mod overload;
mod peers;
mod rotation;
mod scale;
mod statistics;
mod study;
mod traffic;
mod tunnel;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use mesh_lab::report::{Row, bench_table};

use crate::{cargo, packages};

/// What to measure, and how long.
#[derive(Debug, Args)]
pub struct Options {
    /// Which benchmark; all their names if none is given.
    name: Option<String>,
    /// Write the rows to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure the programs as they were built before.
    #[arg(long)]
    as_built: bool,
    #[command(flatten)]
    audit: audit::Options,
    #[command(flatten)]
    instructions: instructions::Options,
    #[command(flatten)]
    peers: peers::Options,
    #[command(flatten)]
    rotation: rotation::Options,
    #[command(flatten)]
    tunnel: tunnel::Options,
}

/// A benchmark: its name, what it measures, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    measure: fn(&Options) -> Result<Vec<Row>>,
}

const BENCHES: [Bench; 11] = [
    Bench {
        name: "instructions",
        about: "instructions of the packet path, without its ciphers",
        measure: |options| instructions::measure(&options.instructions),
    },
    Bench {
        name: "scale",
        about: "33 hosts join one mesh; memory of a daemon",
        measure: |_| scale::measure(),
    },
    Bench {
        name: "peers",
        about: "one node with 10,000 peers: memory, handshakes, the price of a change",
        measure: |options| peers::measure(&options.peers),
    },
    Bench {
        name: "study",
        about: "secure sum, absent addresses, a newcomer becoming visible",
        measure: |_| study::measure(),
    },
    Bench {
        name: "tunnel",
        about: "throughput, latency and cost of the tunnel beside other systems",
        measure: |options| tunnel::measure(&options.tunnel),
    },
    Bench {
        name: "attach",
        about: "2,200 endpoints attached and detached on one host, by up to 16 callers at once",
        measure: |_| attach::measure(),
    },
    Bench {
        name: "containers",
        about: "containers of Docker beside their hosts, and beside Docker's own overlay",
        measure: |_| containers::measure(),
    },
    Bench {
        name: "flood",
        about: "traffic and handshakes during 50,000 spoofed initiations a second",
        measure: |_| flood::measure(),
    },
    Bench {
        name: "rotation",
        about: "traffic while all keys are replaced every two seconds; cutting off revoked nodes",
        measure: |options| rotation::measure(&options.rotation),
    },
    Bench {
        name: "audit",
        about: "a log of a million leaves verified, and leaves appended with their proofs",
        measure: |options| audit::measure(&options.audit),
    },
    Bench {
        name: "overload",
        about: "memory and recovery after a minute of ten times too much traffic",
        measure: |_| overload::measure(),
    },
];

/// Measures, prints a table, and writes JSON if wanted.
pub fn run(options: &Options) -> Result<()> {
    let Some(name) = options.name.as_deref() else {
        BENCHES.iter().for_each(|bench| println!("{}  {}", bench.name, bench.about));
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no benchmark {name}; there are: {}", names.join(", "));
    };
    mesh_lab::possible()?;
    packages::install()?;
    if !options.as_built {
        cargo::build()?;
    }
    let rows = (bench.measure)(options)?;
    print!("{}", bench_table(&rows));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&rows).context("write the rows")?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
