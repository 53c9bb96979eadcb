//! What Docker tells nobody, because nobody was there, is found afterwards.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_lab::{Host, story, wait};

use crate::station::{Station, nothing_is_left, subnet};

/// Docker must not have a network for half a minute before it is gone.
const FORGOTTEN: Duration = Duration::from_secs(75);

#[test]
fn a_network_that_is_removed_while_meshd_is_down_is_forgotten_later_and_others_are_not() {
    story("docker-forgotten", |lab| {
        let a = lab.machine("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let station = Station::start(&a)?;
        let pools = [subnet(&mesh, 128, 20)?, subnet(&mesh, 144, 20)?];
        for (name, pool) in ["gone", "kept"].iter().zip(&pools) {
            station.network(name, &[pool], &[])?;
        }
        ensure!(networks(&a)? == 2);
        mesh.member_mut("a")?.daemon.kill()?;
        station.docker.ok(&["network", "rm", "gone"])?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        ensure!(networks(&a)? == 2, "meshd can't know yet");
        wait::until(FORGOTTEN, "the network is forgotten", || networks(&a).is_ok_and(|left| left == 1))?;
        // Its pool can be one of another kind.
        station.network("gone", &[&pools[0]], &["-o", "meshd.alloc=sequential"])?;
        for network in ["gone", "kept"] {
            station.start_container(network, network, &[])?;
            station.docker.ok(&["rm", "--force", network])?;
        }
        nothing_is_left(&a)
    });
}

/// How many networks of Docker meshd knows.
fn networks(host: &Host) -> Result<usize> {
    let listed = host.ctl(&["network", "list"])?.ok()?;
    let networks = listed["networks"].as_array().into_iter().flatten();
    Ok(networks.filter(|network| network["runtime"] == "docker").count())
}
