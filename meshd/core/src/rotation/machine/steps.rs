//! From one step to the next, once what was waited for has come and what it rests on is stored.

use super::{
    Alarm, Cosigned, DOUBLINGS_MAX, Duration, Effect, Epoch, KeySince, LEADS_UNPROVEN_MAX, Leaf, Now, Phase,
    Replaced, Rotation, Step, Stored, Storing, Then, Why,
};

impl<P: Copy + Ord> Rotation<P> {
    /// Begins the next step, if it is time and nothing is being stored. Every step ends in a store, so there is never
    /// more than one of them in a call.
    pub(super) fn advance(&mut self, now: Now) {
        if self.storing.is_some() || now.running < self.rest_until {
            return;
        }
        if self.is_resuming {
            let has_waited = now.running >= self.started + self.lengths().settling;
            if now.date.is_none() || !(self.has_looked || has_waited) {
                return;
            }
            self.seq = self.seq.max(self.seq_min);
            if !matches!(self.phase, Phase::Replacing(_)) {
                // The clock may have been in doubt before.
                self.count_age(now);
                return self.store(self.durable(self.step()), Then::Resume);
            }
            self.is_resuming = false;
        }
        match self.phase {
            Phase::Steady { destroyed: _ } => match now.date {
                Some(date) if self.is_due(now) => self.prepare(now, date),
                Some(_) | None => self.renew(now),
            },
            Phase::Announced { next, begun, is_late } => self.leave_announced(now, next, begun, is_late),
            Phase::Proving { next, begun, proving } => self.leave_proving(now, next, begun, proving),
            Phase::Committed { prev, begun, heard, accept_until: _ } => {
                self.leave_committed(now, prev.epoch, begun, heard);
            }
            Phase::Retired { prev } => self.destroyed(prev),
            Phase::Aborted { next } => self.destroyed(next),
            Phase::Replacing(_) => {
                if let Some(date) = now.date {
                    self.cur.since = date;
                    self.store(self.durable(self.step()), Then::Enter);
                }
            }
            Phase::Replaced(_) if self.is_logged(now, self.cur.epoch) => {
                self.store(self.durable(Step::Steady { destroyed: None }), Then::Enter);
            }
            Phase::Replaced(_) => self.renew(now),
        }
    }

    /// What was stored is on disk: now others may see it.
    pub(super) fn begin(&mut self, now: Now, Storing { stored, then, ticket: _ }: Storing) {
        let Stored { seq, epoch_max, cur, step } = stored;
        // A higher one may have been seen meanwhile.
        self.seq = self.seq.max(seq);
        self.epoch_max = self.epoch_max.max(epoch_max);
        match then {
            Then::Enter => {
                self.cur = cur;
                self.enter(now, step);
                self.show(now);
            }
            Then::Resume => {
                self.is_resuming = false;
                self.show(now);
            }
            Then::Renew => self.publish(now),
        }
    }

    /// Makes a new key in the place of all others, which are dropped.
    pub(super) fn replace(&mut self, now: Now, why: Why) {
        let Some(fresh) = self.epoch_max.next() else { return self.tell(Alarm::RotationLate) };
        let other = match self.phase {
            Phase::Announced { next, .. } | Phase::Proving { next, .. } => Some(next.epoch),
            Phase::Committed { prev, .. } => Some(prev.epoch),
            Phase::Retired { prev: other } | Phase::Aborted { next: other } => Some(other),
            Phase::Steady { destroyed } => destroyed,
            Phase::Replacing(replaced) | Phase::Replaced(replaced) => Some(replaced.old),
        };
        let replaced = match self.phase {
            // What it was to be replaced by was never in use.
            Phase::Replacing(replaced) => Replaced { why, ..replaced },
            _ => Replaced { old: self.cur.epoch, other, why },
        };
        for (epoch, _) in self.own_epochs().all() {
            self.effects.push_back(Effect::Drop { epoch });
        }
        self.effects.push_back(Effect::MakeKey { epoch: fresh });
        self.storing = None;
        self.epoch_max = fresh;
        self.cur = KeySince { epoch: fresh, since: self.cur.since };
        self.phase = Phase::Replacing(replaced);
        self.rest_until = Duration::ZERO;
        self.forget_rotation(now);
        self.effects.push_back(Effect::Use(self.own_epochs()));
    }

