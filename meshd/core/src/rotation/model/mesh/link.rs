//! One end of a link between two nodes.

use super::super::super::{Content, Epoch, Pair, PeerEpoch, PeerEpochs};
use super::super::ghost::KeyName;
use super::super::node::Session;
use super::queue::{Cosigners, End, Ms};
use super::station::Said;

/// Proofs that are kept of one node: of the three keys that a record may name, and of one that it names no more.
const PROOFS_MAX: usize = 4;

/// By whom the proof of a node's key is cosigned: a bit for each organisation.
#[derive(Debug, Clone, Copy)]
struct Proof {
    epoch: Epoch,
    key: KeyName,
    cosigners: u8,
}

/// Proofs of the newest keys of a node, the newest key last.
#[derive(Debug, Clone, Default)]
pub(super) struct Proofs(Vec<Proof>);

impl Proofs {
    pub(super) fn of(&self, epoch: Epoch) -> u8 {
        self.0.iter().find(|proof| proof.epoch == epoch).map_or(0, |proof| proof.cosigners)
    }

    pub(super) fn of_record(&self, said: &Said) -> Cosigners {
        said.keys.map(|named| named.map_or(0, |(epoch, _)| self.of(epoch)))
    }

    /// Whether this says more than was known. A record that is newer than all others says which key has a number.
    pub(super) fn add(&mut self, epoch: Epoch, key: KeyName, cosigners: u8, is_newer: bool) -> bool {
        match self.0.iter_mut().find(|proof| proof.epoch == epoch) {
            Some(proof) if proof.key == key => {
                let before = proof.cosigners;
                proof.cosigners |= cosigners;
                proof.cosigners != before
            }
            Some(proof) if is_newer => {
                *proof = Proof { epoch, key, cosigners };
                true
            }
            Some(_) => false,
            None => {
                self.0.push(Proof { epoch, key, cosigners });
                self.0.sort_unstable_by_key(|proof| proof.epoch);
                if self.0.len() > PROOFS_MAX {
                    // A key that was announced in vain matters less than one that is in use for long.
                    self.0.remove(self.0.iter().position(|proof| proof.cosigners == 0).unwrap_or(0));
                }
                cosigners != 0
            }
        }
    }

    pub(super) fn add_of_record(&mut self, said: &Said, cosigners: Cosigners, is_newer: bool) -> bool {
        let named = said.keys.iter().zip(cosigners);
        named.fold(false, |is_more, (named, cosigners)| {
            named.is_some_and(|(epoch, key)| self.add(epoch, key, cosigners, is_newer)) || is_more
        })
    }

    pub(super) fn newest(&self) -> Option<(Epoch, u8)> {
        self.0.iter().rfind(|proof| proof.cosigners != 0).map(|proof| (proof.epoch, proof.cosigners))
    }
}

/// What a node has of one peer, and what the simulation knows of the way to it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) peer: End,
    /// There is a control channel beside the registries.
    pub(super) is_direct: bool,
    /// The newest record of the peer, by its place among all that the peer has signed; on disk, and so are proofs.
    pub(super) known: Option<u32>,
    pub(super) proofs: Proofs,
    pub(super) peer_epochs: Option<PeerEpochs>,
    pub(super) sessions: Vec<(Pair, Session)>,
    pub(super) called: Vec<Pair>,
    /// Rounds of calls without an answer.
    pub(super) rounds: u32,
    pub(super) is_calling: bool,
    pub(super) is_greeting: bool,
    /// The machine counts the peer among those that are connected.
    pub(super) is_connected: bool,
    /// Faults that close the link and nothing else.
    pub(super) breaks: u8,
    pub(super) is_open: bool,
    /// Since when it is what it is.
    pub(super) turned: Ms,
    /// Records can go from one end to the other.
    pub(super) is_heard: bool,
    pub(super) heard_turned: Ms,
    /// A fault has hit it that may cost packets, and it was not well since. Kept at the lower end.
    pub(super) is_excused: bool,
    /// When it became well again. Kept at the lower end.
    pub(super) well_since: Ms,
    /// Counts what has hindered it. Kept at the lower end.
    pub(super) stamp: u32,
}

impl Link {
    pub(super) fn new(peer: End, is_direct: bool) -> Self {
        Self {
            peer,
            is_direct,
            known: None,
            proofs: Proofs::default(),
            peer_epochs: None,
            sessions: Vec::new(),
            called: Vec::new(),
            rounds: 0,
            is_calling: false,
            is_greeting: false,
            is_connected: false,
            breaks: 0,
            is_open: false,
            turned: 0,
            is_heard: false,
            heard_turned: 0,
            is_excused: true,
            well_since: 0,
            stamp: 0,
        }
    }

    pub(super) fn session(&mut self, pair: Pair) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|(held, _)| *held == pair).map(|(_, session)| session)
    }

    pub(super) fn set_session(&mut self, pair: Pair, session: Session) {
        match self.session(pair) {
            Some(held) => *held = session,
            None => self.sessions.push((pair, session)),
        }
    }

    pub(super) fn confirmed(&self) -> impl Iterator<Item = Pair> {
        self.sessions.iter().filter(|(_, session)| session.is_confirmed).map(|(pair, _)| *pair)
    }

    /// What a node of this organisation makes of the newest record of the peer and its proofs.
    pub(super) fn judge(&mut self, content: &Content, org: u8, age_max_s: u64) {
        let of = |epoch: Epoch| PeerEpoch { epoch, is_proven: self.proofs.of(epoch) & (1 << org) != 0 };
        let Content { cur, next, prev, .. } = content;
        self.peer_epochs = Some(PeerEpochs {
            cur: of(cur.epoch),
            cur_ends: Some(cur.since + age_max_s),
            next: next.map(|next| of(next.epoch)),
            prev: prev.map(|(prev, until)| (of(prev.epoch), until)),
        });
    }
}
