//! Bad input: one clear message by the runtime, and nothing left behind.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Containerd, Host, Pod, story, wait};
use serde_json::{Value, json};

use crate::direct::{IFNAME, Network, Sandbox};
use crate::pools::Pools;
use crate::traces;

const DEADLINE: Duration = Duration::from_secs(30);

/// Addresses of the smallest pool but the first, the last and the gateway's, which are nobody's.
const USABLE: usize = 16 - 3;

#[test]
fn a_runtime_shows_why_a_pod_can_not_be_attached() {
    story("pods-refused", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = Pools::of(&mesh)?;
        let containerd = Containerd::start(&b)?;
        pools.install(&b, &[])?;
        let network = |more: &Value| configure(&b, &pools, more);

        network(&json!({"name": "unknown", "subnet": "10.0.0.0/8"}))?;
        refuses(&containerd, "one", r#"unknown key "subnet" with "10.0.0.0/8""#)?;

        let [first, second, ..] = mesh.member("a")?.addr4.octets();
        network(&json!({"name": "outside", "pool4": "192.0.2.0/24", "pool6": null}))?;
        refuses(&containerd, "one", "192.0.2.0/24")?;
        // A part of what a network of this host has.
        b.ctl(&["network", "create", "jobs", "--subnet", &format!("{first}.{second}.176.0/20")])?.ok()?;
        network(&json!({"name": "overlap", "pool4": format!("{first}.{second}.176.0/24"), "pool6": null}))?;
        refuses(&containerd, "one", "overlap")?;

        let small = format!("{first}.{second}.192.0/28");
        network(&json!({"name": "small", "pool4": small, "pool6": null, "allocation": "sequential"}))?;
        let mut pods = vec![runs(&containerd, "pod0")?];
        let words = loop {
            match Pod::run(&containerd, &format!("pod{}", pods.len()), &[], &[]) {
                Ok(pod) => pods.push(pod),
                Err(error) => break format!("{error:#}"),
            }
            ensure!(pods.len() <= USABLE, "more pods than addresses");
        };
        ensure!(
            pods.len() == USABLE && words.contains("no address of the pool is free"),
            "{} pods, then: {words}",
            pods.len()
        );
        pods.into_iter().try_for_each(Pod::remove)?;

        network(&json!({"name": "meshd"}))?;
        let holder = runs(&containerd, "web")?;
        let named = [("meshd.ips", holder.addresses()[0].as_str())];
        let taken = Pod::run_annotated(&containerd, "one", &named, &[], &[]).map(drop);
        let words = format!("{:#}", taken.err().context("an address given twice")?);
        ensure!(words.contains("is taken"), "{words}");

        mesh.member_mut("b")?.daemon.kill()?;
        refuses(&containerd, "one", "meshd is not running")?;
        mesh.member_mut("b")?.daemon = b.meshd("")?;
        holder.remove()?;
        traces::none_on_host(&b, DEADLINE)?;
        let namespaces = b.run(&["ls", "/run/netns"])?.ok()?;
        ensure!(!namespaces.contains("cni-"), "namespaces of pods are left: {namespaces}");
        runs(&containerd, "one")?.remove()
    });
}