    /// Drops a key that was announced and can't be used; another one follows.
    pub(super) fn abort(&mut self, now: Now, next: Epoch) {
        self.aborted = self.aborted.saturating_add(1);
        self.effects.push_back(Effect::Drop { epoch: next });
        self.phase = Phase::Aborted { next };
        self.effects.push_back(Effect::Use(self.own_epochs()));
        self.is_wanted = true;
        self.proof = None;
        self.advance(now);
    }

    /// Whether this key may be used by what is known of the log.
    pub(super) fn is_logged(&self, now: Now, epoch: Epoch) -> bool {
        let proof = self.proof.filter(|(proven, _)| *proven == epoch).map(|(_, cosigned)| cosigned);
        match proof {
            Some(Cosigned::All) => true,
            Some(Cosigned::InPart) => now.running >= self.is_old_at(self.lengths().age_max / 2),
            None => false,
        }
    }

    fn prepare(&mut self, now: Now, date: u64) {
        let Some(epoch) = self.epoch_max.next() else {
            self.rest_until = now.running + self.lengths().period;
            return self.tell(Alarm::RotationLate);
        };
        let next = KeySince { epoch, since: date };
        self.effects.push_back(Effect::MakeKey { epoch });
        self.store(Stored { epoch_max: epoch, ..self.durable(Step::Prepared { next }) }, Then::Enter);
    }

    fn leave_announced(&mut self, now: Now, next: KeySince, begun: Duration, is_late: bool) {
        let waited = now.running.saturating_sub(begun);
        if !self.is_logged(now, next.epoch) {
            // Another key would have to wait for a missing witness as well, and peers may use this one already.
            let is_unproven = self.proof.is_none_or(|(epoch, _)| epoch != next.epoch);
            let answers = self.log_answers.map(|answers| now.running.saturating_sub(answers.max(begun)));
            if is_unproven
                && answers.is_some_and(|answers| answers >= self.lengths().lead * LEADS_UNPROVEN_MAX)
            {
                return self.abort(now, next.epoch);
            }
            if !is_late && waited >= self.lengths().wait {
                self.phase = Phase::Announced { next, begun, is_late: true };
                self.tell(Alarm::RotationLate);
            }
            return self.renew(now);
        }
        let is_installed = self.acks.all_installed() && self.is_settled(now);
        if is_installed || waited >= self.patience() {
            self.store(self.durable(Step::Proving { next }), Then::Enter);
        } else {
            self.renew(now);
        }
    }

    fn leave_proving(&mut self, now: Now, next: KeySince, begun: Duration, proving: Duration) {
        let is_switched = self.acks.all_switched() && self.is_settled(now);
        let Some(date) = now.date else { return };
        if is_switched || now.running >= self.proving_ends(begun, proving) {
            let overlap = self.lengths().overlap;
            let accept_until = date.saturating_add(overlap.as_secs() + u64::from(overlap.subsec_nanos() > 0));
            let step = Step::Committed { prev: self.cur, accept_until };
            let cur = KeySince { epoch: next.epoch, since: date };
            self.store(Stored { cur, ..self.durable(step) }, Then::Enter);
        } else {
            self.renew(now);
        }
    }

    fn leave_committed(&mut self, now: Now, prev: Epoch, begun: Duration, heard: Duration) {
        let is_over = now.running >= begun + self.lengths().overlap;
        if is_over || self.silent_at(heard).is_some_and(|at| now.running >= at) {
            self.effects.push_back(Effect::Drop { epoch: prev });
            self.phase = Phase::Retired { prev };
            self.effects.push_back(Effect::Use(self.own_epochs()));
            self.destroyed(prev);
        } else {
            self.renew(now);
        }
    }

    /// A key is gone from memory: it goes from disk as well.
    fn destroyed(&mut self, epoch: Epoch) {
        self.store(self.durable(Step::Steady { destroyed: Some(epoch) }), Then::Enter);
    }

    /// Signs the record again before it expires.
    fn renew(&mut self, now: Now) {
        if now.date.is_some() && now.running >= self.renew_at {
            self.store(self.durable(self.step()), Then::Renew);
        }
    }

