//! The rotation of one node's tunnel key.

mod inputs;
mod steps;
mod waiting;

use std::collections::VecDeque;
use std::time::Duration;

use super::acks::Acks;
use super::effect::{Alarm, Content, Effect, Leaf};
use super::epoch::Epoch;
use super::pairing::{OwnEpochs, Use};
use super::periods::{Lengths, Periods};
use super::stored::{KeySince, Step, Stored, Why};

/// After a store that failed, the next one is tried this much later: a full disk that is freed is noticed in time.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// Waiting for a log that answers ends after this many leads: it will never have the key.
const LEADS_UNPROVEN_MAX: u32 = 3;
/// Records of an old state that cost a key of their own in one run, as long as they come one after the other.
const OLD_STATES_MAX: u8 = 3;
/// Attempts that are refused one after the other wait ever longer, up to this many doublings: two hours.
const DOUBLINGS_MAX: u32 = 3;

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Now {
    /// Time that runs evenly, asleep or not, from any beginning.
    pub running: Duration,
    /// Seconds since 1970; none while the clock is in doubt. Without it no record is issued, so nothing begins.
    pub date: Option<u64>,
}

/// Which organisations with a connected peer have cosigned the proof that a key is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cosigned {
    /// All of them.
    All,
    /// Some are missing. Their peers will refuse the key, so this is enough only when the old one grows too old.
    InPart,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// One key is accepted and used.
    Steady,
    /// The next key is made and being stored.
    Prepared,
    /// The next key is announced: peers install it, the log proves it.
    Announced,
    /// Peers are called with the next key.
    Proving,
    /// The next key has become the key in use; the one before is still accepted.
    Committed,
    /// The key before is gone from memory, and about to be gone from disk.
    Retired,
    /// The announced key will not be used; another one follows.
    Aborted,
    /// The key in use was replaced at once, because it was stolen or lost; the new one waits for its proof.
    Compromised,
}

/// The state machine by which a node's tunnel key is replaced without losing a packet.
///
/// ```text
/// Steady ──P−A, rotate──▶ Prepared ─▶ Announced ──proof ∧ (all installed ∨ W)──▶ Proving
///   ▲                        ▲            │ key lost, proof refused                │ all switched ∨ A
///   │                        └── Aborted ◀┘                                        ▼
///   └──────────────── Retired ◀── silence Q on the key before ∨ O ────────── Committed
///
/// any state ──key stolen or lost──▶ Compromised ──proof──▶ Steady
/// ```
///
/// It does no input or output, reads no clock and draws no randomness but from its seed. Feed it with the methods that
/// take `now`, then do what [`Self::poll`] says until there is nothing, and call [`Self::tick`] at
/// [`Self::next_timeout`]. Whatever others can see is said only after what it rests on was stored, so that a node that
/// ends at any point goes on from what it has on disk with [`Self::restore`].
///
/// `P` names a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rotation<P> {
    periods: Periods,
    seed: u64,
    /// The highest sequence that may have been used, and so on: what is on disk.
    seq: u64,
    /// The next record has at least this one.
    seq_min: u64,
    epoch_max: Epoch,
    cur: KeySince,
    phase: Phase,
    storing: Option<Storing>,
    tickets: u64,
    /// After a start, until others were told where the node is.
    is_resuming: bool,
    /// Until then; the log may not have heard of what was done before.
    is_silent: bool,
    has_looked: bool,
    /// Nothing is begun before this time.
    rest_until: Duration,
    started: Duration,
    /// Since when the key in use is in use.
    activated: Duration,
    /// How old it was already when running time began.
    aged: Duration,
    /// How much shorter than the period this one is.
    jitter: Duration,
    is_wanted: bool,
    packets: u64,
    bytes: u64,
    acks: Acks<P>,
    proof: Option<(Epoch, Cosigned)>,
    /// Since when the log answers.
    log_answers: Option<Duration>,
    /// Attempts in a row that were aborted.
    aborted: u32,
    /// When the record must be signed again.
    renew_at: Duration,
    rolled_back: Option<Duration>,
    /// How often in this run.
    old_states: u8,
    effects: VecDeque<Effect>,
}

