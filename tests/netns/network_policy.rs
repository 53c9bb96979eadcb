//! Network policies of Kubernetes by real traffic: pods on two nodes are held to what `meshd-k8s` makes of the objects of
//! each case, and everybody of whom the case speaks is asked.

#[expect(dead_code, reason = "the tests of the agent ask for more")]
#[path = "../../plugins/k8s-cni/agent/tests/agent/api.rs"]
mod api;
#[path = "network_policy/cases.rs"]
mod cases;
#[path = "network_policy/place.rs"]
mod place;
#[path = "network_policy/world.rs"]
mod world;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Process, program, sctp, story, wait};
use serde_json::{Value, json};

use api::Api;
use cases::{Probe, Service, Table, policy};
use place::Connection;
use world::World;

/// How long something that is allowed may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// How soon a change has to be in force, and how long a loaded machine may take to notice.
const IN_FORCE: Duration = Duration::from_secs(5);
/// Fewer would not be the table that was promised.
const CASES_MIN: usize = 60;
/// Exceptions of a block: more than the table of a host holds. They do not touch each other.
const HOLES: u32 = 300_000;
/// The first of them.
const HOLES_FIRST: u32 = 0x0b00_0000;
/// Probes at a time: each is a thread, and some are processes.
const PROBES_AT_ONCE: usize = 64;

#[test]
fn pods_reach_whom_upstreams_definition_lets_them_reach() {
    story("network-policy", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let table = Table::read(&mesh)?;
        let world = World::new(&mesh, &table)?;
        let has_sctp = sctp::is_followed(a.namespace())?;
        let is_asked = |probe: &Probe| has_sctp || !matches!(probe.service, Service::Sctp(_));

        // Whoever is denied something below reaches it here.
        world.apply(&json!({ "kind": "List", "items": [] }).to_string())?;
        let all: Vec<(Probe, bool)> = table.probes()?.into_iter().map(|probe| (probe, true)).collect();
        let all: Vec<(Probe, bool)> = all.into_iter().filter(|(probe, _)| is_asked(probe)).collect();
        let wrong = wrong(&world, &all)?;
        ensure!(wrong.is_empty(), "without policies: {wrong:#?}");

        let (mut failed, mut asked) = (Vec::new(), 0);
        for case in &table.cases {
            world.apply(&case.objects()).with_context(|| case.case.clone())?;
            let probes: Vec<_> = case.probes()?.into_iter().filter(|(probe, _)| is_asked(probe)).collect();
            asked += probes.len();
            let wrong = self::wrong(&world, &probes)?;
            failed.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", case.case)));
        }
        ensure!(failed.is_empty(), "{failed:#?}");
        ensure!(table.cases.len() >= CASES_MIN, "{} cases", table.cases.len());
        eprintln!("{} cases, {asked} questions", table.cases.len());
        Ok(())
    });
}

