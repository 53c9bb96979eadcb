//! Together with the reference plugins for ports and rates, and with a runtime that knows no pods.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Containerd, Host, IMAGE, Output, Pod, story, wait};

use crate::pools::Pools;
use crate::traces;

const DEADLINE: Duration = Duration::from_secs(30);

/// Time until nothing may be left of what nobody said goodbye to, and as much for a loaded machine.
const COLLECTED_WITHIN: Duration = Duration::from_secs(120);

/// What a pod serves at port 80.
const SERVE: [&str; 7] = ["nc", "-ll", "-p", "80", "-e", "echo", "served"];

/// Where it is published on its host.
const PUBLISHED: &str = "8080";

/// What a kubelet hands on of a pod's manifest.
const RATES: [(&str, &str); 2] =
    [("kubernetes.io/ingress-bandwidth", "10M"), ("kubernetes.io/egress-bandwidth", "20M")];

#[test]
fn a_published_port_leads_to_its_pod_from_everywhere_and_rates_are_set() {
    story("pods-chain", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let containerd = Containerd::start(&a)?;
        Pools::of(&mesh)?.install(&a, &[])?;
        wait::until(DEADLINE, "pods can be run", || containerd.network_is_ready().unwrap_or(false))?;
        let before = links(&a)?;
        let pod = Pod::run_annotated(&containerd, "web", &RATES, &[(8080, 80)], &SERVE)?;
        let neighbour = Pod::run(&containerd, "neighbour", &[], &[])?;
        let (underlay, overlay) = (a.addr4().to_string(), mesh.member("a")?.addr4.to_string());
        let on = |host: &Host, target: &str| host.run(&["busybox", "nc", "-w", "5", target, PUBLISHED]);
        let within = |pod: &Pod, target: &str| pod.exec(&["nc", "-w", "5", target, PUBLISHED]);
        serves("its host", || on(&a, &underlay))?;
        serves("another host, past the mesh", || on(&b, &underlay))?;
        serves("another host, through the mesh", || on(&b, &overlay))?;
        serves("another pod", || within(&neighbour, &underlay))?;
        serves("itself", || within(&pod, &underlay))?;
        serves("itself, through the mesh", || within(&pod, &overlay))?;

        let rates = a.run(&["tc", "qdisc"])?.ok()?;
        for rate in ["rate 10Mbit", "rate 20Mbit"] {
            ensure!(rates.lines().any(|line| line.contains("qdisc tbf") && line.contains(rate)), "{rates}");
        }
        pod.remove()?;
        neighbour.remove()?;
        ensure!(on(&b, &underlay)?.stdout.is_empty(), "nobody serves the port any more");
        ensure!(links(&a)? == before, "links that were there before, and no others: {:?}", links(&a)?);
        traces::none_on_host(&a, DEADLINE)
    });
}

#[test]
fn ctr_attaches_a_container_to_the_mesh_and_detaches_it() {
    story("pods-ctr", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        for host in [&a, &b] {
            Pools::of(&mesh)?.install(host, &[])?;
        }
        let containerds = [Containerd::start(&a)?, Containerd::start_later(&b)?];
        for containerd in &containerds {
            containerd.ok(&["run", "--detach", "--cni", IMAGE, "job"])?;
        }
        let addresses = containerds.each_ref().map(|containerd| addresses(containerd, "job"));
        let [one, two] = addresses;
        let (one, two) = (one?, two?);
        for (containerd, targets) in [(&containerds[0], &two), (&containerds[1], &one)] {
            ensure!(targets.len() == 2, "both families: {targets:?}");
            for target in targets {
                wait::until(DEADLINE, &format!("a container pings {target}"), || {
                    let ping = containerd.exec("job", &["ping", "-c", "1", "-W", "2", target]);
                    ping.is_ok_and(|ping| ping.code == 0)
                })?;
            }
        }
        containerds.iter().try_for_each(|containerd| containerd.remove("job"))?;
        // ctr removes a container that it has detached from without a word to its network.
        [&a, &b].into_iter().try_for_each(|host| traces::none_on_host(host, COLLECTED_WITHIN))
    });
}

fn serves(whom: &str, mut fetch: impl FnMut() -> Result<Output>) -> Result<()> {
    let mut said = String::new();
    let served = wait::until(DEADLINE, &format!("the published port is served to {whom}"), || {
        said = fetch().map_or_else(|error| format!("{error:#}"), |output| output.stdout + &output.stderr);
        said == "served\n"
    });
    served.with_context(|| said)
}

/// Addresses of a container's interface, but those of the link alone.
fn addresses(containerd: &Containerd<'_>, container: &str) -> Result<Vec<String>> {
    let listed = containerd.exec(container, &["ip", "-o", "address", "show", "dev", "eth0"])?.ok()?;
    let words: Vec<&str> = listed.split_whitespace().collect();
    let found = words.windows(2).filter_map(|pair| match pair {
        ["inet" | "inet6", address] => address.split('/').next(),
        _ => None,
    });
    Ok(found.filter(|address| !address.starts_with("fe80:")).map(str::to_owned).collect())
}

/// Names of a host's links; portmap and bandwidth make some too.
fn links(host: &Host) -> Result<Vec<String>> {
    let listed = host.run(&["ip", "-o", "link"])?.ok()?;
    Ok(listed.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect())
}
