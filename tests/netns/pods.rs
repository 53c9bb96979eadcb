//! Containers of runtimes that attach them by CNI: containerd and podman, with the reference plugins.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Containerd, Host, IMAGE, Pod, Podman, remains, story, wait};

const DEADLINE: Duration = Duration::from_secs(20);

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
fn a_kubelet_would_run_a_pod_and_reach_its_port() {
    let mut seen = String::new();
    story("cri", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let containerd = Containerd::start(&a)?;
        assert!(!containerd.network_is_ready()?, "no network is configured yet");
        network(&a)?;
        wait::until(DEADLINE, "the network is ready", || containerd.network_is_ready().unwrap_or(false))?;
        let serve = ["nc", "-ll", "-p", "80", "-e", "echo", "served"];
        let pod = Pod::run(&containerd, "web", &[(8080, 80)], &serve)?;
        assert_eq!(pod.addresses(), [FIRST]);
        assert_eq!(pod.exec(&["hostname"])?.ok()?, "web\n");
        pod.exec(&["ping", "-c", "1", &b.addr4().to_string()])?.ok()?;
        serves(&b, &a)?;
        pod.remove()?;
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
        serves(&b, &a)?;
        podman.ok(&["rm", "--force", "web"])?;
        assert!(!a.pings(FIRST, 1)?);
        seen = lab.id().to_owned();
        Ok(())
    });
    assert_eq!(remains(&seen), [""; 0]);
}

/// Reaches a container by the address of its host, through the reference plugin for ports.
fn serves(from: &Host, on: &Host) -> Result<()> {
    let address = on.addr4().to_string();
    wait::until(DEADLINE, "the published port is served", || {
        let fetched = from.run(&["busybox", "nc", "-w", "5", &address, "8080"]);
        fetched.is_ok_and(|output| output.stdout == "served\n")
    })
}

fn network(host: &Host) -> Result<()> {
    let path = host.path("/etc/cni/net.d/10-lab.conflist");
    fs::write(&path, BRIDGE).with_context(|| format!("write {}", path.display()))
}
