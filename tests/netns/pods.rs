//! Containers of runtimes that attach them by CNI: containerd and podman, with the reference plugins.

use std::fs;

use anyhow::{Context, Result};
use mesh_lab::{Containerd, Host, IMAGE, Podman, remains, story};

/// A network of the reference plugins.
const BRIDGE: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {
      "type": "bridge", "bridge": "lab0", "isGateway": true, "ipMasq": true,
      "ipam": {
        "type": "host-local", "ranges": [[{ "subnet": "10.78.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}"#;

/// What a container's first address looks like on that network.
const FIRST: &str = "10.78.0.2";

#[test]
fn ctr_attaches_a_container_by_cni_and_detaches_it() {
    let mut seen = String::new();
    story("ctr", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        network(&a)?;
        let mut containerd = Containerd::start(&a)?;
        containerd.ok(&["run", "--detach", "--cni", IMAGE, "web"])?;
        let addresses = containerd.exec("web", &["ip", "-4", "address"])?.ok()?;
        assert!(addresses.contains(FIRST), "{addresses}");
        containerd.exec("web", &["ping", "-c", "1", &b.addr4().to_string()])?.ok()?;

        containerd.stop()?;
        assert!(a.pings(FIRST, 1)?, "the container goes on without its runtime");
        containerd.resume()?;
        containerd.exec("web", &["true"])?.ok()?;
        containerd.remove("web")?;
        assert!(!a.pings(FIRST, 1)?);
        seen = lab.id().to_owned();
        Ok(())
    });
    assert_eq!(remains(&seen), [""; 0]);
}

#[test]
fn podman_attaches_a_container_by_cni_and_publishes_its_port() {
    let mut seen = String::new();
    story("podman", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        network(&a)?;
        let podman = Podman::new(&a)?;
        let serve = ["run", "--detach", "--network=lab", "--publish=8080:80", "--name=web", IMAGE];
        podman.ok(&[&serve[..], &["nc", "-ll", "-p", "80", "-e", "echo", "served"]].concat())?;
        let addresses = podman.ok(&["exec", "web", "ip", "-4", "address"])?;
        assert!(addresses.contains(FIRST), "{addresses}");
        podman.ok(&["exec", "web", "ping", "-c", "1", &b.addr4().to_string()])?;
        // By the host's address, from another host: through the reference plugin for ports.
        let fetched = b.run(&["busybox", "nc", "-w", "5", &a.addr4().to_string(), "8080"])?.ok()?;
        assert_eq!(fetched, "served\n");
        podman.ok(&["rm", "--force", "web"])?;
        assert!(!a.pings(FIRST, 1)?);
        seen = lab.id().to_owned();
        Ok(())
    });
    assert_eq!(remains(&seen), [""; 0]);
}

fn network(host: &Host) -> Result<()> {
    let path = host.path("/etc/cni/net.d/10-lab.conflist");
    fs::write(&path, BRIDGE).with_context(|| format!("write {}", path.display()))
}