/// Where the machine stands, with what only it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Steady {
        destroyed: Option<Epoch>,
    },
    Announced {
        next: KeySince,
        begun: Duration,
        is_late: bool,
    },
    Proving {
        next: KeySince,
        begun: Duration,
        proving: Duration,
    },
    Committed {
        prev: KeySince,
        accept_until: u64,
        begun: Duration,
        heard: Duration,
    },
    Retired {
        prev: Epoch,
    },
    Aborted {
        next: Epoch,
    },
    /// The key that replaces is made, not stored.
    Replacing(Replaced),
    Replaced(Replaced),
}

/// What a key has replaced at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Replaced {
    old: Epoch,
    other: Option<Epoch>,
    why: Why,
}

/// A store under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Storing {
    ticket: u64,
    stored: Stored,
    then: Then,
}

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Then {
    /// The next step begins, and others are told.
    Enter,
    /// After a start, others are told again where the node is.
    Resume,
    /// The record is signed again.
    Renew,
}

impl<P: Copy + Ord> Rotation<P> {
    /// Goes on from what is stored; what was stored is used at once, and nothing is said or begun before
    /// [`Self::looked`]. `seed` are random bytes of this start.
    pub fn restore(now: Now, periods: Periods, stored: Stored, seed: u64) -> Self {
        let mut machine = Self {
            periods,
            seed,
            seq: stored.seq,
            seq_min: 0,
            epoch_max: stored.epoch_max,
            cur: stored.cur,
            phase: Phase::Steady { destroyed: None },
            storing: None,
            tickets: 0,
            is_resuming: true,
            is_silent: true,
            has_looked: false,
            rest_until: Duration::ZERO,
            started: now.running,
            activated: now.running,
            aged: Duration::ZERO,
            jitter: Duration::ZERO,
            is_wanted: false,
            packets: 0,
            bytes: 0,
            acks: Acks::new(),
            proof: None,
            log_answers: None,
            aborted: 0,
            renew_at: Duration::MAX,
            rolled_back: None,
            old_states: 0,
            effects: VecDeque::new(),
        };
        machine.draw_jitter();
        machine.count_age(now);
        machine.phase = machine.resumed(now, stored.step);
        machine.effects.push_back(Effect::Use(machine.own_epochs()));
        machine.advance(now);
        machine
    }

    /// Leaves out all sequences below this one, once own records were looked for: a state that is an old one has used
    /// some that it does not know of. Records with a lower one were signed before the start.
    pub fn never_below(&mut self, seq: u64) {
        self.seq_min = seq;
    }

    /// The next thing to do; until there is none.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// How far the rotation is.
    pub fn state(&self) -> State {
        let is_beginning = self.storing.is_some_and(|storing| match storing.stored.step {
            Step::Prepared { .. } => storing.then == Then::Enter,
            Step::Steady { .. } | Step::Proving { .. } | Step::Committed { .. } | Step::Replaced { .. } => {
                false
            }
        });
        match self.phase {
            _ if is_beginning => State::Prepared,
            Phase::Steady { .. } => State::Steady,
            Phase::Announced { .. } => State::Announced,
            Phase::Proving { .. } => State::Proving,
            Phase::Committed { .. } => State::Committed,
            Phase::Retired { .. } => State::Retired,
            Phase::Aborted { .. } => State::Aborted,
            Phase::Replacing(_) | Phase::Replaced(_) => State::Compromised,
        }
    }

    /// The key in use, and since when.
    pub fn current(&self) -> KeySince {
        self.cur
    }

    /// What this node does with its keys.
    pub fn own_epochs(&self) -> OwnEpochs {
        let cur = self.cur.epoch;
        match self.phase {
            Phase::Steady { destroyed: _ } | Phase::Retired { prev: _ } | Phase::Aborted { next: _ } => {
                OwnEpochs::single(cur)
            }
            Phase::Announced { next, .. } => {
                OwnEpochs { older: (cur, Use::Call), newer: Some((next.epoch, Use::Answer)) }
            }
            Phase::Proving { next, .. } => {
                OwnEpochs { older: (cur, Use::Spare), newer: Some((next.epoch, Use::Call)) }
            }
            Phase::Committed { prev, .. } => {
                OwnEpochs { older: (prev.epoch, Use::Spare), newer: Some((cur, Use::Call)) }
            }
            Phase::Replacing(_) | Phase::Replaced(_) => OwnEpochs { older: (cur, Use::Answer), newer: None },
        }
    }