#[test]
fn a_call_that_makes_no_sense_is_refused_and_changes_nothing() {
    story("pods-nonsense", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let network = Network::new(&b, "meshd", &Pools::of(&mesh)?);
        let sandbox = Sandbox::new(&b, "c1")?;

        network.with(&json!({"cniVersion": "9.9.9"})).call("ADD", &sandbox)?.refused(1, "9.9.9")?;
        network.say("ADD", &sandbox, "{\"name\": \"meshd\"")?.refused(6, "no network configuration")?;
        network.say("ADD", &sandbox, "")?.refused(6, "no network configuration")?;
        network.with(&json!({"allocation": "random"})).call("ADD", &sandbox)?.refused(7, "random")?;

        for path in ["/run/netns/absent", "/etc/hostname", "/proc/self/ns/mnt", "run/netns"] {
            let lost = Sandbox { path: path.to_owned(), ..sandbox.clone() };
            let said = network.call("ADD", &lost)?;
            ensure!(said.output.code == 1 && said.output.stdout.contains(path), "{}", said.output.stdout);
        }
        let host = Sandbox { path: format!("/run/netns/{}", b.namespace().name()), ..sandbox.clone() };
        let said = network.call("ADD", &host)?;
        ensure!(said.output.code == 1, "a host is no container of its own: {}", said.output.stdout);

        sandbox.namespace.ip(&format!("link add {IFNAME} type veth peer name other\n"))?;
        let said = network.call("ADD", &sandbox)?;
        said.refused(101, IFNAME)?;
        sandbox.namespace.ip(&format!("link del {IFNAME}\n"))?;
        traces::none_on_host(&b, DEADLINE)?;

        // The same name on another node, by another network: refused with the holder's.
        let elsewhere = Network::new(&a, "meshd", &Pools::of(&mesh)?);
        let holder = Sandbox::new(&a, "c1")?;
        let addresses = elsewhere.add(&holder)?;
        wait::until(DEADLINE, "b hears of the name", || {
            traces::status(&b, &own_address(&mesh, "b"), &["-x", &addresses[0]])
                .is_ok_and(|it| it == "NOERROR")
        })?;
        network.call("ADD", &sandbox)?.refused(101, "c1.lab")?;
        let wished = json!({"runtimeConfig": {"ips": [addresses[0]]}});
        let unnamed = Sandbox { container: "c2".to_owned(), ..sandbox.clone() };
        network.with(&wished).call("ADD", &unnamed)?.refused(101, "taken by node a")?;
        traces::none_on_host(&b, DEADLINE)?;

        // All of that was no reason to refuse what makes sense.
        elsewhere.del(&holder)?;
        wait::until(DEADLINE, "the name is free", || {
            network.call("ADD", &sandbox).is_ok_and(|said| said.output.code == 0)
        })?;
        network.call("ADD", &sandbox)?.refused(101, "attached to meshd already")?;
        network.del(&sandbox)?;
        traces::none_on_host(&b, DEADLINE)
    });
}

fn own_address(mesh: &mesh_lab::Mesh<'_>, name: &str) -> String {
    mesh.member(name).map_or_else(|_| String::new(), |member| member.addr4.to_string())
}

/// Configures the one network of a host; the plugin was installed before.
fn configure(host: &Host, pools: &Pools, more: &Value) -> Result<()> {
    let mut plugin = json!({
        "type": "meshd", "pool4": pools.v4, "pool6": pools.v6, "socket": host.run_dir().join("plugin.sock"),
        "capabilities": {"io.kubernetes.cri.pod-annotations": true},
    });
    for (key, value) in more.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
        plugin[key] = value.clone();
    }
    let list = json!({"cniVersion": "1.0.0", "name": more["name"], "plugins": [plugin]});
    let path = host.path("/etc/cni/net.d/05-meshd.conflist");
    fs::write(&path, list.to_string()).with_context(|| format!("write {}", path.display()))
}

/// Waits until the runtime has read the configuration and says these words, once.
fn refuses(containerd: &Containerd<'_>, name: &str, words: &str) -> Result<()> {
    let mut said = String::new();
    let refused = wait::until(DEADLINE, &format!("a pod is refused with {words:?}"), || {
        said = match Pod::run(containerd, name, &[], &[]) {
            Ok(pod) => format!("it was run, and its removal was {:?}", pod.remove()),
            Err(error) => format!("{error:#}"),
        };
        said.matches(words).count() == 1
    });
    refused.with_context(|| said)
}

/// Waits until the runtime has read the configuration and runs a pod.
fn runs(containerd: &Containerd<'_>, name: &str) -> Result<Pod> {
    let mut last = None;
    let pod = wait::until_some(DEADLINE, "a pod is run", || {
        Pod::run(containerd, name, &[], &[]).map_err(|error| last = Some(error)).ok()
    });
    pod.with_context(|| last.map(|error| format!("{error:#}")).unwrap_or_default())
}
