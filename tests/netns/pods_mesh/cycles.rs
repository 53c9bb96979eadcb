//! Many that come and go, and what is left of them when the plugin or the daemon is killed in between.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Containerd, Daemon, Host, IMAGE, Mesh, Pod, Podman, story, wait};

use crate::direct::{Network, Sandbox};
use crate::pools::Pools;
use crate::traces;

/// How many cycles there are, where the few of a usual run are not enough.
const CYCLES: &str = "MESH_CYCLES";

/// A multiple of the ways to end one.
const CYCLES_USUAL: usize = 20;

/// A runtime takes about a second for one.
const CYCLES_USUAL_OF_RUNTIMES: usize = 5;

/// The network of podman.
const PODMAN: &str = "meshd-podman";

const DEADLINE: Duration = Duration::from_secs(30);

/// Time until nothing may be left of what nobody said goodbye to, and as much for a loaded machine.
const COLLECTED_WITHIN: Duration = Duration::from_secs(120);

/// The kill comes at a moment that differs from cycle to cycle, over all that an attachment takes.
const KILL_STEP: Duration = Duration::from_micros(1700);
const KILL_STEPS: usize = 41;

/// Ways to end a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The plugin is killed in ADD, and the runtime says DEL.
    PluginInAdd,
    /// The plugin is killed in ADD, and the runtime with it: nobody says DEL.
    PluginInAddAndNoDel,
    /// The plugin is killed in DEL.
    PluginInDel,
    /// The daemon is killed in ADD, and is down at DEL.
    DaemonInAdd,
    /// The daemon is killed after ADD, and is down at DEL.
    DaemonBetween,
}

const WAYS: [Way; 5] =
    [Way::PluginInAdd, Way::PluginInAddAndNoDel, Way::PluginInDel, Way::DaemonInAdd, Way::DaemonBetween];

#[test]
fn nothing_is_left_of_containers_that_come_and_go() {
    story("pods-cycles", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let network = Network::new(&b, "meshd", &Pools::of(&mesh)?);
        let sandbox = Sandbox::new(&b, "c")?;
        let mut given = BTreeSet::new();
        for n in 0..cycles(CYCLES_USUAL)? {
            let sandbox = Sandbox { container: format!("c{n}"), ..sandbox.clone() };
            given.extend(network.add(&sandbox)?);
            network.del(&sandbox)?;
        }
        nothing_is_left(&mesh, &a, &b, &given)?;
        addresses_can_be_given_again(&mesh, &b, &given)
    });
}

#[test]
fn nothing_is_left_when_the_plugin_or_the_daemon_is_killed_between_add_and_del() {
    story("pods-killed", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let network = Network::new(&b, "meshd", &Pools::of(&mesh)?);
        let mut given = BTreeSet::new();
        let mut slowest_del = Duration::ZERO;
        for n in 0..cycles(CYCLES_USUAL)? {
            let way = WAYS[n % WAYS.len()];
            let moment = KILL_STEP * u32::try_from(n / WAYS.len() % KILL_STEPS)?;
            let sandbox = Sandbox::new(&b, &format!("c{n}"))?;
            let daemon = &mut mesh.member_mut("b")?.daemon;
            let took = cycle(way, moment, &network, &sandbox, daemon, &mut given)
                .with_context(|| format!("cycle {n}, {way:?}, killed after {moment:?}"))?;
            slowest_del = slowest_del.max(took);
            // The runtime removes the namespace, whatever came before.
            sandbox.namespace.remove()?;
        }
        println!("the slowest DEL without a daemon took {slowest_del:?}");
        nothing_is_left(&mesh, &a, &b, &given)?;
        addresses_can_be_given_again(&mesh, &b, &given)
    });
}

