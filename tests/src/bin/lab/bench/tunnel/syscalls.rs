//! System calls that a tunnel makes for what it carries, counted by strace.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::wait;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::link::Pair;
use super::traffic::Iperf;

const STRACE_DEADLINE: Duration = Duration::from_secs(20);

/// Seconds of traffic; strace slows a tunnel down, but a batch stays a batch.
const SECONDS: u32 = 1;

/// Calls each MB of payload, of both ends together, by name; empty where no process carries the traffic.
pub fn per_mb(pair: &Pair, iperf: &Iperf<'_>, processes: &[Pid]) -> Result<BTreeMap<String, f64>> {
    if processes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let file = pair.near.dir().join("strace.txt");
    let path = file.to_str().context("the path of a trace is no text")?;
    let pids: Vec<String> = processes.iter().map(Pid::to_string).collect();
    let mut line = vec!["strace", "-c", "-f", "-o", path];
    pids.iter().for_each(|pid| line.extend(["-p", pid]));
    let log = pair.near.log("strace");
    let mut strace = pair.near.start(&line)?;
    wait::until(STRACE_DEADLINE, "strace has attached", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        pids.iter().all(|pid| text.contains(&format!("Process {pid} attached")))
    })?;
    let flow = iperf.tcp(1, false, SECONDS);
    strace.signal(Signal::SIGINT)?;
    strace.wait(STRACE_DEADLINE)?;
    let text = std::fs::read_to_string(&file).context("read what strace counted")?;
    let megabytes = flow?.bytes / 1e6;
    ensure!(megabytes > 0.0, "nothing came through beside strace");
    Ok(counts(&text).into_iter().map(|(name, calls)| (name, calls / megabytes)).collect())
}

/// Calls by name, out of the table of `strace -c`.
fn counts(table: &str) -> BTreeMap<String, f64> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.last()?;
        let calls: f64 = words.get(3)?.parse().ok()?;
        (*name != "total").then(|| ((*name).to_owned(), calls))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace_yields_its_calls() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     \u{20}60.00    0.000600           6       100           sendmsg\n\
                     \u{20}40.00    0.000400           4        90        10 read\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.001000           5       190        10 total\n";
        let expected = [("read".to_owned(), 90.0), ("sendmsg".to_owned(), 100.0)];
        assert_eq!(counts(table), BTreeMap::from(expected));
    }
}