    fn enter(&mut self, now: Now, step: Step) {
        let Now { running, date: _ } = now;
        self.phase = match step {
            Step::Steady { destroyed } => {
                if let (Phase::Aborted { .. }, Some(again)) = (self.phase, self.aborted.checked_sub(2)) {
                    self.rest_until = running + self.lengths().wait * (1 << again.min(DOUBLINGS_MAX));
                }
                Phase::Steady { destroyed }
            }
            Step::Prepared { next } => {
                self.is_wanted = false;
                self.proof = self.proof.filter(|(epoch, _)| *epoch == next.epoch);
                self.acks.begin();
                Phase::Announced { next, begun: running, is_late: false }
            }
            Step::Proving { next } => {
                let begun = match self.phase {
                    Phase::Announced { begun, .. } => begun,
                    _ => running,
                };
                Phase::Proving { next, begun, proving: running }
            }
            Step::Committed { prev, accept_until } => {
                self.forget_rotation(now);
                self.aborted = 0;
                Phase::Committed { prev, accept_until, begun: running, heard: running }
            }
            Step::Replaced { old, other, why } => Phase::Replaced(Replaced { old, other, why }),
        };
    }

    /// Says to everybody where the node is: after a step, and again after a start, since what was said before may not
    /// have left.
    fn show(&mut self, now: Now) {
        self.effects.push_back(Effect::Use(self.own_epochs()));
        // Before the end of the run before, the log may not have heard of it.
        let is_first = std::mem::take(&mut self.is_silent);
        match self.phase {
            Phase::Steady { destroyed } => {
                // Whose key is gone says so itself: the leaf names the record.
                if destroyed.is_some() || is_first {
                    self.publish(now);
                }
                if is_first {
                    self.append(Leaf::Activate(self.cur.epoch));
                }
                if let Some(epoch) = destroyed {
                    self.append(Leaf::Destroy(epoch));
                }
            }
            Phase::Announced { next, .. } => {
                self.publish(now);
                if is_first {
                    self.append(Leaf::Activate(self.cur.epoch));
                }
                self.append(Leaf::Announce(next.epoch));
            }
            Phase::Proving { next, .. } => {
                if is_first {
                    self.publish(now);
                    self.append(Leaf::Activate(self.cur.epoch));
                    self.append(Leaf::Announce(next.epoch));
                }
                self.effects.push_back(Effect::ShowProof { epoch: next.epoch });
            }
            Phase::Committed { .. } => {
                self.publish(now);
                self.append(Leaf::Activate(self.cur.epoch));
            }
            Phase::Replaced(Replaced { old, other, why }) => {
                self.publish(now);
                for gone in [Some(old), other].into_iter().flatten() {
                    self.append(Leaf::Destroy(gone));
                }
                match why {
                    Why::Compromised => self.append(Leaf::Compromised(old)),
                    Why::RolledBack => self.append(Leaf::Rollback(self.cur.epoch)),
                    Why::Lost => {}
                }
                self.append(Leaf::Activate(self.cur.epoch));
            }
            Phase::Retired { .. } | Phase::Aborted { .. } | Phase::Replacing(_) => {}
        }
    }

    /// What is counted and timed for the key in use begins anew.
    fn forget_rotation(&mut self, now: Now) {
        (self.activated, self.aged) = (now.running, Duration::ZERO);
        (self.packets, self.bytes) = (0, 0);
        self.is_wanted = false;
        self.draw_jitter();
    }

    /// The step that stands for the phase on disk.
    fn step(&self) -> Step {
        match self.phase {
            Phase::Steady { destroyed } => Step::Steady { destroyed },
            Phase::Retired { prev } => Step::Steady { destroyed: Some(prev) },
            Phase::Aborted { next } => Step::Steady { destroyed: Some(next) },
            Phase::Announced { next, .. } => Step::Prepared { next },
            Phase::Proving { next, .. } => Step::Proving { next },
            Phase::Committed { prev, accept_until, .. } => Step::Committed { prev, accept_until },
            Phase::Replacing(Replaced { old, other, why })
            | Phase::Replaced(Replaced { old, other, why }) => Step::Replaced { old, other, why },
        }
    }
}
