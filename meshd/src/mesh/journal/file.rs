//! The journal of keys on disk, and how much of it is kept.

use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::time::Duration;

use meshd_wire::limits::ARRAY_LEN_MAX;
use meshd_wire::{NodeId, OrgId, PublicKey, Timestamp, cbor};
use minicbor::{Decode, Encode};

use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};

/// Keys of all nodes: 2 MB, and eight days of a thousand nodes that replace theirs twice a day.
const ROWS_MAX: usize = 16_384;
/// Keys of one node, so that one that changes its key all the time pushes out its own alone: four months of usual ones.
const NODE_ROWS_MAX: usize = 256;
/// A new key waits for the disk no longer than this …
const NEW_WAITS: Duration = Duration::from_secs(60);
/// … and that a known one is still used this long: it is so every two minutes, with each peer.
const LATER_WAITS: Duration = Duration::from_secs(15 * 60);

/// A tunnel key as it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Key {
    /// Whose it is.
    #[n(0)]
    pub node: NodeId,
    /// Whether it is between this node and a plain WireGuard peer.
    #[n(1)]
    pub is_external: bool,
    /// Its number.
    #[n(2)]
    pub epoch: u32,
    /// The public half.
    #[n(3)]
    pub key: PublicKey,
    /// Whether the suite was AES-256-GCM, not that of WireGuard.
    #[n(4)]
    pub is_aes: bool,
    /// Whether there was a pre-shared key besides.
    #[n(5)]
    pub has_psk: bool,
}

/// When it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Seen {
    /// Organisation that answers for the node.
    #[n(0)]
    pub org: OrgId,
    /// When the first handshake was complete.
    #[n(1)]
    pub first: Timestamp,
    /// When the last one was.
    #[n(2)]
    pub last: Timestamp,
    /// How many there were.
    #[n(3)]
    pub count: u64,
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(array)]
struct Row {
    #[n(0)]
    key: Key,
    #[n(1)]
    seen: Seen,
}

/// What the file holds.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Content {
    #[n(0)]
    format: u8,
    /// The node that has seen them: what another membership has left behind is nobody's.
    #[n(1)]
    node: NodeId,
    #[n(2)]
    since: Timestamp,
    #[n(3)]
    forgotten: u64,
    /// In pieces, since no list is longer than that.
    #[n(4)]
    rows: Vec<Vec<Row>>,
}

impl Stored for Content {
    const NAME: &'static str = "observed";
    const FORMAT: u8 = 1;

    fn format(&self) -> u8 {
        self.format
    }
}

/// The journal of keys.
#[derive(Debug)]
pub struct Journal {
    file: Generations,
    node: NodeId,
    since: Timestamp,
    forgotten: u64,
    rows: BTreeMap<Key, Seen>,
    asked_at: Duration,
    stored_at: Duration,
    change: Change,
    is_failing: bool,
}

/// What is not on disk yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Nothing,
    Later,
    New,
}

impl Journal {
    /// Opens the journal of a node, or begins one.
    pub fn open(dir: &Path, node: NodeId, now: Timestamp) -> Result<Self, StoredError> {
        let (file, content) = stored::open::<Content>(dir)?;
        let content = content.filter(|content| content.node == node);
        let (since, forgotten, rows) = content.map_or((now, 0, Vec::new()), |content| {
            (content.since, content.forgotten, content.rows.concat())
        });
        Ok(Self {
            file,
            node,
            since,
            forgotten,
            rows: rows.into_iter().map(|row| (row.key, row.seen)).collect(),
            asked_at: Duration::ZERO,
            stored_at: Duration::ZERO,
            change: Change::Nothing,
            is_failing: false,
        })
    }

