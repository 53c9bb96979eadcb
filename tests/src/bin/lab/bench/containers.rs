//! Containers of Docker on hosts of a mesh: beside the hosts themselves, beside Docker's own overlay, and while their
//! daemon dies.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::report::Row;
use mesh_lab::{Docker, Host, IMAGE, Lab, Mesh, wait};
use serde_json::Value;

use super::statistics::{median, paired_ratio};
use super::traffic::{Server, Spot, mbit_s};

/// Rounds; each measures all ways in turn, and ratios are taken between numbers of one round.
const ROUNDS: usize = 7;
/// Length of one stream.
const SECONDS: u32 = 2;
/// Runs of the secure sum, as in the study.
const SUMS: usize = 10;
/// Far above every target: a benchmark reports a bad number rather than to give up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Length of the stream during which the daemon dies, and when it does.
const OUTAGE_SECONDS: u32 = 8;
const OUTAGE_AFTER: Duration = Duration::from_secs(3);
/// How finely its silence is seen.
const INTERVAL_S: f64 = 0.1;

/// The network and containers of the mesh, and those of the overlay.
const NETWORK: &str = "study";
const PARTY: &str = "party";
const OVERLAY: &str = "overlay";
const RIVAL: &str = "rival";

/// Measures throughput, the secure sum, and the silence of a flow.
pub fn measure() -> Result<Vec<Row>> {
    let lab = Lab::new("bench-containers")?;
    let [a, b, c] = lab.machines(["a", "b", "c"])?;
    let mut mesh = lab.mesh("study", &[&a, &b, &c])?;
    mesh.everyone_reaches_all()?;
    let _plugins = [a.docker_plugin()?, b.docker_plugin()?, c.docker_plugin()?];
    let dockers = [Docker::start(&a)?, Docker::start(&b)?, Docker::start(&c)?];
    let parties = parties(&mesh, &dockers)?;
    let [near, far, _] = &dockers;
    let (party, other) = (inside(near, PARTY)?, inside(far, PARTY)?);
    reaches(near, PARTY, parties[1])?;

    let sums = (0..SUMS).map(|_| secure_sum_s(&dockers, parties[0])).collect::<Result<Vec<f64>>>()?;
    let rival = overlay(near, far)?;
    reaches(near, RIVAL, rival)?;

    let host = mesh.member("b")?.addr4.to_string();
    let (target, rival) = (parties[1].to_string(), rival.to_string());
    let _on_host = Server::start(&b, &host)?;
    let mut in_party = Server::start(other.clone(), &target)?;
    let _in_rival = Server::start(inside(far, RIVAL)?, &rival)?;
    let own = inside(near, RIVAL)?;
    let (mut hosts, mut containers, mut overlays) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        hosts.push(Some(mbit_s(&a, &host, SECONDS)?));
        containers.push(Some(mbit_s(party.clone(), &target, SECONDS)?));
        overlays.push(Some(mbit_s(own.clone(), &rival, SECONDS)?));
    }

    in_party.restart(other, &target)?;
    let silence = silence_s(&a, &mut mesh, &party, &target)?;
    let ratio = |to: &[Option<f64>]| paired_ratio(&containers, to).context("no round was measured");
    Ok(vec![
        Row::at_least("container to container, share of host to host", ratio(&hosts)?, "", 0.9),
        Row::at_least("container to container, times Docker's overlay in clear", ratio(&overlays)?, "", 1.0),
        Row::at_most(
            "secure sum in three containers, median of 10 runs",
            median(&sums).context("no sum was measured")?,
            "s",
            0.3,
        ),
        Row::at_most("silence of a flow while its daemon is killed and started", silence, "s", 1.0),
    ])
}

/// Runs a container on each host, in one network with consecutive addresses.
fn parties(mesh: &Mesh<'_>, dockers: &[Docker<'_>]) -> Result<Vec<Ipv4Addr>> {
    let [first, second, ..] = mesh.steward()?.addr4.octets();
    let subnet = format!("{first}.{second}.100.0/24");
    let create = ["network", "create", "--driver=meshd", "--ipam-driver=meshd", "--subnet", &subnet];
    // The image has a busybox and no more; the program brings the machine's libraries along, and a ping that does not
    // wait on after an answer that says "unreachable".
    let program = format!("{}:/usr/local/bin/secure-sum:ro", mesh_lab::program("secure-sum")?.display());
    let libraries = ["/usr/lib:/usr/lib:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro"];
    let ping = "/usr/bin/ping:/usr/local/bin/ping:ro";
    let volumes = [&[program.as_str(), ping], &libraries[..]].concat();
    let volumes: Vec<String> = volumes.iter().map(|volume| format!("--volume={volume}")).collect();
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    let mut addresses = Vec::new();
    for docker in dockers {
        docker.ok(&[&create[..], &["--opt", "meshd.alloc=sequential", NETWORK]].concat())?;
        let run = ["run", "--detach", "--network", NETWORK, "--name", PARTY];
        docker.ok(&[&run[..], &volumes, &[IMAGE]].concat())?;
        addresses.push(address(docker, PARTY)?);
    }
    Ok(addresses)
}