#[test]
fn nothing_is_left_of_pods_and_containers_of_real_runtimes_that_come_and_go() {
    story("pods-runtimes", |lab| {
        let a = lab.host("a")?;
        let [b, c] = lab.machines(["b", "c"])?;
        let mesh = lab.mesh("clinics", &[&a, &b, &c])?;
        mesh.everyone_reaches_all()?;
        let pools = Pools::of(&mesh)?;
        pools.install(&c, &["--name", PODMAN])?;
        let podman = Podman::new(&c)?;
        let containerd = Containerd::start_later(&b)?;
        pools.install(&b, &[])?;
        wait::until(DEADLINE, "pods can be run", || containerd.network_is_ready().unwrap_or(false))?;
        let mut given = BTreeSet::new();
        for n in 0..cycles(CYCLES_USUAL_OF_RUNTIMES)? {
            let name = format!("p{n}");
            let pod = Pod::run(&containerd, &name, &[], &[]).with_context(|| format!("run {name}"))?;
            given.extend(pod.addresses().iter().cloned());
            pod.remove().with_context(|| format!("remove {name}"))?;
            let addresses = podman.ok(&["run", "--rm", "--network", PODMAN, IMAGE, "hostname", "-i"])?;
            ensure!(!addresses.is_empty(), "a container of podman has an address");
        }
        traces::none_on_host(&c, COLLECTED_WITHIN)?;
        nothing_is_left(&mesh, &a, &b, &given)
    });
}

/// One that comes and goes; the time that DEL took without a daemon.
fn cycle(
    way: Way,
    moment: Duration,
    network: &Network<'_>,
    sandbox: &Sandbox,
    daemon: &mut Daemon,
    given: &mut BTreeSet<String>,
) -> Result<Duration> {
    match way {
        Way::PluginInAdd | Way::PluginInAddAndNoDel => {
            let mut plugin = network.begin("ADD", sandbox)?;
            sleep(moment);
            plugin.kill()?;
            if way == Way::PluginInAdd {
                network.del(sandbox)?;
            }
        }
        Way::PluginInDel => {
            given.extend(network.add(sandbox)?);
            let mut plugin = network.begin("DEL", sandbox)?;
            sleep(moment);
            plugin.kill()?;
        }
        Way::DaemonInAdd | Way::DaemonBetween => {
            if way == Way::DaemonInAdd {
                let mut plugin = network.begin("ADD", sandbox)?;
                sleep(moment);
                daemon.kill()?;
                plugin.wait(DEADLINE)?;
            } else {
                given.extend(network.add(sandbox)?);
                daemon.kill()?;
            }
            let start = Instant::now();
            network.del(sandbox)?;
            let took = start.elapsed();
            *daemon = network.host().meshd("")?;
            return Ok(took);
        }
    }
    Ok(Duration::ZERO)
}

/// On the host no link, route, element of the filter or endpoint; in the mesh no claim and no name.
fn nothing_is_left(mesh: &Mesh<'_>, a: &Host, b: &Host, given: &BTreeSet<String>) -> Result<()> {
    let start = Instant::now();
    traces::none_on_host(b, COLLECTED_WITHIN)?;
    println!(
        "{} addresses were given; after {:?} nothing was left on the host",
        given.len(),
        start.elapsed()
    );
    let at = mesh.member("a")?.addr4.to_string();
    let given: Vec<String> = given.iter().cloned().collect();
    traces::no_claims(a, &at, &given, DEADLINE)
}

/// What was given back can be had again by who gave it.
fn addresses_can_be_given_again(mesh: &Mesh<'_>, b: &Host, given: &BTreeSet<String>) -> Result<()> {
    let network = Network::new(b, "meshd", &Pools::of(mesh)?);
    for (n, address) in given.iter().take(8).enumerate() {
        let sandbox = Sandbox::new(b, &format!("again{n}"))?;
        let wished = serde_json::json!({"runtimeConfig": {"ips": [address]}});
        ensure!(network.with(&wished).add(&sandbox)?.contains(address), "{address} is given again");
        network.del(&sandbox)?;
    }
    traces::none_on_host(b, DEADLINE)
}

fn cycles(usual: usize) -> Result<usize> {
    match std::env::var(CYCLES) {
        Ok(number) => number.parse().with_context(|| format!("read {CYCLES}")),
        Err(_) => Ok(usual),
    }
}
