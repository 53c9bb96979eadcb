//! What a run measured, as it is kept in JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::link::Link;
use super::machine::Machine;
use super::system::System;
use super::traffic::Echoes;
use crate::bench::statistics::{median, paired_ratio};

/// A number that is taken in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// One TCP stream, Mbit/s.
    Tcp1,
    /// One TCP stream from the far end, Mbit/s.
    Tcp1Back,
    /// Four TCP streams, Mbit/s.
    Tcp4,
    /// Four TCP streams from the far end, Mbit/s.
    Tcp4Back,
    /// Work of the whole machine during one TCP stream, seconds for each GB.
    CpuPerGb,
    /// UDP with 64 bytes of payload, thousands of datagrams a second.
    Udp64Kpps,
    /// UDP in packets of 1400 bytes, Mbit/s.
    Udp1400,
}

/// A number that is taken once, or over all rounds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Once {
    /// From both ends configured to the first echo, ms.
    ConnectMs,
    /// Median round-trip time of an idle tunnel, ms.
    IdleP50Ms,
    /// 99th percentile of the round-trip time beside one TCP stream, ms, all rounds together.
    BusyP99Ms,
    /// Echoes that never came back beside one TCP stream, in a hundred.
    BusyLostPercent,
    /// Resident memory of the larger end before any load, MB.
    RssIdleMb,
    /// Resident memory of the larger end after all load, MB.
    RssLoadedMb,
    /// System calls of both ends for each MB.
    SyscallsPerMb,
    /// Longest frame on the link during bulk.
    FrameLenMax,
}

/// All of one system on one kind of link.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Why it is missing or ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// One number a round; none where a run failed.
    pub rounds: BTreeMap<Metric, Vec<Option<f64>>>,
    /// Numbers of no round.
    pub once: BTreeMap<Once, f64>,
    /// System calls by name, of both ends for each MB.
    pub syscalls_per_mb: BTreeMap<String, f64>,
    /// Runs that failed, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_runs: Vec<String>,
    /// Echoes beside bulk, of all rounds.
    #[serde(skip)]
    pub busy: Echoes,
}

impl Measured {
    /// The values of all rounds.
    pub fn values(&self, metric: Metric) -> &[Option<f64>] {
        self.rounds.get(&metric).map_or(&[], Vec::as_slice)
    }

    /// The median over all rounds that worked.
    pub fn median(&self, metric: Metric) -> Option<f64> {
        median(&self.values(metric).iter().flatten().copied().collect::<Vec<f64>>())
    }
}

/// All systems on one kind of link.
#[derive(Debug, Serialize)]
pub struct OnLink {
    /// The kind of link.
    pub link: Link,
    /// Cores that others kept busy, at the start of each round.
    pub cores_busy_with_others: Vec<f64>,
    /// What each system reached.
    pub systems: BTreeMap<System, Measured>,
}

impl OnLink {
    /// What a system reached.
    pub fn of(&self, system: System) -> Option<&Measured> {
        self.systems.get(&system)
    }

    /// Median over the rounds of the ratio of two systems in the same round.
    pub fn ratio(&self, ours: System, theirs: System, metric: Metric) -> Option<f64> {
        paired_ratio(self.of(ours)?.values(metric), self.of(theirs)?.values(metric))
    }

    /// As [`Self::ratio`], of one TCP stream in the worse direction.
    pub fn ratio_worse_way(&self, ours: System, theirs: System) -> Option<f64> {
        let ratios = [Metric::Tcp1, Metric::Tcp1Back].map(|metric| self.ratio(ours, theirs, metric));
        ratios.into_iter().flatten().reduce(f64::min)
    }

    /// As [`Self::ratio_worse_way`], against the best user-space peer of each round.
    pub fn ratio_to_best_peer(&self, ours: System) -> Option<f64> {
        let way = |metric| {
            let peers: Vec<&[Option<f64>]> = self
                .systems
                .iter()
                .filter(|(system, _)| system.is_user_space_peer())
                .map(|(_, measured)| measured.values(metric))
                .collect();
            let ours = self.of(ours)?.values(metric);
            let best = |round: usize| {
                peers.iter().filter_map(|values| values.get(round).copied().flatten()).reduce(f64::max)
            };
            paired_ratio(ours, &(0..ours.len()).map(best).collect::<Vec<Option<f64>>>())
        };
        [Metric::Tcp1, Metric::Tcp1Back].into_iter().filter_map(way).reduce(f64::min)
    }
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Results {
    /// The command that made it.
    pub command: String,
    /// Where and when.
    pub machine: Machine,
    /// Rounds.
    pub rounds: u32,
    /// Seconds of each flow.
    pub seconds: u32,
    /// Each system with its version, or why it is missing.
    pub versions: BTreeMap<System, Result<String, String>>,
    /// The kinds of link.
    pub links: Vec<OnLink>,
}

impl Results {
    /// The results on one kind of link.
    pub fn on(&self, link: Link) -> Option<&OnLink> {
        self.links.iter().find(|on| on.link == link)
    }
}
