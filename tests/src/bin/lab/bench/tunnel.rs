//! The tunnel beside other systems, in one run: every round measures all of them in turn, and ratios are taken
//! between numbers of the same round, so that a machine that slows down slows all.

mod chart;
mod fetch;
mod link;
mod machine;
mod markdown;
mod results;
mod syscalls;
mod system;
mod targets;
mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use mesh_lab::Lab;
use mesh_lab::report::Row;

use self::link::{Link, Pair};
use self::results::{Measured, Metric, OnLink, Once, Results};
use self::system::{Found, Running, System};
use self::traffic::Iperf;
use crate::bench::statistics;
use crate::packages;

/// Programs that measuring needs.
const TOOLS: [(&str, &str); 6] = [
    ("strace", "strace"),
    ("ethtool", "ethtool"),
    ("wg", "wireguard-tools"),
    ("ss", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Rounds of a whole run and of a quick one; a median of fewer than seven says little.
const ROUNDS: (u32, u32) = (7, 3);

/// Seconds of each flow, of a whole run and of a quick one.
const SECONDS: (u32, u32) = (2, 1);

/// How the reason starts for which a system had no turn.
const SKIPPED: &str = "skipped";

/// Payload of datagrams that fill packets of 1400 bytes.
const PAYLOAD_1400: u32 = 1372;

/// Which systems to measure beside meshd, and how long.
#[derive(Debug, Args)]
pub struct Options {
    /// tunnel: which systems besides meshd; all if none is given.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    peers: Vec<String>,
    /// tunnel: rounds, in each of which every system has its turn.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,
    /// tunnel: seconds of each flow.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// tunnel: fewer rounds, shorter flows, no UDP, no four streams; the documents stay as they are.
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn systems(&self) -> Result<Vec<System>> {
        let mut chosen = Vec::new();
        for name in &self.peers {
            let Some(system) = System::named(name) else {
                let names = System::ALL.map(System::name).join(", ");
                bail!("there is no system {name}; there are: {names}");
            };
            chosen.push(system);
        }
        let wanted = |system: &System| chosen.is_empty() || chosen.contains(system) || system.is_ours();
        Ok(System::ALL.into_iter().filter(wanted).collect())
    }

    fn pick<T>(&self, given: Option<T>, (whole, quick): (T, T)) -> T {
        given.unwrap_or(if self.quick { quick } else { whole })
    }

    fn flows(&self) -> &'static [(Metric, Flow)] {
        if self.quick { &FLOWS[..2] } else { &FLOWS }
    }
}

/// A run of iperf3.
#[derive(Debug, Clone, Copy)]
enum Flow {
    Tcp {
        streams: u32,
        back: bool,
    },
    /// Datagrams of 64 bytes, which count one by one.
    SmallUdp,
    /// Packets of 1400 bytes, whose bytes count.
    LargeUdp,
}

/// What each round measures of each system, the most telling first.
const FLOWS: [(Metric, Flow); 6] = [
    (Metric::Tcp1, Flow::Tcp { streams: 1, back: false }),
    (Metric::Tcp1Back, Flow::Tcp { streams: 1, back: true }),
    (Metric::Tcp4, Flow::Tcp { streams: 4, back: false }),
    (Metric::Tcp4Back, Flow::Tcp { streams: 4, back: true }),
    (Metric::Udp64Kpps, Flow::SmallUdp),
    (Metric::Udp1400, Flow::LargeUdp),
];

/// Measures all systems on both kinds of link, and writes the documents.
pub fn measure(options: &Options) -> Result<Vec<Row>> {
    packages::install_all(&TOOLS)?;
    let systems = options.systems()?;
    let mut found = BTreeMap::new();
    for system in systems {
        found.insert(system, system.find().map_err(|error| format!("{error:#}")));
    }
    let mut results = Results {
        command: std::iter::once("cargo lab".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        machine: machine::Machine::look()?,
        rounds: options.pick(options.pairs, ROUNDS),
        seconds: options.pick(options.seconds, SECONDS),
        versions: found
            .iter()
            .map(|(system, found)| (*system, found.clone().map(|found| found.version)))
            .collect(),
        links: Vec::new(),
    };
    for link in Link::ALL {
        let on = on_link(link, options, &results, &found)?;
        results.links.push(on);
    }
    let dir = if options.quick {
        mesh_lab::target_dir()?.join("bench")
    } else {
        mesh_lab::repository()?.join("docs/benchmarks")
    };
    write(&results, &dir)?;
    let targets = targets::judge(&results);
    Ok(targets.iter().filter_map(row).collect())
}

/// A running system with what it was measured at.
struct Entrant<'lab> {
    system: System,
    pair: &'lab Pair,
    running: Running<'lab>,
    iperf: Iperf<'lab>,
    measured: Measured,
}

fn on_link(
    link: Link,
    options: &Options,
    results: &Results,
    found: &BTreeMap<System, Result<Found, String>>,
) -> Result<OnLink> {
    let lab = Lab::new("bench-tunnel")?;
    let mut on = OnLink { link, cores_busy_with_others: Vec::new(), systems: BTreeMap::new() };
    let mut pairs = Vec::new();
    for (system, found) in found {
        match found {
            Ok(found) => pairs.push((*system, found, Pair::new(&lab, system.name(), link)?)),
            Err(reason) => note_failure(&mut on, *system, format!("{SKIPPED}: {reason}")),
        }
    }
    let mut entrants = Vec::new();
    for (system, found, pair) in &pairs {
        match enter(*system, found, &lab, pair, link) {
            Ok(entrant) => entrants.push(entrant),
            Err(error) => note_failure(&mut on, *system, format!("{error:#}")),
        }
    }
    for round in 0..results.rounds {
        on.cores_busy_with_others.push(machine::cores_busy_with_others()?);
        // A drift within a round would favour whoever always comes first.
        entrants.reverse();
        for (metric, flow) in options.flows() {
            for entrant in &mut entrants {
                let text = turn(entrant, *metric, *flow, results.seconds);
                eprintln!(
                    "{} {}/{} {metric:?} {}: {text}",
                    link.slug(),
                    round + 1,
                    results.rounds,
                    entrant.system
                );
            }
        }
        for entrant in &mut entrants {
            match entrant.iperf.pings_beside_bulk(results.seconds) {
                Ok(echoes) => entrant.measured.busy.extend(echoes),
                Err(error) => note_failed_run(entrant, "ping beside bulk", &error),
            }
        }
    }
    for mut entrant in entrants {
        leave(&mut entrant);
        on.systems.insert(entrant.system, entrant.measured);
    }
    Ok(on)
}

fn note_failure(on: &mut OnLink, system: System, failed: String) {
    eprintln!("{system}: {failed}");
    on.systems.insert(system, Measured { failed: Some(failed), ..Measured::default() });
}

fn note_failed_run(entrant: &mut Entrant<'_>, what: &str, error: &anyhow::Error) {
    let failed = format!("{what}: {error:#}");
    eprintln!("{} {failed}", entrant.system);
    entrant.measured.failed_runs.push(failed);
}

/// Sets a system up and takes what is measured of it before any load.
fn enter<'lab>(
    system: System,
    found: &Found,
    lab: &Lab,
    pair: &'lab Pair,
    link: Link,
) -> Result<Entrant<'lab>> {
    let running = system.start(found, lab, pair)?;
    let mut measured = Measured::default();
    let connect = traffic::connect_ms(pair, &running.target).with_context(|| format!("connect {system}"))?;
    measured.once.insert(Once::ConnectMs, connect);
    if let Some(rss) = machine::rss_mb(&running.processes) {
        measured.once.insert(Once::RssIdleMb, rss);
    }
    let iperf = Iperf::start(pair, &running.target)?;
    if let Some(p50) = statistics::median(&iperf.pings_idle()?.times_ms) {
        measured.once.insert(Once::IdleP50Ms, p50);
    }
    let longest = pair.frame_len_max(&iperf)?;
    link::verify(link, longest)?;
    measured.once.insert(Once::FrameLenMax, longest as f64);
    eprintln!("{} {system} is up, connected in {connect:.0} ms, longest frame {longest}", link.slug());
    Ok(Entrant { system, pair, running, iperf, measured })
}

