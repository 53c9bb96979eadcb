//! Names of containers in the mesh.

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, story, wait};

use crate::station::{DEADLINE, Station, nothing_is_left, pools};

/// Where every container can ask for names, on whatever host.
const DNS: [&str; 2] = ["--dns", "169.254.1.1"];

#[test]
fn containers_are_reached_by_name_across_hosts_for_as_long_as_they_have_it() {
    story("docker-names", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let mut stations = [Station::start(&a)?, Station::start(&b)?];
        let [pool4, pool6] = pools(&mesh, 128)?;
        for station in &stations {
            station.network("net", &[&pool4, &pool6], &[])?;
        }
        let domain = domain(&a)?;
        let labelled = [&DNS[..], &["--label", "meshd.label.tier=db"]].concat();
        stations[0].start_container("net", "Study_web", &labelled)?;
        stations[1].start_container("net", "asker", &DNS)?;
        let of = |name: &str| format!("{name}.{domain}");
        let asks = |station: &Station<'_>, name: &str| station.pings("asker", &of(name));
        stations[1].reaches("asker", &of("study-web"))?;
        stations[0].reaches("Study_web", &of("asker"))?;

        stations[0].docker.ok(&["rename", "Study_web", "front"])?;
        stations[1].reaches("asker", &of("front"))?;
        wait::until(DEADLINE, "the old name is gone", || !asks(&stations[1], "study-web"))?;

        // What the plugin has not seen it finds when it is back.
        stations[0].plugin.kill()?;
        stations[0].docker.ok(&["rename", "front", "web"])?;
        stations[0].plugin = a.docker_plugin()?;
        stations[1].reaches("asker", &of("web"))?;

        // A name has one holder; another container of that name has its address alone, until the name is free.
        stations[1].start_container("net", "web", &DNS)?;
        let holder = stations[0].addresses("web")?;
        let refused = format!("the name web is taken by node {}", a.name());
        wait::until(DEADLINE, "the refusal is said", || {
            std::fs::read_to_string(b.log("meshd-docker")).is_ok_and(|log| log.contains(&refused))
        })?;
        ensure!(stations[1].pings("web", &holder[0]), "a container without a name is cut off");
        let said = stations[1].docker.ok(&["exec", "asker", "ping", "-c", "1", "-W", "2", &of("web")])?;
        ensure!(leads_to(&said, &holder), "a name leads to who was refused: {said}");
        let own = stations[1].addresses("web")?;
        stations[0].docker.ok(&["rm", "--force", "web"])?;
        wait::until(DEADLINE, "the name leads to its next holder", || {
            let line = ["exec", "asker", "ping", "-c", "1", "-W", "2", &of("web")];
            stations[1].docker.run(&line).is_ok_and(|said| said.code == 0 && leads_to(&said.stdout, &own))
        })?;
        let log = std::fs::read_to_string(b.log("meshd-docker"))?;
        ensure!(log.matches(&refused).count() == 1, "a refusal is said again and again: {log}");

        stations[1].docker.ok(&["rm", "--force", "web"])?;
        wait::until(DEADLINE, "no name is left", || !asks(&stations[1], "web"))?;
        stations[1].docker.ok(&["rm", "--force", "asker"])?;
        [&a, &b].into_iter().try_for_each(nothing_is_left)
    });
}

/// Whether a ping says that it went to one of these addresses.
fn leads_to(said: &str, addresses: &[String]) -> bool {
    addresses.iter().any(|address| said.contains(&format!("({address})")))
}

/// Names end so in this mesh.
fn domain(host: &Host) -> Result<String> {
    let status = host.ctl(&["status"])?.ok()?;
    let name = status.pointer("/node/dns_name").and_then(serde_json::Value::as_str);
    let name = name.with_context(|| format!("no name of the node in {status}"))?;
    Ok(name.split_once('.').context("a domain")?.1.to_owned())
}