    /// When it began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Keys that had to make room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// All keys, by node and number.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Seen)> {
        self.rows.iter()
    }

    /// Whether the tunnels are to be asked now; they are asked at most so often.
    pub(super) fn is_asked(&mut self, boot: Duration, every: Duration) -> bool {
        let is_due = boot >= self.asked_at + every;
        if is_due {
            self.asked_at = boot;
        }
        is_due
    }

    /// Takes note of a key.
    pub(super) fn note(&mut self, key: Key, seen: Seen) {
        if let Some(known) = self.rows.get_mut(&key) {
            known.first = known.first.min(seen.first);
            known.last = known.last.max(seen.last);
            known.count = known.count.saturating_add(seen.count);
            self.change = self.change.max(Change::Later);
            return;
        }
        self.rows.insert(key, seen);
        self.change = Change::New;
        if self.of(key.node).count() > NODE_ROWS_MAX {
            self.forget_oldest_of(key.node);
        }
    }

    /// Forgets what is too much, of whoever has most.
    pub(super) fn make_room(&mut self) {
        if self.rows.len() <= ROWS_MAX {
            return;
        }
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        for key in self.rows.keys() {
            *counts.entry(key.node).or_default() += 1;
        }
        let mut most: BinaryHeap<(usize, NodeId)> =
            counts.into_iter().map(|(node, count)| (count, node)).collect();
        while self.rows.len() > ROWS_MAX
            && let Some((count, node)) = most.pop()
        {
            self.forget_oldest_of(node);
            most.push((count - 1, node));
        }
    }

    /// Nothing was seen later than now: a clock that was ahead has said so. One that is behind takes nothing but that away.
    pub(super) fn end_at(&mut self, now: Timestamp) {
        for seen in self.rows.values_mut() {
            seen.last = seen.last.min(now.max(seen.first));
        }
    }

    /// Writes what has waited long enough.
    pub(super) fn store_if_due(&mut self, boot: Duration) {
        let waits = match self.change {
            Change::Nothing => return,
            Change::Later => LATER_WAITS,
            Change::New => NEW_WAITS,
        };
        if self.stored_at == Duration::ZERO || boot >= self.stored_at + waits {
            self.stored_at = boot;
            self.store();
        }
    }

    /// Writes what is not on disk yet. While the disk takes nothing, tunnels go on, and the journal in memory.
    pub fn store(&mut self) {
        if self.change == Change::Nothing {
            return;
        }
        let rows: Vec<Row> = self.rows.iter().map(|(key, seen)| Row { key: *key, seen: *seen }).collect();
        let content = Content {
            format: Content::FORMAT,
            node: self.node,
            since: self.since,
            forgotten: self.forgotten,
            rows: rows.chunks(ARRAY_LEN_MAX).map(<[Row]>::to_vec).collect(),
        };
        match self.file.write(&cbor::encode(&content)) {
            Ok(()) => {
                self.change = Change::Nothing;
                self.is_failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    let error = crate::chain::of(&error);
                    tracing::error!(error, "the journal of tunnel keys can't be stored");
                }
            }
        }
    }

    fn of(&self, node: NodeId) -> impl Iterator<Item = (&Key, &Seen)> {
        self.rows.range(first_of(node)..).take_while(move |(key, _)| key.node == node)
    }

    fn forget_oldest_of(&mut self, node: NodeId) {
        let oldest = self.of(node).min_by_key(|(key, seen)| (seen.last, **key)).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.rows.remove(&oldest);
            self.forgotten += 1;
        }
    }
}

/// What no key of a node comes before.
fn first_of(node: NodeId) -> Key {
    Key { node, is_external: false, epoch: 0, key: PublicKey([0; 32]), is_aes: false, has_psk: false }
}

/// Moves files aside that can't be read: nothing but an auditor wants them.
pub fn set_journal_aside(dir: &Path) -> Result<(), GenerationsError> {
    Generations::set_aside(dir, Content::NAME)
}

/// Removes the files: what one membership has seen is nothing to the next.
pub fn forget_journal(dir: &Path) -> Result<(), GenerationsError> {
    Generations::forget(dir, Content::NAME)
}

#[cfg(test)]
mod tests;
