//! Many hosts in one mesh, and the memory of a daemon.

use std::time::{Duration, Instant};

use anyhow::Result;
use mesh_lab::report::Row;
use mesh_lab::{Host, Lab, Mesh, wait};

/// Hosts of the large mesh.
const MANY: usize = 33;
/// Far above every target: a benchmark reports a bad number rather than to give up.
const DEADLINE: Duration = Duration::from_secs(180);

/// Lets 33 hosts join one mesh, after a look at a small one.
pub fn measure() -> Result<Vec<Row>> {
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
