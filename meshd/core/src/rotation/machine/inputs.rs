//! What a rotation is told.

use super::{
    Alarm, Cosigned, Duration, Epoch, Leaf, Now, OLD_STATES_MAX, Phase, Replaced, Rotation, STORE_AGAIN, Why,
};
use crate::rotation::acks::Channel;

impl<P: Copy + Ord> Rotation<P> {
    /// Time has passed, or the clock is no longer in doubt.
    pub fn tick(&mut self, now: Now) {
        self.advance(now);
    }

    /// After a start: own records were looked for wherever records are kept, and given to [`Self::own_record_seen`].
    ///
    /// A node whose state is an old one would else publish another record under a sequence that it has used. If nobody
    /// can be asked, the machine waits for a while and goes on by itself.
    pub fn looked(&mut self, now: Now) {
        self.has_looked = true;
        self.advance(now);
    }

    /// What [`super::Effect::Store`] asked for is on disk, and will be there after a crash.
    pub fn stored(&mut self, now: Now, ticket: u64) {
        if let Some(storing) = self.storing.take_if(|storing| storing.ticket == ticket) {
            self.begin(now, storing);
            self.advance(now);
        }
    }

    /// What [`super::Effect::Store`] asked for could not be written. Nobody has heard of it; it is tried again later.
    pub fn not_stored(&mut self, now: Now, ticket: u64) {
        if self.storing.take_if(|storing| storing.ticket == ticket).is_some() {
            self.rest_until = now.running + STORE_AGAIN;
        }
    }

    /// These peers are connected now, and no others.
    pub fn connected(&mut self, now: Now, peers: impl IntoIterator<Item = (P, Channel)>) {
        self.acks.set_connected(peers);
        self.advance(now);
    }

    /// A peer has said that it has the key.
    pub fn installed(&mut self, now: Now, peer: P, epoch: Epoch) {
        if self.newest() == Some(epoch) {
            self.acks.installed(peer);
            self.advance(now);
        }
    }

    /// A peer has said that it sends under the key, or an authentic packet of it has come on a tunnel of the key.
    pub fn switched(&mut self, now: Now, peer: P, epoch: Epoch) {
        if self.newest() == Some(epoch) {
            // What it sent before it switched may still be on its way.
            if self.acks.switched(peer)
                && let Phase::Committed { heard, .. } = &mut self.phase
            {
                *heard = now.running;
            }
            self.advance(now);
        }
    }

    /// An authentic packet has come on a tunnel of a key of this node; told at most once a second is enough.
    pub fn heard(&mut self, now: Now, epoch: Epoch) {
        if let Phase::Committed { prev, heard, .. } = &mut self.phase
            && prev.epoch == epoch
        {
            *heard = now.running;
        }
        self.advance(now);
    }

    /// So many packets and bytes were sent and received under the key in use since this was told last.
    pub fn carried(&mut self, now: Now, packets: u64, bytes: u64) {
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
        self.advance(now);
    }

    /// The proof that the log has a key is held and verified.
    pub fn proven(&mut self, now: Now, epoch: Epoch, cosigned: Cosigned) {
        if self.awaited() == Some(epoch) {
            self.proof = Some((epoch, cosigned));
            self.advance(now);
        }
    }

    /// The log refuses a key, for good.
    pub fn proof_refused(&mut self, now: Now, epoch: Epoch) {
        match self.phase {
            Phase::Announced { next, .. } if next.epoch == epoch => self.abort_now(now, epoch),
            // Nobody will ever accept it.
            Phase::Replaced(Replaced { why, .. }) if self.cur.epoch == epoch => self.replace_now(now, why),
            _ => {}
        }
    }

    /// Whether the steward that keeps the log answers.
    pub fn log_answers(&mut self, now: Now, answers: bool) {
        self.log_answers = answers.then(|| self.log_answers.unwrap_or(now.running));
        self.advance(now);
    }

    /// The private half of a key is not there.
    pub fn key_lost(&mut self, now: Now, epoch: Epoch) {
        match self.phase {
            Phase::Announced { next, .. } | Phase::Proving { next, .. } if next.epoch == epoch => {
                self.abort_now(now, epoch);
            }
            _ if self.cur.epoch == epoch => self.replace_now(now, Why::Lost),
            _ => {}
        }
    }