/// Takes one number of one round, and says it.
fn turn(entrant: &mut Entrant<'_>, metric: Metric, flow: Flow, seconds: u32) -> String {
    let iperf = &entrant.iperf;
    let taken = match flow {
        Flow::Tcp { streams, back } => {
            iperf.tcp(streams, back, seconds).map(|tcp| (tcp.mbit_s, Some(tcp.cpu_s_per_gb)))
        }
        Flow::SmallUdp => iperf.udp(64, seconds).map(|udp| (udp.kpps, None)),
        Flow::LargeUdp => iperf.udp(PAYLOAD_1400, seconds).map(|udp| (udp.mbit_s, None)),
    };
    let rounds = &mut entrant.measured.rounds;
    let worked = taken.as_ref().ok();
    rounds.entry(metric).or_default().push(worked.map(|(value, _)| *value));
    if metric == Metric::Tcp1 {
        rounds.entry(Metric::CpuPerGb).or_default().push(worked.and_then(|(_, cpu)| *cpu));
    }
    match taken {
        Ok((value, Some(cpu))) => format!("{value:.0}, {cpu:.2} CPU s/GB"),
        Ok((value, None)) => format!("{value:.0}"),
        Err(error) => {
            note_failed_run(entrant, &format!("{metric:?}"), &error);
            "failed".to_owned()
        }
    }
}

/// Takes what is measured after all load.
fn leave(entrant: &mut Entrant<'_>) {
    let Entrant { pair, running, iperf, measured, .. } = entrant;
    if let Some(p99) = statistics::percentile(&measured.busy.times_ms, 0.99) {
        measured.once.insert(Once::BusyP99Ms, p99);
        measured.once.insert(Once::BusyLostPercent, measured.busy.lost_percent());
    }
    if let Some(rss) = machine::rss_mb(&running.processes) {
        measured.once.insert(Once::RssLoadedMb, rss);
    }
    match syscalls::per_mb(pair, iperf, &running.processes) {
        Ok(calls) if calls.is_empty() => {}
        Ok(calls) => {
            measured.once.insert(Once::SyscallsPerMb, calls.values().sum());
            measured.syscalls_per_mb = calls;
        }
        Err(error) => note_failed_run(entrant, "system calls", &error),
    }
}

fn write(results: &Results, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let json = serde_json::to_string_pretty(results).context("write the results as JSON")?;
    let files: [(PathBuf, String); 3] = [
        (dir.join("tunnel.json"), json + "\n"),
        (dir.join("tunnel.md"), markdown::page(results)),
        (dir.join("tunnel.svg"), chart::draw(results)),
    ];
    for (path, text) in files {
        ensure!(!text.is_empty(), "{} would be empty", path.display());
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

fn row(target: &targets::Target) -> Option<Row> {
    let value = target.value?;
    let mut row = Row::at_most(&target.what, value, target.unit, target.limit);
    row.target = target.wanted();
    row.held = target.held()?;
    Some(row)
}
