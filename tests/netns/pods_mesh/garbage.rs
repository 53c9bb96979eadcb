//! GC: what a runtime has forgotten goes, and nothing else.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_lab::{story, wait};

use crate::direct::{Network, Sandbox};
use crate::pools::Pools;
use crate::traces;

const DEADLINE: Duration = Duration::from_secs(30);

/// Both names that the list of the known ones has had.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

#[test]
fn what_the_runtime_forgot_is_collected_and_what_others_have_is_not() {
    story("pods-gc", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let at = mesh.member("a")?.addr4.to_string();
        let network = Network::new(&b, "meshd", &Pools::numbered(&mesh, 8)?);
        // Another runtime's on the same host, whose containers have the same ids.
        let other = Network::new(&b, "podman", &Pools::numbered(&mesh, 9)?);
        let lone = Sandbox::new(&b, "lone")?;
        b.ctl(&["attach", "--netns", &lone.path])?.ok()?;
        let foreign = Sandbox::new(&b, "c0")?;
        let foreign_addresses = other.add(&foreign)?;

        for (round, key) in KEYS.into_iter().enumerate() {
            let sandboxes: Vec<Sandbox> = (0..3)
                .map(|n| Sandbox::new(&b, &format!("c{}", 10 * round + n + 1)))
                .collect::<Result<_>>()?;
            let addresses: Vec<Vec<String>> =
                sandboxes.iter().map(|sandbox| network.add(sandbox)).collect::<Result<_>>()?;
            for address in addresses.iter().flatten() {
                mesh.member("a")?.reaches(DEADLINE, address)?;
                wait::until(DEADLINE, "the address has a name", || {
                    traces::status(&a, &at, &["-x", address]).is_ok_and(|status| status == "NOERROR")
                })?;
            }
            let links = traces::on_host(&b)?.len();

            network.gc(key, &[&sandboxes[1]])?;
            ensure!(traces::on_host(&b)?.len() < links, "links, routes and elements go");
            let left = traces::endpoints(&b)?;
            let is_left = |sandbox: &&Sandbox| left.contains(&sandbox.container);
            ensure!(sandboxes.iter().filter(is_left).count() == 1, "{left:?}");
            for gone in [0, 2] {
                traces::no_claims(&a, &at, &addresses[gone], DEADLINE)?;
                let inside = sandboxes[gone].namespace.name();
                let link = b.run(&["ip", "-n", inside, "link", "show", "eth0"])?;
                ensure!(link.code != 0, "the container's end of the link is gone: {}", link.stdout);
            }
            for address in addresses[1].iter().chain(&foreign_addresses) {
                ensure!(a.pings(address, 1)?, "{address} is still attached");
            }
            // Who forgot all of them says so with an empty list.
            network.gc(key, &[])?;
            traces::no_claims(&a, &at, &addresses[1], DEADLINE)?;
            ensure!(
                traces::endpoints(&b)?.len() == 2,
                "what others have stays: {:?}",
                traces::endpoints(&b)?
            );
            // Again, when there is nothing to collect.
            network.gc(key, &[])?;
        }
        for address in &foreign_addresses {
            ensure!(a.pings(address, 1)?, "{address} of the other runtime is attached");
        }
        other.gc(KEYS[0], &[])?;
        b.ctl(&["detach", "--netns", &lone.path])?.ok()?;
        traces::none_on_host(&b, DEADLINE)
    });
}
