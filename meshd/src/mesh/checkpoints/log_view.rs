//! One audit log as a node sees it.
//!
//! ```text
//! nothing ─first checkpoint─▶ kept ─larger one─▶ kept, one unproven ─proof that it grew─▶ kept, the larger one
//!                              └──── other root of a size that is known ────▶ evidence
//! ```

use std::time::{Duration, Instant};

use meshd_trust::log::{Checkpoint, ConsistencyProof, Evidence, Note, TreeHead};

/// How often neighbours are told of a newer checkpoint: a log may grow each second.
const SHOWN_EVERY: Duration = Duration::from_secs(10);

/// A checkpoint that its log has signed, without what others have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) note: Note,
    pub(super) head: TreeHead,
}

/// What came of a checkpoint that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: it is known, or for whoever holds no more than that to ask about.
    Known,
    /// It is the first of its log.
    First,
    /// Nobody has shown yet that the log grew to it.
    Unproven,
    /// It excludes another one.
    Forked(Evidence),
}

/// What came of the log's word on how it grew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Growth {
    /// It grew.
    Shown,
    /// It says nothing of that.
    NotShown,
    /// It has signed what excludes a checkpoint that is known.
    Forked(Evidence),
}

/// The log's own checkpoints of both sizes, and the proof between them.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) old: Seen,
    pub(super) proof: ConsistencyProof,
    pub(super) new: Seen,
}

/// One log.
#[derive(Debug, Default)]
pub(super) struct LogView {
    /// Newest checkpoint to which the log was shown to grow, or the first one that came.
    kept: Option<Seen>,
    /// The log has shown in this run that it grew to it.
    is_shown_grown: bool,
    /// Largest one beyond it.
    unproven: Option<Seen>,
    /// Since when there is such a one.
    unproven_since: Option<Instant>,
    /// The log did not show that it grew to that one: any other may take its place, or one that was made up would hide all.
    is_refused: bool,
    /// When the log may be asked about it, and about any.
    ask_at: Option<Instant>,
    next_at: Option<Instant>,
    is_asked: bool,
    /// What neighbours are told, and since when.
    shown: Option<(Note, Instant)>,
}

impl Seen {
    /// Takes a note whose signature was verified.
    pub(super) fn of(note: Note) -> Option<Self> {
        let Checkpoint { origin: _, head } = note.text().parse().ok()?;
        Some(Self { note, head })
    }

    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.head.size == other.head.size && self.head.root != other.head.root
    }
}

impl LogView {
    /// Goes on from what was kept before a restart.
    pub(super) fn resume(kept: Seen) -> Self {
        Self { kept: Some(kept), ..Self::default() }
    }

    /// Takes in a checkpoint. The log is asked about it after a delay: it is news to all nodes at the same moment.
    pub(super) fn hear(&mut self, seen: Seen, now: Instant, delay: Duration) -> Heard {
        if seen.head.size == 0 {
            return Heard::Known;
        }
        let Some(kept) = &self.kept else {
            self.kept = Some(seen);
            return Heard::First;
        };
        for known in [Some(kept), self.unproven.as_ref()].into_iter().flatten() {
            if seen.excludes(known) {
                return Heard::Forked(Evidence::new(known.note.clone(), seen.note));
            }
        }
        let unproven = self.unproven.as_ref().filter(|_| !self.is_refused);
        // The first one was believed without a question; with a smaller one there is something to ask.
        let is_first_doubted =
            !self.is_shown_grown && self.unproven.is_none() && seen.head.size < kept.head.size;
        // Else, whoever has sent a smaller one is told of this one, and asks.
        let is_largest = seen.head.size > unproven.map_or(kept.head.size, |unproven| unproven.head.size);
        if is_first_doubted {
            self.unproven = self.kept.replace(seen);
        } else if is_largest {
            self.unproven = Some(seen);
        } else {
            return Heard::Known;
        }
        self.is_refused = false;
        self.unproven_since.get_or_insert(now);
        self.ask_at.get_or_insert((now + delay).max(self.next_at.unwrap_or(now)));
        Heard::Unproven
    }

    /// Two checkpoints that the log is to be asked about now; it is asked again after a while.
    pub(super) fn question(&mut self, now: Instant, again: Duration) -> Option<(Seen, Seen)> {
        let is_due = !self.is_asked && self.ask_at.is_some_and(|at| at <= now);
        let (kept, unproven) = (self.kept.clone()?, self.unproven.clone().filter(|_| is_due)?);
        self.is_asked = true;
        self.next_at = Some(now + again);
        self.ask_at = self.next_at;
        Some((kept, unproven))
    }

    /// Takes in what the log told; `asked` is the larger one that it was asked about.
    pub(super) fn on_told(&mut self, asked: Seen, told: Option<Told>, now: Instant) -> Growth {
        self.is_asked = false;
        self.is_refused = true;
        let (Some(kept), Some(Told { old, proof, new })) = (&self.kept, told) else {
            return Growth::NotShown;
        };
        for (known, told) in [(kept, old), (&asked, new)] {
            if told.excludes(known) {
                return Growth::Forked(Evidence::new(known.note.clone(), told.note));
            }
        }
        if proof.verify(&kept.head, &asked.head).is_err() {
            return Growth::NotShown;
        }
        if self.unproven.as_ref().is_some_and(|unproven| unproven.head.size > asked.head.size) {
            self.unproven_since = Some(now);
        } else {
            (self.unproven, self.unproven_since, self.ask_at) = (None, None, None);
        }
        (self.kept, self.is_shown_grown, self.is_refused) = (Some(asked), true, false);
        Growth::Shown
    }

    /// Lets neighbours hear of the newest checkpoint that is kept, now and then.
    pub(super) fn show(&mut self, now: Instant) {
        let Some(kept) = &self.kept else { return };
        let is_settled =
            self.shown.as_ref().is_some_and(|(note, at)| *note == kept.note || now < *at + SHOWN_EVERY);
        if !is_settled {
            self.shown = Some((kept.note.clone(), now));
        }
    }

    /// What neighbours are told.
    pub(super) fn shown(&self) -> Option<&Note> {
        self.shown.as_ref().map(|(note, _)| note)
    }

    /// All that is at hand.
    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        [&self.kept, &self.unproven].into_iter().flatten().map(|seen| &seen.note)
    }

    /// What is kept.
    pub(super) fn kept(&self) -> Option<&Note> {
        self.kept.as_ref().map(|kept| &kept.note)
    }

    /// Leaves that it has at least.
    pub(super) fn size(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.head.size)
    }

    /// Whether this very checkpoint is at hand.
    pub(super) fn has(&self, note: &Note) -> bool {
        self.notes().any(|known| known == note)
    }

    /// How long a checkpoint has had no proof.
    pub(super) fn unproven_for(&self, now: Instant) -> Option<Duration> {
        self.unproven_since.map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests;