#[test]
fn what_changes_in_the_cluster_is_in_force_soon_and_cuts_connections_that_go_on() {
    story("network-policy-cut", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let table = Table::read(&mesh)?;
        let world = World::new(&mesh, &table)?;
        let cluster = Cluster::new(&world, &table)?;
        let port =
            |place: &place::Place, number: usize, port: u16| SocketAddr::new(place.addresses[number], port);
        let [web, db, client, job] = ["a/web", "a/db", "b/client", "c/job"].map(|name| world.place(name));
        let (web, db, client, job) = (web?, db?, client?, job?);
        // From the same node and from the other one, over both families.
        let (mut cut, mut kept) = (Vec::new(), Vec::new());
        for number in 0..2 {
            cut.push(client.must_open(port(web, number, 80), DEADLINE)?);
            cut.push(job.must_open(port(web, number, 80), DEADLINE)?);
            cut.push(web.must_open(port(db, number, 80), DEADLINE)?);
            kept.push(db.must_open(port(web, number, 80), DEADLINE)?);
            kept.push(web.must_open(port(client, number, 80), DEADLINE)?);
        }
        ensure!(
            cut.iter_mut().chain(&mut kept).all(|one| one.answers_within(DEADLINE)),
            "all work before the change"
        );

        let own = json!({ "podSelector": { "matchLabels": { "app": "web" } },
            "ingress": [{ "from": [{ "podSelector": {} }] }] });
        let out = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Egress"],
            "egress": [{ "to": [{ "namespaceSelector": { "matchLabels": { "team": "blue" } } }] }] });
        let begin = Instant::now();
        cluster.put("networkpolicies", &policy("a", "own", &own));
        cluster.put("networkpolicies", &policy("a", "out", &out));
        thread::scope(|scope| {
            let ends = |connection: &mut Connection| {
                let mut last = begin;
                wait::until(IN_FORCE, "a connection that is not allowed any more is cut", || {
                    let asked = Instant::now();
                    let is_alive = connection.answers();
                    last = if is_alive { asked } else { last };
                    !is_alive
                })?;
                Ok::<_, anyhow::Error>(last - begin)
            };
            let ended: Vec<_> = cut.iter_mut().map(|one| scope.spawn(move || ends(one))).collect();
            let mut latest = Duration::ZERO;
            for one in ended {
                latest = latest.max(one.join().expect("it ends")?);
            }
            eprintln!("the last answer came {latest:?} after the change");
            Ok::<_, anyhow::Error>(())
        })?;
        for (number, one) in kept.iter_mut().enumerate() {
            ensure!(one.answers_within(DEADLINE), "connection {number} is allowed and was cut");
        }

        // Labels of a namespace, and those of a pod, change who is meant.
        let mut away = table.object("Namespace", "", "b")?;
        away["metadata"]["labels"]["team"] = json!("green");
        cluster.put("namespaces", &away);
        wait::until(IN_FORCE, "who is in no such namespace any more is not reached", || {
            web.opens(port(client, 0, 80)).is_err()
        })?;
        let mut renamed = table.object("Pod", "a", "web")?;
        renamed["metadata"]["labels"]["app"] = json!("other");
        cluster.put("pods", &renamed);
        client.must_open(port(web, 0, 80), IN_FORCE).context("a pod that no policy selects any more")?;
        web.must_open(port(client, 1, 80), IN_FORCE)?;
        cluster.put("pods", &table.object("Pod", "a", "web")?);
        wait::until(IN_FORCE, "it is selected again", || client.opens(port(web, 0, 80)).is_err())?;

        cluster.delete("networkpolicies", &policy("a", "own", &own));
        client.must_open(port(web, 1, 80), IN_FORCE).context("the policy is gone")?;
        Ok(())
    });
}

#[test]
fn a_namespace_that_asks_too_much_is_shut_and_nobody_else_waits_for_it() {
    story("network-policy-heavy", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let table = Table::read(&mesh)?;
        let world = World::new(&mesh, &table)?;
        let cluster = Cluster::new(&world, &table)?;
        let (web, db, client) = (world.place("a/web")?, world.place("a/db")?, world.place("b/client")?);
        let at = |place: &place::Place| SocketAddr::new(place.addresses[0], 80);
        web.must_open(at(client), DEADLINE)?;

        let hole = |number: u32| format!("{}/32", Ipv4Addr::from(HOLES_FIRST + 2 * number));
        let holes: Vec<String> = (0..HOLES).map(hole).collect();
        let block = json!({ "cidr": "11.0.0.0/8", "except": holes });
        let heavy = policy(
            "b",
            "heavy",
            &json!({ "podSelector": { "matchLabels": { "app": "client" } },
                "ingress": [{}, { "from": [{ "ipBlock": block }] }] }),
        );
        cluster.put("networkpolicies", &heavy);
        wait::until(DEADLINE, "the agent says that a policy is too heavy", || {
            let log = fs::read_to_string(a.log("meshd-k8s"));
            log.is_ok_and(|log| log.contains("b/heavy: too heavy, so it allows nothing"))
        })?;
        wait::until(DEADLINE, "a policy that can't hold allows nothing", || web.opens(at(client)).is_err())?;

        let own = policy(
            "a",
            "own",
            &json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }),
        );
        db.must_open(at(web), DEADLINE)?;
        client.must_open(at(web), DEADLINE)?;
        cluster.put("networkpolicies", &own);
        wait::until(DEADLINE, "another namespace is heard", || client.opens(at(web)).is_err())?;
        db.must_open(at(web), DEADLINE).context("it allows what it allows")?;
        cluster.delete("networkpolicies", &heavy);
        web.must_open(at(client), DEADLINE).context("the policy is gone").map(drop)
    });
}

