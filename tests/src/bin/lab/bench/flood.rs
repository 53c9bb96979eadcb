//! Traffic and handshakes during a flood of initiations from spoofed sources.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use data_encoding::BASE64;
use mesh_lab::flood::{Flood, SPOOFED};
use mesh_lab::report::Row;
use mesh_lab::{Host, Lab, Mesh, wait};

use super::traffic;

/// Initiations a second.
const PER_SECOND: u32 = 50_000;

/// Port of the tunnels.
const PORT: u16 = 51820;

/// Length of each flow, and how many are measured with the flood and without it, in turn.
const SECONDS: u32 = 3;
const ROUNDS: u32 = 5;

/// Far above the target: a benchmark reports a bad number rather than to give up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Lets two members send while a stranger floods one of them, and a third one come back.
pub fn measure() -> Result<Vec<Row>> {
    let lab = Lab::new("bench-flood")?;
    let [near, far, late, stranger] = lab.hosts(["near", "far", "late", "stranger"])?;
    // What the flooded host answers must not cost the machine a search for the way.
    lab.internet().namespace().ip(&format!("route add blackhole {SPOOFED}\n"))?;
    let mut mesh = lab.mesh("flooded", &[&near, &far, &late])?;
    mesh.everyone_reaches_all()?;
    let key = tunnel_key(&far)?;
    let target = mesh.member("far")?.addr4.to_string();
    let iperf = traffic::Server::start(&far, &target)?;
    traffic::mbit_s(&near, &target, SECONDS)?;
    let before = mesh.member("far")?.daemon.rss_kib()?;

    let (mut ratios, mut rates, mut largest) = (Vec::new(), Vec::new(), before);
    for _ in 0..ROUNDS {
        let calm = traffic::mbit_s(&near, &target, SECONDS)?;
        let flood =
            Flood::start(stranger.namespace(), SocketAddrV4::new(far.addr4(), PORT), &key, PER_SECOND)?;
        ratios.push(traffic::mbit_s(&near, &target, SECONDS)? / calm);
        rates.push(flood.per_second());
        largest = largest.max(mesh.member("far")?.daemon.rss_kib()?);
    }
    drop(iperf);

    let flood = Flood::start(stranger.namespace(), SocketAddrV4::new(far.addr4(), PORT), &key, PER_SECOND)?;
    let handshake = comes_back(&mut mesh, &late, &target)?;
    drop(flood);
    let growth = (largest as f64 / before as f64 - 1.0) * 100.0;
    Ok(vec![
        Row::at_least(
            "initiations a second from spoofed sources",
            middle(rates),
            "1/s",
            f64::from(PER_SECOND) * 0.95,
        ),
        Row::at_least("goodput during the flood, share of that without", middle(ratios) * 100.0, "%", 80.0),
        Row::at_most("a member that starts anew reaches the flooded host", handshake, "s", 5.0),
        Row::at_most("growth of the flooded daemon's RSS", growth, "%", 5.0),
    ])
}

/// Seconds from the answer of a restarted daemon to the first echo from a target.
fn comes_back(mesh: &mut Mesh<'_>, host: &Host, target: &str) -> Result<f64> {
    let member = mesh.member_mut(host.name())?;
    member.daemon.kill()?;
    member.daemon = host.meshd("")?;
    let start = Instant::now();
    wait::until(DEADLINE, "an echo comes back", || host.pings(target, 1).unwrap_or(false))?;
    Ok(start.elapsed().as_secs_f64())
}

/// The key of a host's tunnels, which it tells to those who serve plain WireGuard peers.
fn tunnel_key(host: &Host) -> Result<[u8; 32]> {
    let reply = host.ctl(&["peer", "add-external", "probe", "--no-psk"])?.ok()?;
    let config =
        reply.pointer("/config").and_then(serde_json::Value::as_str).context("find a configuration")?;
    let key = config.lines().find_map(|line| line.strip_prefix("PublicKey = "));
    let key = key.context("find the public key in a configuration")?;
    let bytes = BASE64.decode(key.trim().as_bytes()).context("read a public key")?;
    bytes.try_into().ok().context("a public key has 32 bytes")
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
