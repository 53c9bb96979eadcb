//! One node: the machine, and as much of a daemon as it needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::{
    Bounds, Content, Epoch, Lengths, Now, OwnEpochs, Pair, Pairing, PeerEpoch, PeerEpochs, Periods, Rotation,
    Stored,
};
use super::ghost::KeyName;

/// What survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub(super) stored: Stored,
    pub(super) keys: BTreeMap<Epoch, KeyName>,
}

/// A record of a node's keys, with the proofs that travel beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) content: Content,
    pub(super) key: KeyName,
    pub(super) proven: BTreeSet<Epoch>,
}

/// A tunnel that has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Session {
    /// Which life of the peer it is with.
    pub(super) life: u8,
    pub(super) is_confirmed: bool,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) machine: Rotation<u8>,
    /// Counts its starts.
    pub(super) life: u8,
    pub(super) memory: BTreeMap<Epoch, KeyName>,
    pub(super) disk: Disk,
    /// What is being written, in order.
    pub(super) writing: VecDeque<(u64, Disk)>,
    pub(super) own: OwnEpochs,
    pub(super) newest: Option<Record>,
    /// What it knows of the peer; on disk, and so are proofs.
    pub(super) known: Option<Record>,
    pub(super) own_proofs: BTreeSet<Epoch>,
    /// Leaves that the log has not answered.
    pub(super) unlogged: BTreeSet<Epoch>,
    pub(super) sessions: BTreeMap<Pair, Session>,
    /// Tunnels on which it has called since the last tick.
    pub(super) called: BTreeSet<Pair>,
}

/// Lengths of the model; seconds are ticks.
pub(super) fn periods() -> Periods {
    let s = Duration::from_secs;
    let lengths = Lengths {
        lead: s(4),
        wait: s(2),
        overlap: s(4),
        silence: s(2),
        settling: s(1),
        age_max: s(4_000),
        ..Lengths::for_period(s(1_000), Bounds::Lab)
    };
    Periods::new(lengths, Bounds::Lab).unwrap()
}

pub(super) fn time(tick: u64) -> Now {
    Now { running: Duration::from_secs(tick), date: Some(tick) }
}

impl Node {
    /// Starts from what is on disk.
    pub(super) fn machine_of(disk: &Disk, tick: u64) -> Rotation<u8> {
        Rotation::restore(time(tick), periods(), disk.stored, 7)
    }

    pub(super) fn pairing(&self) -> Option<Pairing> {
        let known = self.known.as_ref()?;
        let Content { cur, next, prev, .. } = known.content;
        let of = |epoch: Epoch| PeerEpoch { epoch, is_proven: known.proven.contains(&epoch) };
        let peer = PeerEpochs {
            cur: of(cur.epoch),
            cur_ends: None,
            next: next.map(|next| of(next.epoch)),
            prev: prev.map(|(prev, until)| (of(prev.epoch), until)),
        };
        Some(Pairing { own: self.own, peer })
    }

    pub(super) fn confirmed(&self) -> impl Iterator<Item = Pair> {
        self.sessions.iter().filter(|(_, session)| session.is_confirmed).map(|(pair, _)| *pair)
    }

    /// The highest number that the peer's newest record names.
    pub(super) fn highest(content: &Content) -> Epoch {
        content.next.map_or(content.cur.epoch, |next| next.epoch)
    }
}
