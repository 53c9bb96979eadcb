//! Benchmarks, by name.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mesh_lab::report::{Row, bench_table};
use mesh_lab::{Host, Lab, Mesh, wait};

use crate::{cargo, packages};

/// A benchmark: its name, what it measures, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    measure: fn() -> Result<Vec<Row>>,
}

const BENCHES: [Bench; 1] =
    [Bench { name: "scale", about: "33 hosts join one mesh; memory of a daemon", measure: scale }];

/// Hosts of the large mesh.
const MANY: usize = 33;
/// Far above every target: a benchmark reports a bad number rather than to give up.
const DEADLINE: Duration = Duration::from_secs(180);

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

fn scale() -> Result<Vec<Row>> {
    let small = {
        let lab = Lab::new("bench-scale-3")?;
        let hosts = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh("small", &hosts.each_ref())?;
        mesh.everyone_reaches_all()?;
        rss_mb_max(&mesh)?
    };
    let lab = Lab::new("bench-scale-33")?;
    let hosts: Vec<Host> = (1..=MANY).map(|number| lab.host(&format!("n{number}"))).collect::<Result<_>>()?;
    let start = Instant::now();
    let mesh = lab.mesh("large", &hosts.iter().collect::<Vec<_>>())?;
    let all_joined = Instant::now();
    connected(&mesh)?;
    let (joining, connecting) = (all_joined - start, all_joined.elapsed());
    Ok(vec![
        Row::at_most("full connectivity after the last of 33 joins", connecting.as_secs_f64(), "s", 10.0),
        Row::at_most("start and join of 33 hosts", joining.as_secs_f64(), "s", 120.0),
        Row::at_most("largest RSS of a daemon with 32 peers", rss_mb_max(&mesh)?, "MB", 40.0),
        Row::at_most("largest RSS of an idle daemon with 2 peers", small, "MB", 20.0),
    ])
}

/// Waits until each host has answers from all others: one fping-like run of `ping` a target, all at once.
fn connected(mesh: &Mesh<'_>) -> Result<()> {
    let targets: Vec<String> = mesh.members.iter().map(|member| member.addr4.to_string()).collect();
    let script =
        targets.iter().map(|to| format!("ping -n -q -c 1 -W 2 {to} >/dev/null &\n")).collect::<String>();
    let script = format!(
        "pids=\"\"\n{}\nfor p in $pids; do wait $p || exit 1; done",
        script.replace("&\n", "& pids=\"$pids $!\"\n")
    );
    for member in &mesh.members {
        let what = format!("{} reaches all others", member.host.name());
        wait::until(DEADLINE, &what, || {
            member.host.run(&["sh", "-c", &script]).is_ok_and(|output| output.code == 0)
        })?;
    }
    Ok(())
}

fn rss_mb_max(mesh: &Mesh<'_>) -> Result<f64> {
    let sizes = mesh.members.iter().map(|member| member.daemon.rss_kib()).collect::<Result<Vec<_>>>()?;
    Ok(sizes.into_iter().max().unwrap_or(0) as f64 * 1024.0 / 1e6)
}
