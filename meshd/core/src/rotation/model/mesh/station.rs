//! One node of the mesh: the machine, and as much of a daemon as it needs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::super::{Content, Epoch, Leaf, Now, OwnEpochs, Pairing, Periods, Rotation, Stored};
use super::super::ghost::{Ghost, KeyName};
use super::super::node::Disk;
use super::link::{Link, Proofs};
use super::queue::Ms;

/// The date at which the virtual clock began.
const BEGIN: u64 = 1_700_000_000;

/// The key in use, the next one and the one before.
fn epochs(content: &Content) -> [Option<Epoch>; 3] {
    let Content { cur, next, prev, .. } = content;
    [Some(cur.epoch), next.map(|next| next.epoch), prev.map(|(prev, _)| prev.epoch)]
}

/// A record as it was signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) content: Content,
    /// The key in use, the next one and the one before.
    pub(super) keys: [Option<(Epoch, KeyName)>; 3],
    pub(super) at: Ms,
    /// Nobody had told a node with an old state what it has said since.
    pub(super) is_untold: bool,
    /// It names a key under the number of another.
    pub(super) has_two: bool,
    /// Nobody had heard it when the node went back to an old state, and nobody will.
    pub(super) is_forgotten: bool,
}

impl Said {
    pub(super) fn new(content: Content, at: Ms, keys: &BTreeMap<Epoch, KeyName>) -> Self {
        let keys = epochs(&content).map(|epoch| Some((epoch?, *keys.get(&epoch?)?)));
        Self { content, keys, at, is_untold: false, has_two: false, is_forgotten: false }
    }

    pub(super) fn key(&self, epoch: Epoch) -> Option<KeyName> {
        self.keys.iter().flatten().find(|(said, _)| *said == epoch).map(|(_, key)| *key)
    }
}

pub(super) struct Station {
    pub(super) org: u8,
    pub(super) machine: Rotation<u8>,
    pub(super) links: Vec<Link>,
    /// Counts its starts.
    pub(super) life: u8,
    pub(super) is_up: bool,
    /// When its running time began.
    pub(super) booted: Ms,
    pub(super) skew_s: i64,
    pub(super) doubts: u8,
    pub(super) disk_faults: u8,
    pub(super) cuts: u8,
    /// On which side of each partition it is.
    pub(super) sides: u8,
    pub(super) memory: BTreeMap<Epoch, KeyName>,
    pub(super) disk: Disk,
    /// Proofs are on disk as well.
    pub(super) backup: Option<(Disk, Proofs)>,
    /// What is being written, in order.
    pub(super) writing: VecDeque<(u64, Disk)>,
    pub(super) own: OwnEpochs,
    /// On disk.
    pub(super) proofs: Proofs,
    /// All records that it has signed.
    pub(super) said: Vec<Said>,
    /// The one that it says now.
    pub(super) newest: Option<u32>,
    /// What a node with an old state has said and does not know of, up to this record.
    pub(super) untold: Option<u32>,
    pub(super) unlogged: VecDeque<Leaf>,
    pub(super) is_asking: bool,
    /// How often in a row the steward has not answered.
    pub(super) unanswered: u32,
    pub(super) is_reconciling: bool,
    pub(super) is_talking: bool,
    pub(super) talks: u32,
    pub(super) wakes: Ms,
    pub(super) ghost: Ghost,
    /// Since when it and all that it needs for a rotation is without faults.
    pub(super) served: Option<Ms>,
    /// The key in use, and since when it is in use.
    pub(super) cur: Epoch,
    pub(super) activated: Ms,
    pub(super) is_compromised: bool,
}

impl Station {
    pub(super) fn new(org: u8, now: Ms, age: Ms, skew_s: i64, periods: Periods) -> Self {
        let key = 1;
        let keys = BTreeMap::from([(Epoch(1), key)]);
        let since = (BEGIN + (now - age) / 1_000).saturating_add_signed(skew_s);
        let disk = Disk { stored: Stored::first(Epoch(1), since, 0), keys: keys.clone() };
        let time = Now { running: Duration::ZERO, date: None };
        let mut proofs = Proofs::default();
        proofs.add(Epoch(1), key, u8::MAX, true);
        Self {
            org,
            machine: Rotation::restore(time, periods, disk.stored, 0),
            links: Vec::new(),
            life: 0,
            is_up: false,
            booted: 0,
            skew_s,
            doubts: 0,
            disk_faults: 0,
            cuts: 0,
            sides: 0,
            memory: keys,
            disk,
            backup: None,
            writing: VecDeque::new(),
            own: OwnEpochs::single(Epoch(1)),
            proofs,
            said: Vec::new(),
            newest: None,
            untold: None,
            unlogged: VecDeque::new(),
            is_asking: false,
            unanswered: 0,
            is_reconciling: false,
            is_talking: false,
            talks: 0,
            wakes: Ms::MAX,
            ghost: Ghost::new(key),
            served: None,
            cur: Epoch(1),
            activated: now - age,
            is_compromised: false,
        }
    }

    pub(super) fn time(&self, now: Ms) -> Now {
        let date = (BEGIN + now / 1_000).saturating_add_signed(self.skew_s);
        Now {
            running: Duration::from_millis(now.saturating_sub(self.booted)),
            date: (self.doubts == 0).then_some(date),
        }
    }

    /// When the clock of this node, if it is not in doubt, shows a date.
    pub(super) fn at_date(&self, date: u64) -> Ms {
        date.saturating_add_signed(-self.skew_s).saturating_sub(BEGIN) * 1_000
    }

    pub(super) fn pairing(&self, link: usize) -> Option<Pairing> {
        self.links[link].peer_epochs.map(|peer| Pairing { own: self.own, peer })
    }

    /// What it says now.
    pub(super) fn says(&self) -> Option<Said> {
        self.newest.map(|index| self.said[index as usize])
    }

    pub(super) fn is_online(&self) -> bool {
        self.is_up && self.cuts == 0
    }
}