    /// The operator wants another key, or suspects something. If a rotation is in its last steps, the next one follows.
    pub fn rotate(&mut self, now: Now) {
        match self.phase {
            Phase::Announced { .. } | Phase::Proving { .. } => {}
            Phase::Steady { .. }
            | Phase::Committed { .. }
            | Phase::Retired { .. }
            | Phase::Aborted { .. } => {
                self.is_wanted = true;
            }
            Phase::Replacing(_) | Phase::Replaced(_) => {}
        }
        self.advance(now);
    }

    /// The keys of this node are known to somebody else: they are dropped at once.
    pub fn compromised(&mut self, now: Now) {
        self.replace_now(now, Why::Compromised);
    }

    /// What else stands in the record has changed: it is signed again.
    pub fn publish_again(&mut self, now: Now) {
        self.renew_at = self.renew_at.min(now.running);
        self.advance(now);
    }

    /// A record that this node has signed was seen, with this sequence, this key in use and this highest number.
    ///
    /// If it is newer than all that this node knows to have signed, or names a key that it does not know to have made or
    /// used, its state is an old one, or somebody else has its identity. Numbers that were used are never used again.
    pub fn own_record_seen(&mut self, now: Now, seq: u64, cur: Epoch, highest: Epoch) {
        // A record is only signed once its sequence is on disk, so a store under way does not matter.
        let highest = highest.max(cur);
        // Who went on with an old state, because nobody told it, may have a higher sequence by now.
        if seq <= self.seq && highest <= self.epoch_max && cur <= self.cur.epoch {
            return;
        }
        let is_repeated = seq <= self.seq && highest <= self.epoch_max;
        let is_within =
            |time: Duration| self.rolled_back.is_some_and(|before| now.running < before.saturating_add(time));
        // Somebody may say one word again and again.
        if is_repeated && is_within(self.lengths().lead) {
            return;
        }
        let is_again = is_within(self.lengths().period);
        self.seq = self.seq.max(seq);
        self.epoch_max = self.epoch_max.max(highest);
        self.storing = None;
        // Of what was signed before the start, a few may come one after the other; each costs packets.
        let is_of_another = seq > self.seq_min || self.old_states >= OLD_STATES_MAX;
        self.rolled_back = Some(now.running);
        if is_of_another && is_again {
            // Both would take turns for ever: each goes on, and says so now and then.
            self.tell(Alarm::CloneSuspected);
            self.renew_at = self.renew_at.min(now.running + self.lengths().lead);
            return self.advance(now);
        }
        self.tell(Alarm::StateRollback);
        self.old_states = self.old_states.saturating_add(1);
        match self.phase {
            // What was published under this number is another key.
            Phase::Replacing(Replaced { why, .. }) => return self.replace_now(now, why),
            _ if cur != self.cur.epoch => return self.replace_now(now, Why::RolledBack),
            _ => {}
        }
        self.append(Leaf::Rollback(cur));
        match self.phase {
            // What was announced under this number may be another key.
            Phase::Announced { next, .. } | Phase::Proving { next, .. } => self.abort_now(now, next.epoch),
            _ => {
                self.is_wanted = true;
                self.renew_at = now.running;
                self.advance(now);
            }
        }
    }

    fn replace_now(&mut self, now: Now, why: Why) {
        self.replace(now, why);
        self.advance(now);
    }

    fn abort_now(&mut self, now: Now, next: Epoch) {
        // A step that was being stored would have used the key.
        self.storing = None;
        self.rest_until = now.running;
        self.abort(now, next);
    }

    /// The key whose proof is awaited.
    fn awaited(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Announced { next, .. } => Some(next.epoch),
            Phase::Replaced(_) => Some(self.cur.epoch),
            Phase::Steady { .. }
            | Phase::Proving { .. }
            | Phase::Committed { .. }
            | Phase::Retired { .. }
            | Phase::Aborted { .. }
            | Phase::Replacing(_) => None,
        }
    }

    /// The key that peers acknowledge now.
    fn newest(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Announced { next, .. } | Phase::Proving { next, .. } => Some(next.epoch),
            Phase::Committed { .. } => Some(self.cur.epoch),
            Phase::Steady { .. }
            | Phase::Retired { .. }
            | Phase::Aborted { .. }
            | Phase::Replacing(_)
            | Phase::Replaced(_) => None,
        }
    }
}
