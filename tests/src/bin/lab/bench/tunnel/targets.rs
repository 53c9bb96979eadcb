//! What is wanted, and whether a run reached it.

use serde::Serialize;

use super::link::Link;
use super::results::{Metric, OnLink, Once, Results};
use super::system::System;

/// A wanted number beside the measured one.
#[derive(Debug, Serialize)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// The measured number; none if the run lacks it.
    pub value: Option<f64>,
    /// The limit.
    pub limit: f64,
    /// Whether the number must reach the limit rather than stay below it.
    pub at_least: bool,
    /// Whether it is wished rather than required.
    pub stretch: bool,
    /// Its unit.
    pub unit: &'static str,
}

impl Target {
    /// Whether it was reached; none if nothing was measured.
    pub fn held(&self) -> Option<bool> {
        self.value.map(|value| if self.at_least { value >= self.limit } else { value <= self.limit })
    }

    /// The limit in words.
    pub fn wanted(&self) -> String {
        let word = if self.at_least { "at least" } else { "at most" };
        let stretch = if self.stretch { " (stretch)" } else { "" };
        format!("{word} {} {}{stretch}", self.limit, self.unit).replace("  ", " ")
    }
}

/// Sets every target beside its number.
pub fn judge(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    for system in [System::MeshdWg, System::MeshdAes] {
        if let Some(on) = results.on(Link::Offloads) {
            with_offloads(on, system, &mut targets);
        }
        if let Some(on) = results.on(Link::TrueFrames) {
            on_true_frames(on, system, &mut targets);
        }
    }
    targets
}

fn with_offloads(on: &OnLink, ours: System, targets: &mut Vec<Target>) {
    let aes = ours == System::MeshdAes;
    let peers: &[(System, f64, bool)] = if aes {
        &[
            (System::WireguardGo, 3.5, false),
            (System::WireguardGo, 4.5, true),
            (System::Gotatun, 7.0, false),
            (System::Boringtun, 10.0, false),
        ]
    } else {
        &[
            (System::WireguardGo, 1.8, false),
            (System::WireguardGo, 2.2, true),
            (System::Gotatun, 3.5, false),
            (System::Boringtun, 5.0, false),
        ]
    };
    for &(peer, limit, stretch) in peers {
        let what = format!("{ours}: one TCP stream, worse direction, against {peer}, offloads");
        let value = on.ratio_worse_way(ours, peer);
        targets.push(Target { what, value, limit, at_least: true, stretch, unit: "times" });
    }
    let share = on.ratio_worse_way(ours, System::Veth).map(|ratio| ratio * 100.0);
    let measured = on.of(ours);
    let once = |key: Once| measured.and_then(|measured| measured.once.get(&key).copied());
    let idle = once(Once::IdleP50Ms);
    let theirs = on.of(System::WireguardGo).and_then(|measured| measured.once.get(&Once::IdleP50Ms).copied());
    let cpu = measured.and_then(|measured| measured.median(Metric::CpuPerGb));
    let rows = [
        ("share of the bare link, offloads", share, if aes { 22.0 } else { 11.0 }, true, "%"),
        ("CPU of the whole machine, offloads", cpu, if aes { 1.5 } else { 2.8 }, false, "s/GB"),
        ("idle round trip, p50", idle, 0.14, false, "ms"),
        (
            "idle round trip, p50, against wireguard-go",
            idle.zip(theirs).map(|(a, b)| a / b),
            0.8,
            false,
            "times",
        ),
        (
            "round trip beside a bulk flow, p99",
            once(Once::BusyP99Ms),
            if aes { 3.0 } else { 5.0 },
            false,
            "ms",
        ),
    ];
    for (what, value, limit, at_least, unit) in rows {
        targets.push(Target {
            what: format!("{ours}: {what}"),
            value,
            limit,
            at_least,
            stretch: false,
            unit,
        });
    }
}

fn on_true_frames(on: &OnLink, ours: System, targets: &mut Vec<Target>) {
    let aes = ours == System::MeshdAes;
    targets.push(Target {
        what: format!(
            "{ours}: one TCP stream, worse direction, against the best user-space peer, true frames"
        ),
        value: on.ratio_to_best_peer(ours),
        limit: if aes { 3.5 } else { 2.3 },
        at_least: true,
        stretch: false,
        unit: "times",
    });
    if aes {
        targets.push(Target {
            what: format!("{ours}: share of the bare link, true frames"),
            value: on.ratio_worse_way(ours, System::Veth).map(|ratio| ratio * 100.0),
            limit: 55.0,
            at_least: true,
            stretch: true,
            unit: "%",
        });
    }
}
