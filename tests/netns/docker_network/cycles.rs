//! Containers that come and go, while what carries them is killed.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Docker, Host, IMAGE, story, wait};

use crate::station::{ADDRESSES, Station, nothing_is_left, subnet};

/// How many containers come and go; `MESH_CYCLES` has more do.
const CYCLES: usize = 6;
/// From this number on, all addresses of the pool must come back too, which rest for a minute.
const CYCLES_LONG: usize = 50;
/// What Docker forgot is looked for each quarter of a minute, and rests a minute then.
const COLLECTED: Duration = Duration::from_secs(60);
const RESTED: Duration = Duration::from_secs(200);

#[test]
fn containers_that_come_and_go_leave_nothing_whatever_is_killed_meanwhile() {
    story("docker-cycles", |lab| {
        let cycles = std::env::var("MESH_CYCLES").ok();
        let cycles = cycles.map_or(Ok(CYCLES), |text| text.parse().context("read MESH_CYCLES"))?;
        let a = lab.machine("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let mut station = Station::start(&a)?;
        station.network("net", &[&subnet(&mesh, 128, 28)?], &["-o", "meshd.alloc=sequential"])?;
        // With the first one Docker makes a bridge for all.
        come_and_go(&station.docker, "first")?;
        let routes = routes(&a)?;
        for cycle in 0..cycles {
            let name = format!("c{cycle}");
            thread::scope(|scope| -> Result<()> {
                let Station { docker, plugin } = &mut station;
                let docker: &Docker<'_> = docker;
                let comes_and_goes = scope.spawn({
                    let name = name.clone();
                    move || come_and_go(docker, &name)
                });
                match cycle % 3 {
                    0 => {}
                    1 => {
                        plugin.kill()?;
                        *plugin = a.docker_plugin()?;
                    }
                    _ => {
                        mesh.member_mut("a")?.daemon.kill()?;
                        mesh.member_mut("a")?.daemon = a.meshd("")?;
                    }
                }
                comes_and_goes.join().map_err(|_| anyhow::anyhow!("a cycle panicked"))?
            })?;
        }
        wait::until(COLLECTED, "everything is detached", || nothing_is_left(&a).is_ok())?;
        let mut left = String::new();
        let waited = wait::until(COLLECTED, "no route is left", || {
            left = self::routes(&a).unwrap_or_default();
            left == routes
        });
        waited.with_context(|| format!("at first\n{routes}and now\n{left}"))?;
        if cycles >= CYCLES_LONG {
            for number in 0..ADDRESSES {
                let name = format!("all{number}");
                wait::until(RESTED, &format!("{name} has an address"), || {
                    let run = station.start_container("net", &name, &[]);
                    run.is_ok() || station.docker.run(&["rm", "--force", &name]).is_err()
                })?;
            }
            let more = station.start_container("net", "more", &[]);
            ensure!(more.is_err(), "a pool of {ADDRESSES} addresses gives one more");
        }
        Ok(())
    });
}

/// Whether it comes at all depends on what is killed; that it goes does not.
fn come_and_go(docker: &Docker<'_>, name: &str) -> Result<()> {
    let line = ["run", "--detach", "--network", "net", "--name", name, IMAGE];
    let ran = docker.run(&line)?;
    if ran.code == 0 {
        docker.ok(&["exec", name, "true"])?;
    }
    let removed = docker.run(&["rm", "--force", name])?;
    ensure!(removed.code == 0 || removed.stderr.contains("No such container"), "{}", removed.stderr);
    Ok(())
}

/// Routes of the host; whether Docker's own bridges carry anything at the moment is none of their matter.
fn routes(host: &Host) -> Result<String> {
    Ok(host.run(&["ip", "route", "show"])?.ok()?.replace(" linkdown", ""))
}
