//! The demonstration: three hosts form a mesh, carry real work, and outlive their registry.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Delay, Host, Lab, Mesh, report, secure_sum};
use nix::sys::signal::Signal;

use crate::{cargo, packages};

const DEADLINE: Duration = Duration::from_secs(20);

/// One line of the summary.
struct Step {
    what: &'static str,
    took: Duration,
    found: String,
}

/// Steps as they are shown and timed.
#[derive(Default)]
struct Show {
    steps: Vec<Step>,
}

impl Show {
    /// Does one step, shows how long it took and what was found.
    fn step<T>(&mut self, what: &'static str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        print!("- {what} ... ");
        stdout().flush().context("print")?;
        let start = Instant::now();
        let (value, found) = work().with_context(|| format!("failed at the step \"{what}\""))?;
        let took = start.elapsed();
        println!("{:.2} s  {}", took.as_secs_f32(), found.lines().next().unwrap_or_default());
        self.steps.push(Step { what, took, found });
        Ok(value)
    }
}

/// Runs the demonstration.
pub fn run(keep: bool) -> Result<()> {
    mesh_lab::possible()?;
    packages::install()?;
    cargo::build()?;
    let lab = Lab::new("demo")?;
    let shown = show(&lab, keep);
    if shown.is_err() {
        lab.failed();
    }
    shown
}

fn show(lab: &Lab, keep: bool) -> Result<()> {
    let start = Instant::now();
    let mut show = Show::default();
    let hosts = show.step("make three hosts around an internet with 5 ms of delay", || {
        let hosts = lab.hosts(["a", "b", "c"])?;
        for (from, to) in [(0, 1), (0, 2), (1, 2)] {
            if let (Some(from), Some(to)) = (hosts.get(from), hosts.get(to)) {
                lab.internet().delay(from.number(), to.number(), Delay::one_way_ms(5))?;
            }
        }
        Ok((hosts, "each is a network namespace with IPv4 and IPv6".to_owned()))
    })?;
    let [a, b, c] = &hosts;
    let mut mesh = show.step("form a mesh: create and invite on a, join on b and c", || {
        let mesh = lab.mesh("demo", &[a, b, c])?;
        mesh.everyone_sees_all()?;
        Ok((mesh, "everyone sees everyone".to_owned()))
    })?;
    show.step("ping every pair over IPv4 and IPv6", || {
        mesh.everyone_reaches_all()?;
        Ok(((), "all answered".to_owned()))
    })?;
    for host in &hosts {
        println!("\n[{}] meshctl status\n{}", host.name(), host.ctl_text(&["status"])?);
    }
    println!("[a] meshctl peers\n{}", a.ctl_text(&["peers"])?);
    show.step("move data from b to c with iperf3", || Ok(((), iperf3(&mesh)?)))?;
    show.step("secure sum over the ring of three", || Ok(((), sum(&mesh)?)))?;
    show.step("kill the daemon of a, registry and steward with it, while b pings c", || {
        Ok(((), outlive(&mut mesh, b)?))
    })?;
    show.step("move data again, without a registry", || Ok(((), iperf3(&mesh)?)))?;
    show.step("start the daemon of a again", || {
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        mesh.everyone_reaches_all()?;
        Ok(((), "everyone reaches everyone".to_owned()))
    })?;
    summary(&show, start.elapsed());
    if keep { stay(lab, &hosts) } else { Ok(()) }
}

fn iperf3(mesh: &Mesh<'_>) -> Result<String> {
    let (from, to) = (mesh.member("b")?, mesh.member("c")?);
    let mut server = to.host.start(&["iperf3", "-s", "-1", "-B", &to.addr4.to_string()])?;
    mesh_lab::wait::until(DEADLINE, "iperf3 listens", || {
        let listening = to.host.run(&["ss", "-Htln", "sport = :5201"]);
        listening.is_ok_and(|output| !output.stdout.trim().is_empty())
    })?;
    let line = ["iperf3", "-c", &to.addr4.to_string(), "-t", "3", "--json"];
    let report: serde_json::Value =
        serde_json::from_str(&from.host.run(&line)?.ok()?).context("read iperf3")?;
    server.wait(DEADLINE)?;
    let received = &report["end"]["sum_received"];
    let (bits, bytes) = (received["bits_per_second"].as_f64(), received["bytes"].as_f64());
    let (bits, bytes) = (bits.context("find the rate")?, bytes.context("find the bytes")?);
    ensure!(bytes > 0.0, "iperf3 moved nothing");
    Ok(format!("{:.0} MB at {:.0} Mbit/s through the tunnel", bytes / 1e6, bits / 1e6))
}

fn sum(mesh: &Mesh<'_>) -> Result<String> {
    let numbers = [1_204, 873, 2_310];
    let run = secure_sum::on_mesh(mesh, &numbers)?;
    let wanted: u64 = numbers.iter().sum();
    ensure!(run.sums.iter().all(|sum| *sum == wanted), "the sums are {:?}", run.sums);
    Ok(format!("all three learn {wanted} and nothing else, in {:.0} ms", run.took.as_secs_f32() * 1e3))
}

fn outlive(mesh: &mut Mesh<'_>, b: &Host) -> Result<String> {
    let c4 = mesh.member("c")?.addr4.to_string();
    let mut ping = b.start(&["ping", "-n", "-i", "0.02", "-c", "100", &c4])?;
    let log = b.log("ping");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    mesh_lab::wait::until(DEADLINE, "pings go on", || text().contains("icmp_seq=10 "))?;
    mesh.member_mut("a")?.daemon.kill()?;
    let status = ping.wait(DEADLINE);
    if status.is_err() {
        ping.signal(Signal::SIGINT)?;
    }
    let text = text();
    let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    ensure!(line.contains(" 0% packet loss"), "packets were lost: {line}");
    Ok("100 of 100 pings from b to c answered".to_owned())
}

fn summary(show: &Show, took: Duration) {
    let mut rows = vec![["step", "seconds", "result"].map(str::to_owned).to_vec()];
    for Step { what, took, found } in &show.steps {
        rows.push(vec![(*what).to_owned(), format!("{:.2}", took.as_secs_f32()), found.clone()]);
    }
    println!("\n{}\ndone in {:.1} s", report::table(&rows), took.as_secs_f32());
}

/// Leaves the hosts up until a signal, which removes the lab and ends this process.
fn stay(lab: &Lab, hosts: &[Host]) -> Result<()> {
    println!("\nthe hosts stay up; enter one with");
    for host in hosts {
        let (namespace, socket) = (host.namespace().name(), host.socket());
        println!(
            "  ip netns exec {namespace} env MESHD_SOCKET={} PATH={}:$PATH bash",
            socket.display(),
            mesh_lab::program_dir()?.display()
        );
    }
    println!("logs: {}\nCtrl-C removes them", lab.logs().display());
    loop {
        std::thread::park();
    }
}
