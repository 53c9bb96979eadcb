//! Two nodes with the pods of the cases, attached by the network plugin as a kubelet has them attached, and others
//! whose addresses the cases name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Mesh, Namespace, program};
use serde_json::{Value, json};

use super::cases::{Probe, Table};
use super::place::Place;

/// The network of the pods, and that of the others.
const PODS: &str = "pods";
const OTHERS: &str = "others";

/// A namespace of which the cluster does not know, for pods that are none any more.
const ELSEWHERE: &str = "elsewhere";

#[derive(Debug)]
pub struct World<'lab> {
    nodes: [(&'static str, &'lab Host); 2],
    places: BTreeMap<String, Place>,
    objects: PathBuf,
}

impl<'lab> World<'lab> {
    /// Attaches everybody that a case speaks of; node `one` is host a.
    pub fn new(mesh: &Mesh<'lab>, table: &Table) -> Result<Self> {
        let [a, b] = [mesh.member("a")?, mesh.member("b")?].map(|member| member.host);
        let objects = a.dir().join("world.json");
        fs::write(&objects, table.world.to_string()).context("write the world")?;
        let mut world = Self { nodes: [("one", a), ("two", b)], places: BTreeMap::new(), objects };
        let network = ["network", "create", OTHERS, "--alloc", "sequential"];
        b.ctl(&[&network[..], &["--subnet", &table.others.join(",")]].concat())?.ok()?;
        let probes = table.probes()?;
        // Who asks for addresses comes before those who get what is free.
        let mut pods: Vec<&Value> = table.pods().filter(|pod| !addresses(pod).is_empty()).collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(addresses(pod).len()));
        for pod in pods {
            world.add_pod(table, pod)?;
        }
        let names = probes.iter().flat_map(|probe| [&probe.from, &probe.to]);
        let mut missing: BTreeSet<IpAddr> = BTreeSet::new();
        for name in names.filter(|name| !world.places.contains_key(&key(name))) {
            missing.insert(name.parse().with_context(|| format!("nobody is called {name}"))?);
        }
        let (of_pods, others): (Vec<IpAddr>, Vec<IpAddr>) =
            missing.into_iter().partition(|one| is_pods(*one));
        for wanted in pairs(of_pods) {
            let name = format!("o{}", world.places.len());
            let place = add(b, table, ELSEWHERE, &name, "", &wanted)?;
            world.name_by(&wanted, &place);
        }
        for wanted in pairs(others) {
            let place = attach(b, &format!("o{}", world.places.len()), &wanted)?;
            world.name_by(&wanted, &place);
        }
        let served: BTreeSet<_> = probes.iter().map(|probe| (&probe.to, probe.service)).collect();
        for (name, service) in served {
            world.place(name)?.serve(service)?;
        }
        Ok(world)
    }

    /// A pod by its name, or somebody by an address.
    pub fn place(&self, name: &str) -> Result<&Place> {
        self.places.get(&key(name)).with_context(|| format!("nobody is called {name}"))
    }

    pub fn nodes(&self) -> [(&'static str, &'lab Host); 2] {
        self.nodes
    }

    /// Tells meshd of both nodes what the real compiler makes of the world and of more objects.
    pub fn apply(&self, objects: &str) -> Result<()> {
        let compiler = program("meshd-k8s")?;
        thread::scope(|scope| {
            let tell = |(node, host): (&'static str, &Host)| -> Result<()> {
                let file = host.dir().join("case.json");
                fs::write(&file, objects).context("write a case")?;
                let (world, file) = (self.objects.display().to_string(), file.display().to_string());
                let socket = host.run_dir().join("plugin.sock").display().to_string();
                let compiler = compiler.display().to_string();
                let line = [compiler.as_str(), "rules", "--file", &world, "--file", &file, "--node", node];
                let to = ["--network", PODS, "--apply", "--socket", &socket];
                host.run(&[&line[..], &to].concat())?.ok().map(drop)
            };
            let told: Vec<_> = self.nodes.into_iter().map(|node| scope.spawn(move || tell(node))).collect();
            told.into_iter().try_for_each(|one| one.join().expect("it ends"))
        })
    }

    /// Whether a probe is answered, once for each family.
    pub fn ask(&self, probe: &Probe) -> Result<Vec<bool>> {
        let (from, to) = (self.place(&probe.from)?, self.place(&probe.to)?);
        let mut answers = Vec::new();
        for address in self.targets(probe)? {
            answers.push(from.asks(to, address, probe.service)?);
        }
        Ok(answers)
    }

    /// Whom a probe asks: of somebody who is named by an address that one alone is meant.
    fn targets(&self, probe: &Probe) -> Result<Vec<IpAddr>> {
        let named = |name: &str| name.parse::<IpAddr>().ok();
        let is_meant = |address: &IpAddr| {
            named(&probe.to).is_none_or(|one| one == *address)
                && named(&probe.from).is_none_or(|one| one.is_ipv4() == address.is_ipv4())
        };
        let targets: Vec<IpAddr> =
            self.place(&probe.to)?.addresses.iter().copied().filter(is_meant).collect();
        ensure!(!targets.is_empty(), "{probe}: nobody is asked");
        Ok(targets)
    }

    fn add_pod(&mut self, table: &Table, pod: &Value) -> Result<()> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let wanted = addresses(pod);
        let node = self.nodes.into_iter().find(|(node, _)| *node == text("/spec/nodeName"));
        let (_, host) = node.with_context(|| format!("{name} is on no node"))?;
        if pod.pointer("/spec/hostNetwork").is_some() {
            let place = Place { namespace: host.namespace().clone(), addresses: wanted.clone() };
            self.name_by(&wanted, &place);
            self.places.insert(format!("{namespace}/{name}"), place);
            return Ok(());
        }
        if matches!(text("/status/phase"), "Succeeded" | "Failed") {
            // Somebody else has its addresses by now.
            let place = add(host, table, ELSEWHERE, name, "", &wanted)?;
            self.name_by(&wanted, &place);
            return Ok(());
        }
        let place = add(host, table, namespace, name, text("/metadata/uid"), &wanted)?;
        self.places.insert(format!("{namespace}/{name}"), place);
        Ok(())
    }

    fn name_by(&mut self, addresses: &[IpAddr], place: &Place) {
        self.places.extend(addresses.iter().map(|address| (address.to_string(), place.clone())));
    }
}

