//! The cases: policies in a world of pods, and who may reach whom by upstream's definition. The compiler's own tests read
//! the same files.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use mesh_lab::Mesh;
use serde::Deserialize;
use serde_json::{Value, json};

const WORLD: &str = include_str!("../../../plugins/k8s-cni/agent/src/compile/tests/cases/world.yaml");

const CASES: [&str; 5] = [
    include_str!("../../../plugins/k8s-cni/agent/src/compile/tests/cases/selection.yaml"),
    include_str!("../../../plugins/k8s-cni/agent/src/compile/tests/cases/directions.yaml"),
    include_str!("../../../plugins/k8s-cni/agent/src/compile/tests/cases/peers.yaml"),
    include_str!("../../../plugins/k8s-cni/agent/src/compile/tests/cases/ports.yaml"),
    include_str!("../../../plugins/k8s-cni/agent/src/compile/tests/cases/blocks.yaml"),
];

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub case: String,
    /// Policies of namespace a: each its spec.
    #[serde(default)]
    a: Vec<Value>,
    /// Policies of namespace b.
    #[serde(default)]
    b: Vec<Value>,
    /// Other objects beside those of the world.
    #[serde(default)]
    pub more: Vec<Value>,
    /// What passes, `b/client > a/web tcp 80`.
    #[serde(default)]
    yes: Vec<String>,
    /// What does not.
    #[serde(default)]
    no: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Tcp(u16),
    Udp(u16),
    Sctp(u16),
    Ping,
}

/// One question: who asks whom, pods by their names and others by their addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    pub from: String,
    pub to: String,
    pub service: Service,
}

impl Case {
    /// What is asked in this case, and whether it passes.
    pub fn probes(&self) -> Result<Vec<(Probe, bool)>> {
        let lines = self.yes.iter().map(|line| (line, true)).chain(self.no.iter().map(|line| (line, false)));
        lines
            .map(|(line, passes)| {
                let probe = Probe::read(line).with_context(|| format!("{}: {line}", self.case))?;
                Ok((probe, passes))
            })
            .collect()
    }

    /// All its objects but those of the world, as `kubectl get --output json` writes them.
    pub fn objects(&self) -> String {
        let policies = [("a", &self.a), ("b", &self.b)].into_iter().flat_map(|(namespace, specs)| {
            specs.iter().enumerate().map(move |(number, spec)| policy(namespace, &format!("p{number}"), spec))
        });
        let items: Vec<Value> = policies.chain(self.more.iter().cloned()).collect();
        json!({ "kind": "List", "items": items }).to_string()
    }
}

impl Probe {
    fn read(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [from, ">", to, service @ ..] = words.as_slice() else { anyhow::bail!("no question") };
        let service = match service {
            ["icmp"] => Service::Ping,
            ["tcp", port] => Service::Tcp(port.parse()?),
            ["udp", port] => Service::Udp(port.parse()?),
            ["sctp", port] => Service::Sctp(port.parse()?),
            _ => anyhow::bail!("no service"),
        };
        Ok(Self { from: (*from).to_owned(), to: (*to).to_owned(), service })
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} > {} {:?}", self.from, self.to, self.service)
    }
}

/// A policy of a namespace.
pub fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({ "namespace": namespace, "name": name });
    json!({ "kind": "NetworkPolicy", "metadata": metadata, "spec": spec })
}

/// The cases at the addresses of a lab.
#[derive(Debug)]
pub struct Table {
    /// Objects that are there in every case.
    pub world: Value,
    pub cases: Vec<Case>,
    /// Pools of the pods, IPv4 first.
    pub pods: [String; 2],
    /// Pools of those who are no pods.
    pub others: [String; 2],
}

impl Table {
    /// Reads them; what they say of addresses is moved into the prefixes of the mesh, and node `two` is host b.
    pub fn read(mesh: &Mesh<'_>) -> Result<Self> {
        let node = mesh.member("b")?;
        let ([a, b, ..], [c, d, e, f, ..]) = (node.addr4.octets(), node.addr6.segments());
        let (v4, v6) = (format!("{a}.{b}"), format!("{c:x}:{d:x}:{e:x}:{f:x}"));
        let moves = [
            ("10.0.0.", format!("{v4}.129.")),
            ("10.0.9.", format!("{v4}.138.")),
            ("192.0.2.", format!("{v4}.146.")),
            ("192.0.3.", format!("{v4}.147.")),
            ("fd00::", format!("{v6}:d008:1::")),
            ("fd01::", format!("{v6}:d009::")),
            ("192.168.0.1", node.addr4.to_string()),
            ("fd99::1", node.addr6.to_string()),
        ];
        let moved =
            |text: &str| moves.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let mut cases = Vec::new();
        for text in CASES {
            let more: Vec<Case> = serde_saphyr::from_str(&moved(text)).context("read the cases")?;
            cases.extend(more);
        }
        Ok(Self {
            world: serde_saphyr::from_str(&moved(WORLD)).context("read the world")?,
            cases,
            pods: [format!("{v4}.128.0/20"), format!("{v6}:d008::/80")],
            others: [format!("{v4}.144.0/20"), format!("{v6}:d009::/80")],
        })
    }

    /// Everything that is asked in any case.
    pub fn probes(&self) -> Result<BTreeSet<Probe>> {
        let mut all = BTreeSet::new();
        for case in &self.cases {
            let probes = case.probes()?;
            ensure!(!probes.is_empty(), "{}: nothing is asked", case.case);
            all.extend(probes.into_iter().map(|(probe, _)| probe));
        }
        Ok(all)
    }

    /// All pods of all cases.
    pub fn pods(&self) -> impl Iterator<Item = &Value> {
        let world = self.world["items"].as_array().into_iter().flatten();
        let all = world.chain(self.cases.iter().flat_map(|case| &case.more));
        all.filter(|object| object["kind"] == "Pod")
    }

    /// An object of the world.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let mut all = self.world["items"].as_array().into_iter().flatten();
        let found = all.find(|object| {
            let metadata = &object["metadata"];
            object["kind"] == kind
                && metadata["name"] == name
                && metadata["namespace"].as_str().unwrap_or_default() == namespace
        });
        found.cloned().with_context(|| format!("there is no {kind} {namespace}/{name}"))
    }
}
