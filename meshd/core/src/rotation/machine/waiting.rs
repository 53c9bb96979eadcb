//! What a rotation waits for, and until when.

use super::{Duration, LEADS_UNPROVEN_MAX, Now, Phase, Rotation};

impl<P: Copy + Ord> Rotation<P> {
    /// When to call [`Self::tick`], if nothing happens before. While the clock is in doubt, call it also when that ends.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        if self.storing.is_some() {
            return None;
        }
        if self.rest_until > now.running {
            return Some(self.rest_until);
        }
        let lengths = self.lengths();
        let settled = Some(self.started + lengths.settling);
        if self.is_resuming {
            return settled.filter(|at| *at > now.running);
        }
        let renewed = Some(self.renew_at);
        let times = match self.phase {
            Phase::Steady { .. } => [Some(self.due_at()), renewed, None, None, None, None],
            Phase::Announced { begun, .. } => {
                let unproven = lengths.lead * LEADS_UNPROVEN_MAX;
                let unproven = self.log_answers.map(|answers| answers.max(begun) + unproven);
                let witnesses = Some(self.is_old_at(lengths.age_max / 2));
                [
                    Some(begun + lengths.wait),
                    Some(begun + self.patience()),
                    unproven,
                    witnesses,
                    settled,
                    renewed,
                ]
            }
            Phase::Proving { begun, proving, .. } => {
                [Some(self.proving_ends(begun, proving)), settled, renewed, None, None, None]
            }
            Phase::Committed { begun, heard, .. } => {
                [Some(begun + lengths.overlap), self.silent_at(heard), renewed, settled, None, None]
            }
            Phase::Replaced(_) => {
                [Some(self.is_old_at(lengths.age_max / 2)), renewed, None, None, None, None]
            }
            Phase::Retired { .. } | Phase::Aborted { .. } | Phase::Replacing(_) => [None; 6],
        };
        // What has passed and did not help waits for something else.
        times.into_iter().flatten().filter(|at| *at > now.running && *at < Duration::MAX).min()
    }

    /// Whether it is time for the next key.
    pub(super) fn is_due(&self, now: Now) -> bool {
        let lengths = self.lengths();
        self.is_wanted
            || now.running >= self.due_at()
            || self.packets >= lengths.packets_max
            || self.bytes >= lengths.bytes_max
    }

    /// How long an announcement waits for peers to acknowledge it. Those that have no way to are given the time in which
    /// a record reaches everybody, and no more.
    pub(super) fn patience(&self) -> Duration {
        let lengths = self.lengths();
        let is_settling = self.acks.is_alone() || self.acks.all_who_can_installed();
        if is_settling { lengths.wait.min(lengths.settling) } else { lengths.wait }
    }

    /// When the next key becomes the key in use even if peers are missing. If the proof came late they have some time.
    pub(super) fn proving_ends(&self, begun: Duration, proving: Duration) -> Duration {
        (begun + self.lengths().lead).max(proving + self.lengths().settling)
    }

    /// When nobody can miss the key before any more. Who has not switched yet may have nothing to say.
    pub(super) fn silent_at(&self, heard: Duration) -> Option<Duration> {
        let settled = self.started + self.lengths().settling;
        self.acks.all_switched().then(|| (heard + self.lengths().silence).max(settled))
    }

    /// Whether peers that were connected before a start can be connected again.
    pub(super) fn is_settled(&self, now: Now) -> bool {
        !self.acks.is_alone() || now.running >= self.started + self.lengths().settling
    }

    pub(super) fn due_at(&self) -> Duration {
        let lengths = self.lengths();
        let period = lengths.period.saturating_sub(self.jitter);
        self.is_old_at(period.saturating_sub(lengths.lead))
    }

    /// When the key in use reaches an age.
    pub(super) fn is_old_at(&self, age: Duration) -> Duration {
        self.activated.saturating_add(age.saturating_sub(self.aged))
    }
}