/// Makes a swarm of two hosts with a container each on its overlay; returns the address of the second.
fn overlay(near: &Docker<'_>, far: &Docker<'_>) -> Result<Ipv4Addr> {
    let own = near.host().addr4().to_string();
    near.ok(&["swarm", "init", "--advertise-addr", &own])?;
    let token = near.ok(&["swarm", "join-token", "--quiet", "worker"])?;
    let own_far = far.host().addr4().to_string();
    far.ok(&["swarm", "join", "--advertise-addr", &own_far, "--token", &token, &format!("{own}:2377")])?;
    near.ok(&["network", "create", "--driver=overlay", "--attachable", OVERLAY])?;
    for docker in [near, far] {
        docker.ok(&["run", "--detach", "--network", OVERLAY, "--name", RIVAL, IMAGE])?;
    }
    address(far, RIVAL)
}

fn address(docker: &Docker<'_>, container: &str) -> Result<Ipv4Addr> {
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = docker.ok(&["inspect", "--format", template, container])?;
    address.parse().with_context(|| format!("read the address of {container}: {address}"))
}

fn inside<'lab>(docker: &Docker<'lab>, container: &str) -> Result<Spot<'lab>> {
    Ok(Spot::of_process(docker.host(), docker.pid(container)?))
}

fn reaches(docker: &Docker<'_>, container: &str, target: Ipv4Addr) -> Result<()> {
    wait::until(DEADLINE, &format!("{container} reaches {target}"), || {
        let ping = docker.run(&["exec", container, "ping", "-c", "1", "-W", "2", &target.to_string()]);
        ping.is_ok_and(|output| output.code == 0)
    })
}

/// Seconds from the start of the first party to the end of the last; each finds its address by its name.
fn secure_sum_s(dockers: &[Docker<'_>], first: Ipv4Addr) -> Result<f64> {
    let script = |number: usize| {
        format!(
            "PATH=/usr/local/bin:/bin exec secure-sum --address \"$(hostname -i | cut -d ' ' -f 1)\" --first {first} --number {number}"
        )
    };
    let pids: Vec<String> =
        dockers.iter().map(|docker| docker.pid(PARTY).map(|pid| pid.to_string())).collect::<Result<_>>()?;
    let start = Instant::now();
    let sums: Vec<Result<String>> = thread::scope(|scope| {
        let parties = dockers.iter().zip(&pids).enumerate();
        let parties: Vec<_> = parties
            .map(|(at, (docker, pid))| {
                let script = script(at + 1);
                // Not by `docker exec`, which takes longer to start a program than the sum takes.
                let enter =
                    ["nsenter", "--target", pid, "--mount", "--uts", "--net", "--pid", "--root", "--wd"];
                let line: Vec<String> =
                    enter.into_iter().chain(["sh", "-c", &script]).map(str::to_owned).collect();
                let host = docker.host();
                scope.spawn(move || host.run(&line)?.ok())
            })
            .collect();
        parties.into_iter().map(|party| party.join().unwrap_or_else(|_| bail!("a party panicked"))).collect()
    });
    let took = start.elapsed().as_secs_f64();
    let wanted: usize = (1..=dockers.len()).sum();
    for sum in sums {
        let sum = sum?;
        ensure!(sum.trim().parse() == Ok(wanted), "a party learned {sum}");
    }
    Ok(took)
}

/// Longest time without a byte that a container receives, while the daemon of its host is killed and started again.
fn silence_s(host: &Host, mesh: &mut Mesh<'_>, party: &Spot<'_>, target: &str) -> Result<f64> {
    let (length, interval) = (OUTAGE_SECONDS.to_string(), INTERVAL_S.to_string());
    let line = party.line(&["iperf3", "-J", "-R", "-c", target, "-t", &length, "-i", &interval]);
    let said = thread::scope(|scope| {
        let stream = scope.spawn(|| host.run(&line)?.ok());
        thread::sleep(OUTAGE_AFTER);
        let member = mesh.member_mut(host.name())?;
        member.daemon.kill()?;
        member.daemon = host.meshd("")?;
        stream.join().unwrap_or_else(|_| bail!("the stream panicked"))
    })?;
    let said: Value = serde_json::from_str(&said).context("read the result of iperf3")?;
    let intervals = said["intervals"].as_array().context("find the intervals in a result of iperf3")?;
    let (mut longest, mut now) = (0.0_f64, 0.0);
    for interval in intervals {
        let sum = &interval["sum"];
        let seconds = sum["seconds"].as_f64().context("find the length of an interval")?;
        now = if sum["bytes"].as_f64() == Some(0.0) { now + seconds } else { 0.0 };
        longest = longest.max(now);
    }
    ensure!(now == 0.0, "the flow did not come back");
    Ok(longest)
}