    /// What the newest record says, or will say as soon as it may be signed.
    pub fn content(&self) -> Content {
        let (mut next, mut prev, mut compromised) = (None, None, false);
        match self.phase {
            Phase::Announced { next: key, .. } | Phase::Proving { next: key, .. } => next = Some(key),
            Phase::Committed { prev: key, accept_until, .. } => prev = Some((key, accept_until)),
            Phase::Replacing(Replaced { why, .. }) | Phase::Replaced(Replaced { why, .. }) => {
                compromised = why == Why::Compromised;
            }
            Phase::Steady { .. } | Phase::Retired { .. } | Phase::Aborted { .. } => {}
        }
        Content { seq: self.seq, cur: self.cur, next, prev, compromised }
    }

    fn lengths(&self) -> &Lengths {
        self.periods.lengths()
    }

    /// The phase that a stored step stands for. Time that has passed since counts, as far as dates tell.
    fn resumed(&mut self, now: Now, step: Step) -> Phase {
        match step {
            Step::Steady { destroyed } => Phase::Steady { destroyed },
            Step::Prepared { next } => {
                Phase::Announced { next, begun: since(now, next.since), is_late: false }
            }
            Step::Proving { next } => {
                Phase::Proving { next, begun: since(now, next.since), proving: now.running }
            }
            Step::Committed { prev, accept_until } => {
                let begun = since(now, self.cur.since);
                if passed(now, self.cur.since) >= self.lengths().overlap {
                    // Peers refuse it by now.
                    self.effects.push_back(Effect::Drop { epoch: prev.epoch });
                    return Phase::Steady { destroyed: Some(prev.epoch) };
                }
                Phase::Committed { prev, accept_until, begun, heard: now.running }
            }
            Step::Replaced { old, other, why } => Phase::Replaced(Replaced { old, other, why }),
        }
    }

    /// Counts how long the key in use is in use, as far as dates tell. The host may have started since.
    fn count_age(&mut self, now: Now) {
        let age = passed(now, self.cur.since);
        self.activated = now.running.saturating_sub(age);
        self.aged = age.saturating_sub(now.running);
    }

    /// What is stored for a step. The sequence is one that no record has had.
    fn durable(&self, step: Step) -> Stored {
        Stored { seq: self.seq.saturating_add(1), epoch_max: self.epoch_max, cur: self.cur, step }
    }

    fn store(&mut self, stored: Stored, then: Then) {
        let ticket = self.tickets;
        self.tickets += 1;
        self.storing = Some(Storing { ticket, stored, then });
        self.effects.push_back(Effect::Store { ticket, stored });
    }

    fn tell(&mut self, alarm: Alarm) {
        self.effects.push_back(Effect::Alarm(alarm));
    }

    fn append(&mut self, leaf: Leaf) {
        self.effects.push_back(Effect::Append(leaf));
    }

    fn publish(&mut self, now: Now) {
        self.renew_at = now.running + self.lengths().age_max / 4;
        self.effects.push_back(Effect::Publish(self.content()));
    }

    /// Draws by how much the period is shortened: up to a tenth.
    fn draw_jitter(&mut self) {
        const STEPS: u32 = 1024;
        // The finaliser of splitmix64, whose every output bit depends on every input bit.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u32::try_from((bits ^ (bits >> 31)) % u64::from(STEPS)).unwrap_or(0);
        self.jitter = self.lengths().period / 10 * share / STEPS;
    }
}

/// When something was, in running time, that happened at a date. A clock that was set back makes it now.
fn since(now: Now, date: u64) -> Duration {
    now.running.saturating_sub(passed(now, date))
}

fn passed(now: Now, date: u64) -> Duration {
    Duration::from_secs(now.date.map_or(0, |now| now.saturating_sub(date)))
}

#[cfg(test)]
mod tests;