/// What is not as it should be; what passes may take its time.
fn wrong(world: &World<'_>, probes: &[(Probe, bool)]) -> Result<Vec<String>> {
    let ask = |(probe, passes): &(Probe, bool)| -> Result<Option<String>> {
        let mut seen = Vec::new();
        let is_right = |seen: &[bool]| seen.iter().all(|one| one == passes);
        let patience = if *passes { DEADLINE } else { Duration::ZERO };
        let answered = wait::until(patience, "an answer", || {
            seen = world.ask(probe).unwrap_or_default();
            !seen.is_empty() && is_right(&seen)
        });
        Ok(answered.is_err().then(|| format!("{probe}: {seen:?}, not {passes}")))
    };
    let mut wrong = Vec::new();
    for some in probes.chunks(PROBES_AT_ONCE) {
        let asked: Vec<Result<Option<String>>> = thread::scope(|scope| {
            let asking: Vec<_> = some.iter().map(|one| scope.spawn(move || ask(one))).collect();
            asking.into_iter().map(|one| one.join().expect("a probe ends")).collect()
        });
        for one in asked {
            wrong.extend(one?);
        }
    }
    Ok(wrong)
}

/// A cluster whose agents are the real ones; an API server stands on each node.
struct Cluster {
    servers: Vec<Api>,
    agents: Vec<Process>,
}

impl Cluster {
    fn new(world: &World<'_>, table: &Table) -> Result<Self> {
        let mut cluster = Self { servers: Vec::new(), agents: Vec::new() };
        for (node, host) in world.nodes() {
            let api = host.namespace().run(Api::start)?;
            cluster.servers.push(api.clone());
            api.put("nodes", json!({ "metadata": { "name": node } }));
            cluster.agents.push(agent(host, node, &api)?);
        }
        for object in table.world["items"].as_array().context("objects")? {
            let kind = if object["kind"] == "Pod" { "pods" } else { "namespaces" };
            cluster.put(kind, object);
        }
        for (_, host) in world.nodes() {
            let ready = host.run_dir().join("k8s.ready");
            wait::until(DEADLINE, "the agent is ready", || ready.exists())?;
        }
        Ok(cluster)
    }

    fn put(&self, kind: &str, object: &Value) {
        for server in &self.servers {
            server.put(kind, object.clone());
        }
    }

    fn delete(&self, kind: &str, object: &Value) {
        for server in &self.servers {
            server.delete(kind, object.clone());
        }
    }
}

fn agent(host: &Host, node: &str, api: &Api) -> Result<Process> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": api.url() } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": {} }],
    });
    let file = host.dir().join("kubeconfig");
    fs::write(&file, config.to_string()).context("write a kubeconfig")?;
    let (run, program) = (host.run_dir(), program("meshd-k8s")?);
    let [program, file, socket, ready] = [program, file, run.join("plugin.sock"), run.join("k8s.ready")]
        .map(|path| path.display().to_string());
    let line = [program.as_str(), "run", "--node", node, "--network", "pods", "--kubeconfig", &file];
    host.start(&[&line[..], &["--socket", &socket, "--ready-file", &ready]].concat())
}
