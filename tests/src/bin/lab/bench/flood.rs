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

/// How often a member starts anew; a returning handshake has to win against chance.
const RETURNS: u32 = 5;

/// Drops the flood before the daemon sees it: what is left is the cost of making and carrying it.
const FIREWALL: &str =
    "table ip flood { chain in { type filter hook input priority 0; ip saddr 198.19.0.0/16 drop; }; }";
const NO_FIREWALL: &str = "delete table ip flood";

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

    let mut rounds = Rounds::default();
    let mut largest = before;
    for _ in 0..ROUNDS {
        rounds.calm.push(traffic::mbit_s(&near, &target, SECONDS)?);
        let flood = start(&stranger, &far, &key)?;
        rounds.flooded.push(traffic::mbit_s(&near, &target, SECONDS)?);
        rounds.rates.push(flood.per_second());
        largest = largest.max(mesh.member("far")?.daemon.rss_kib()?);
        far.namespace().nft(FIREWALL)?;
        rounds.fenced.push(traffic::mbit_s(&near, &target, SECONDS)?);
        far.namespace().nft(NO_FIREWALL)?;
    }
    drop(iperf);

    let flood = start(&stranger, &far, &key)?;
    let mut handshake = 0.0_f64;
    for _ in 0..RETURNS {
        let seconds = comes_back(&mut mesh, &late, &target)?;
        eprintln!("back after {seconds:.2} s");
        handshake = handshake.max(seconds);
    }
    drop(flood);
    say_drops(&far)?;
    let growth = (largest as f64 / before as f64 - 1.0) * 100.0;
    let rate = f64::from(PER_SECOND) * 0.95;
    Ok(vec![
        Row::at_least("initiations a second from spoofed sources", middle(rounds.rates), "1/s", rate),
        Row::at_least(
            "goodput during the flood, share of that with the same flood and a firewall before the daemon",
            shares(&rounds.flooded, &rounds.fenced),
            "%",
            80.0,
        ),
        Row::at_least(
            "goodput during the flood, share of that without; the flood is made on the same cores",
            shares(&rounds.flooded, &rounds.calm),
            "%",
            80.0,
        ),
        Row::at_most("a member that starts anew reaches the flooded host, slowest of 5", handshake, "s", 5.0),
        Row::at_most("growth of the flooded daemon's RSS", growth, "%", 5.0),
    ])
}

/// Goodput of each round in Mbit/s, and the initiations a second.
#[derive(Debug, Default)]
struct Rounds {
    calm: Vec<f64>,
    flooded: Vec<f64>,
    fenced: Vec<f64>,
    rates: Vec<f64>,
}

fn start(stranger: &Host, to: &Host, key: &[u8; 32]) -> Result<Flood> {
    Flood::start(stranger.namespace(), SocketAddrV4::new(to.addr4(), PORT), key, PER_SECOND)
}

/// Says why the flooded daemon dropped what it dropped, which shows that the flood reached it.
fn say_drops(host: &Host) -> Result<()> {
    let socket = host.socket();
    let socket = socket.to_str().context("the path of a socket is no text")?;
    let line = ["curl", "--silent", "--unix-socket", socket, "http://localhost/metrics"];
    let metrics = host.run(&line)?.ok()?;
    let drops = metrics.lines().filter(|line| line.contains("reason=") && !line.ends_with(" 0"));
    drops.for_each(|line| eprintln!("{line}"));
    Ok(())
}

/// The median share of one number in another of the same round, in a hundred.
fn shares(of: &[f64], whole: &[f64]) -> f64 {
    middle(of.iter().zip(whole).map(|(of, whole)| of / whole * 100.0).collect())
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