/// Whether pods may have an address.
fn is_pods(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[2] & 0xf0 == 128,
        IpAddr::V6(address) => address.segments()[4] == 0xd008,
    }
}

/// One of each family together as long as there are both; so none is taken by somebody who wants none of its family.
fn pairs(addresses: Vec<IpAddr>) -> Vec<Vec<IpAddr>> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let pair = || Some(v4.next().into_iter().chain(v6.next()).collect::<Vec<_>>());
    std::iter::from_fn(pair).take_while(|pair| !pair.is_empty()).collect()
}

/// Attaches somebody who is no pod.
fn attach(host: &Host, name: &str, wanted: &[IpAddr]) -> Result<Place> {
    let namespace = Namespace::create(&format!("{}-{name}", host.namespace().name()))?;
    let path = format!("/run/netns/{}", namespace.name());
    let wanted: Vec<String> = wanted.iter().map(IpAddr::to_string).collect();
    let options = wanted.iter().flat_map(|address| ["--ip", address]);
    let line = ["attach", "--netns", &path, "--network", OTHERS].into_iter().chain(options);
    let attached = host.ctl(&line.collect::<Vec<_>>())?.ok()?;
    let given = attached["addresses"].as_array().context("addresses")?;
    let addresses = given.iter().filter_map(|address| address.as_str()?.parse().ok()).collect();
    Ok(Place { namespace, addresses })
}

/// One for each address, however it is written.
fn key(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}

/// The addresses of a pod, as the API tells them.
fn addresses(pod: &Value) -> Vec<IpAddr> {
    let status = &pod["status"];
    let all = status["podIPs"].as_array().into_iter().flatten().filter_map(|one| one["ip"].as_str());
    let mut found: Vec<IpAddr> =
        all.chain(status["podIP"].as_str()).filter_map(|ip| ip.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Has a pod attached by the network plugin, as the runtime of its node calls it.
fn add(
    host: &Host,
    table: &Table,
    pod_namespace: &str,
    pod: &str,
    uid: &str,
    wanted: &[IpAddr],
) -> Result<Place> {
    let container = format!("{pod_namespace}-{pod}");
    let namespace = Namespace::create(&format!("{}-{container}", host.namespace().name()))?;
    let [pool4, pool6] = &table.pods;
    let configuration = json!({
        "cniVersion": "1.1.0", "name": PODS, "type": "meshd", "pool4": pool4, "pool6": pool6,
        "allocation": "sequential", "socket": host.run_dir().join("plugin.sock"),
    });
    let stdin = host.dir().join(format!("{container}.json"));
    fs::write(&stdin, configuration.to_string()).context("write a configuration")?;
    let mut about = format!("K8S_POD_NAMESPACE={pod_namespace};K8S_POD_NAME={pod};K8S_POD_UID={uid}");
    for address in wanted {
        about.push_str(&format!(";IP={address}"));
    }
    let netns = format!("/run/netns/{}", namespace.name());
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", &container),
        ("CNI_NETNS", &netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        ("CNI_ARGS", &about),
    ];
    let mut line = vec!["env".to_owned(), "--ignore-environment".to_owned()];
    line.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    line.extend(["/bin/sh", "-c", "exec \"$0\" <\"$1\""].map(str::to_owned));
    line.extend([program("meshd-cni")?.display().to_string(), stdin.display().to_string()]);
    let said = host.run(&line)?.ok()?;
    let result: Value = serde_json::from_str(&said).with_context(|| format!("read {said}"))?;
    let ips = result["ips"].as_array().context("addresses")?.iter();
    let addresses: Vec<IpAddr> =
        ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect();
    ensure!(wanted.iter().all(|address| addresses.contains(address)), "{container}: {said}");
    Ok(Place { namespace, addresses })
}
