//! What a kubelet hears of the network while the daemon is away.

use std::time::Duration;

use anyhow::ensure;
use mesh_lab::{Containerd, Pod, story, wait};

use crate::pools::Pools;

/// Much longer than it takes: containerd asks whenever it is asked.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn a_runtime_is_not_ready_while_the_daemon_is_down() {
    story("pods-status", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = Pools::of(&mesh)?;
        let containerd = Containerd::start_later(&b)?;
        pools.install(&b, &[])?;
        let turns = |is_ready: bool| {
            let what = format!("the network of the runtime is {}ready", if is_ready { "" } else { "not " });
            wait::until(DEADLINE, &what, || containerd.network_is_ready().is_ok_and(|now| now == is_ready))
        };
        turns(true)?;
        let pod = Pod::run(&containerd, "one", &[], &[])?;
        let neighbour = Pod::run(&containerd, "neighbour", &[], &[])?;

        mesh.member_mut("b")?.daemon.kill()?;
        turns(false)?;
        let refused =
            Pod::run(&containerd, "two", &[], &[]).map(|_| ()).map_err(|error| format!("{error:#}"));
        let words = refused.expect_err("a pod without a network");
        ensure!(words.contains("meshd is not running"), "{words}");
        // What needs no other host goes on: the node's probes, and pods of the same node.
        for (from, to) in [(&pod, &neighbour), (&neighbour, &pod)] {
            for target in to.addresses() {
                ensure!(b.pings(target, 1)?, "its node reaches {target}");
                from.exec(&["ping", "-c", "1", "-W", "2", target])?.ok()?;
            }
        }

        mesh.member_mut("b")?.daemon = b.meshd("")?;
        turns(true)?;
        Pod::run(&containerd, "three", &[], &[])?.remove()?;
        // That the daemon is away does not keep a pod from ending either.
        mesh.member_mut("b")?.daemon.kill()?;
        pod.remove()?;
        neighbour.remove()
    });
}
