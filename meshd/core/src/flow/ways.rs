//! A set-associative store of fixed size.

use crate::flow::{Direction, Flow};

/// Entries of one set: what a lookup compares.
const WAYS: usize = 8;
/// Words of a key.
const KEY_WORDS: usize = 6;
const VALUE: usize = 6;
const USED: usize = 7;

/// A flow, its peer and the policy's generation, as words that are quick to compare. Never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words([u64; KEY_WORDS]);

impl Words {
    /// A flow by its ports under one generation of the policy.
    #[inline]
    pub(super) fn of_flow(flow: &Flow, generation: u64) -> Self {
        let ports = u32::from(flow.key.source_port) << 16 | u32::from(flow.key.destination_port);
        Self::new(flow, ports, generation)
    }

    /// The pieces of one fragmented packet.
    pub(super) fn of_pieces(flow: &Flow, id: u32, generation: u64) -> Self {
        Self::new(flow, id, generation)
    }

    #[inline]
    fn new(flow: &Flow, ports: u32, generation: u64) -> Self {
        const OCCUPIED: u64 = 1 << 10;
        let [a, b] = halves(&flow.key.source);
        let [c, d] = halves(&flow.key.destination);
        let outgoing = u64::from(matches!(flow.direction, Direction::Out));
        let kind = u64::from(flow.key.protocol) | u64::from(flow.key.is_v6) << 8 | outgoing << 9 | OCCUPIED;
        Self([a, b, c, d, u64::from(ports) << 32 | u64::from(flow.peer), generation << 16 | kind])
    }

    /// Generation of the policy, its low 48 bits.
    fn generation(&self) -> u64 {
        self.0[5] >> 16
    }

    /// Spreads keys over `sets`; the seed keeps peers from choosing flows that fall into one set.
    pub(super) fn place(&self, seed: u64, sets: usize) -> usize {
        // The golden ratio: an odd number with its bits well mixed.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = self.0.iter().fold(seed, |hash, word| {
            let hash = (hash ^ word).wrapping_mul(FACTOR);
            hash ^ hash >> 29
        });
        (mixed >> 32) as usize % sets
    }
}

fn halves(address: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

/// Entries in sets of [`WAYS`]; a full set forgets what was used least recently.
#[derive(Debug)]
pub(super) struct Ways {
    /// Key, value and time of the last use. Plain words, so that the memory is mapped when it is first written.
    entries: Vec<[u64; KEY_WORDS + 2]>,
    seed: u64,
    uses: u64,
}

impl Ways {
    pub(super) fn new(entries: usize, seed: u64) -> Self {
        Self { entries: vec![[0; KEY_WORDS + 2]; entries.max(WAYS)], seed, uses: 0 }
    }

    pub(super) fn find(&mut self, key: &Words) -> Option<&mut u64> {
        self.uses += 1;
        let uses = self.uses;
        let entry = self.set(key).iter_mut().find(|entry| entry[..KEY_WORDS] == key.0)?;
        entry[USED] = uses;
        Some(&mut entry[VALUE])
    }

    /// Puts a key into its set. An entry of the same generation that is `kept` gives way only to another such one.
    pub(super) fn insert(&mut self, key: Words, value: u64, kept: impl Fn(u64) -> bool) {
        self.uses += 1;
        let uses = self.uses;
        let is_kept = |entry: &[u64; KEY_WORDS + 2]| {
            entry[5] >> 16 == key.generation() && entry[..KEY_WORDS] != key.0 && kept(entry[VALUE])
        };
        let rank = |entry: &[u64; KEY_WORDS + 2]| (entry[..KEY_WORDS] != key.0, is_kept(entry), entry[USED]);
        let Some(entry) = self.set(&key).iter_mut().min_by_key(|entry| rank(entry)) else { return };
        if is_kept(entry) && !kept(value) {
            return;
        }
        entry[..KEY_WORDS].copy_from_slice(&key.0);
        (entry[VALUE], entry[USED]) = (value, uses);
    }

    pub(super) fn remove(&mut self, key: &Words) {
        if let Some(entry) = self.set(key).iter_mut().find(|entry| entry[..KEY_WORDS] == key.0) {
            *entry = [0; KEY_WORDS + 2];
        }
    }

    fn set(&mut self, key: &Words) -> &mut [[u64; KEY_WORDS + 2]] {
        let begin = key.place(self.seed, self.entries.len() / WAYS) * WAYS;
        &mut self.entries[begin..begin + WAYS]
    }
}
