//! How this steward's log grew, for nodes that hold two of its checkpoints.
//!
//! The answer has the log's own checkpoints of both sizes, signed anew. A node that was shown another tree of one of these
//! sizes then holds what convicts the log; an honest steward signs nothing but beginnings of its one tree.

#[cfg(test)]
mod tests;

use meshd_trust::log::{CosignRequest, Note};
use meshd_wire::enrol::{EnrolReply, Refused};
use meshd_wire::{PublicKey, Timestamp};

use super::{Answer, Declined, LogError, Steward};
use crate::enrol::Grown;

/// Questions of one node: it has one in ten seconds at most, and each costs a few reads and two signatures.
pub(super) const ASKED_PER_S: u32 = 1;
pub(super) const ASKED_AT_ONCE: u32 = 8;

impl Steward {
    /// Says how the log grew; none if it never had so many leaves, or there was nothing to grow from.
    pub fn growth(&self, old: u64, new: u64) -> Result<Option<Grown>, LogError> {
        let Some(log) = self.log.as_ref().filter(|_| old > 0 && old < new) else { return Ok(None) };
        let Some((before, growth, note)) = log.grown(old, new)? else { return Ok(None) };
        let shown = CosignRequest { old, growth, note };
        Ok(Some(Grown { old: before.to_string().into_bytes(), new: shown.to_string().into_bytes() }))
    }

    /// Newest checkpoint of the log without what others have signed; none while the log can't be opened.
    pub fn checkpoint(&self) -> Option<Note> {
        let log = self.log.as_ref()?;
        Some(log.note().signed_alone_by(&log.origin().to_string(), &[log.key()]))
    }

    /// Answers a node that asks how the log grew.
    pub(super) fn tell_growth(
        &mut self,
        peer: &PublicKey,
        old: u64,
        new: u64,
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        if !self.growth_quotas.take(peer, now) {
            return Err(Refused::Unavailable.into());
        }
        let Grown { old, new } = self.growth(old, new)?.ok_or(Refused::Unavailable)?;
        Ok(Answer::silent(EnrolReply::Grown { old, new }))
    }
}
