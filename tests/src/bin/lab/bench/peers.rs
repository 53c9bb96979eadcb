//! One node with ten thousand peers: memory, handshakes, and what a change of the peers costs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use mesh_lab::report::Row;

use super::instructions;

/// How many peers.
#[derive(Debug, Args)]
pub struct Options {
    /// peers: how many.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    nodes: u32,
}

/// Runs the data plane of one node in a process of its own, and its peers in another.
pub fn measure(options: &Options) -> Result<Vec<Row>> {
    let program = instructions::build(&["build", "--package", "meshd", "--bench", "peers"], "bench")?;
    let output = Command::new(&program)
        .arg(options.nodes.to_string())
        .stderr(Stdio::inherit())
        .output()
        .context("start a node and its peers")?;
    if !output.status.success() {
        bail!("the node and its peers ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("read the numbers")?;
    text.lines().map(|line| row(line, options.nodes).with_context(|| format!("read `{line}`"))).collect()
}

fn row(line: &str, nodes: u32) -> Result<Row> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, value, unit, kind, limit] = fields[..] else { bail!("it has {} fields", fields.len()) };
    let value = value.parse().context("read its value")?;
    let limit = limit.parse().context("read its limit")?;
    let unit = ["MB", "ms", "s", "1/s", ""].into_iter().find(|known| *known == unit);
    let unit = unit.context("know its unit")?;
    let name = format!("{nodes} peers: {name}");
    Ok(match kind {
        "least" => Row::at_least(&name, value, unit, limit),
        "most" => Row::at_most(&name, value, unit, limit),
        other => bail!("know the limit {other}"),
    })
}
