//! The other organisations' stewards as witnesses of this one's log: what each is asked, and what it answered.

use std::collections::{BTreeMap, BTreeSet};

use meshd_trust::Roster;
use meshd_trust::log::{Checkpoint, CheckpointKeys, CosignRequest, LogOrigin, Note, NoteSignature, TreeHead};
use meshd_wire::{OrgId, PublicKey};

use super::log::Growth;
use super::{LogError, Steward};
use crate::enrol::CosignAnswer;

/// What is known of the witnesses.
#[derive(Debug, Default)]
pub(super) struct Cosigners {
    seen: BTreeMap<OrgId, Seen>,
    /// Keys of witnesses whose delegations are beside the log.
    proven: BTreeSet<PublicKey>,
}

/// What a witness has seen of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It has cosigned this tree, or nothing yet.
    Tree(Option<TreeHead>),
    /// It has cosigned a tree that this log never had, as far as it knows itself.
    Other(TreeHead),
}

/// What a witness is to be asked.
#[derive(Debug)]
pub struct CosignAsk {
    /// The request.
    pub request: Vec<u8>,
    /// The checkpoint in it.
    pub note: Note,
}

/// Says why a witness's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum NotCosigned {
    /// A signature that is not the witness's, or none.
    #[error("the witness gave no cosignature of its own")]
    Signature,
    /// A checkpoint that this log has not signed.
    #[error("the witness shows a checkpoint that this log has not signed")]
    Checkpoint,
    /// It has cosigned less than this log knows of, or another tree.
    #[error("the witness has cosigned {size} leaves last")]
    Elsewhere {
        /// Leaves of that tree.
        size: u64,
    },
    /// It has cosigned a tree that this log never had.
    #[error(
        "the witness has cosigned {size} leaves that are not those of this log: it was restored, or forked"
    )]
    Excluded {
        /// Leaves of that tree.
        size: u64,
    },
    /// The cosignature can't be stored.
    #[error("store a cosignature")]
    Store(#[from] LogError),
}

impl Steward {
    /// What a witness is to be asked now; none if it has cosigned all there is.
    pub fn cosign_ask(&mut self, witness: &OrgId, keys: &[PublicKey]) -> Result<Option<CosignAsk>, LogError> {
        let Some(log) = self.log.as_ref().filter(|log| log.head().size > 0) else { return Ok(None) };
        let seen = *self
            .cosigners
            .seen
            .entry(*witness)
            .or_insert_with(|| Seen::Tree(log.cosigned_by(witness, keys)));
        let note = log.note().clone();
        let (old, growth) = match seen {
            Seen::Tree(Some(head)) if head == log.head() => return Ok(None),
            Seen::Tree(head) => match log.growth(head)? {
                Growth::From { old, proof } => (old, proof),
                Growth::Never => {
                    self.cosigners.seen.insert(*witness, head.map_or(Seen::Tree(None), Seen::Other));
                    (0, Default::default())
                }
            },
            // It says again what it has, until somebody has put that right.
            Seen::Other(_) => (0, Default::default()),
        };
        let request = CosignRequest { old, growth, note: note.clone() }.to_string().into_bytes();
        Ok(Some(CosignAsk { request, note }))
    }

    /// Takes in what a witness answered.
    pub fn on_cosigned(
        &mut self,
        witness: &OrgId,
        keys: &[PublicKey],
        asked: &Note,
        answer: CosignAnswer,
    ) -> Result<(), NotCosigned> {
        match answer {
            CosignAnswer::Cosigned(signature) => self.take_cosignature(witness, keys, asked, &signature),
            CosignAnswer::Witnessed(checkpoint) => self.take_witnessed(witness, &checkpoint),
        }
    }

    /// Stores a cosignature, once it is verified: one that is not the witness's would convict this log.
    fn take_cosignature(
        &mut self,
        witness: &OrgId,
        keys: &[PublicKey],
        asked: &Note,
        signature: &[u8],
    ) -> Result<(), NotCosigned> {
        let log = self.log.as_mut().ok_or(NotCosigned::Signature)?;
        let line = str::from_utf8(signature).map_err(|_| NotCosigned::Signature)?;
        let signature: NoteSignature = line.parse().map_err(|_| NotCosigned::Signature)?;
        let name = LogOrigin { org: *witness, ..log.origin() }.to_string();
        let key =
            keys.iter().find(|key| signature.is_of_witness(&name, key)).ok_or(NotCosigned::Signature)?;
        let mut cosigned = asked.clone();
        cosigned.add(signature.clone()).map_err(|_| NotCosigned::Signature)?;
        if !cosigned.cosigned_by(&name, key).is_ok_and(|at| at.is_some()) {
            return Err(NotCosigned::Signature);
        }
        let checkpoint: Checkpoint = asked.text().parse().map_err(|_| NotCosigned::Signature)?;
        // An auditor who finds the cosignature finds beside it who may cosign.
        if !self.cosigners.proven.contains(key) {
            log.put_chain(&self.roster.as_ref().map(Roster::chain).unwrap_or_default())?;
            self.cosigners.proven.insert(*key);
        }
        log.add_cosignature(asked, checkpoint.head.size, signature)?;
        self.cosigners.seen.insert(*witness, Seen::Tree(Some(checkpoint.head)));
        Ok(())
    }

    /// Notes which tree the witness goes on from.
    fn take_witnessed(&mut self, witness: &OrgId, checkpoint: &[u8]) -> Result<(), NotCosigned> {
        let log = self.log.as_ref().ok_or(NotCosigned::Checkpoint)?;
        if checkpoint.is_empty() {
            self.cosigners.seen.insert(*witness, Seen::Tree(None));
            return Err(NotCosigned::Elsewhere { size: 0 });
        }
        let note = Note::from_bytes(checkpoint).map_err(|_| NotCosigned::Checkpoint)?;
        // It may have cosigned nothing since this log got another key.
        let org = self.roster.as_ref().and_then(|roster| roster.org(&log.origin().org));
        let mut log_keys = org.map(|org| org.log_keys_ever()).unwrap_or_default();
        log_keys.push(log.key());
        let keys = CheckpointKeys { log: log_keys, witnesses: Vec::new() };
        let verified = keys.verify(&note, &log.origin()).map_err(|_| NotCosigned::Checkpoint)?;
        let head = verified.checkpoint.head;
        let is_ours = matches!(log.growth(Some(head))?, Growth::From { .. });
        self.cosigners
            .seen
            .insert(*witness, if is_ours { Seen::Tree(Some(head)) } else { Seen::Other(head) });
        let size = head.size;
        Err(if is_ours { NotCosigned::Elsewhere { size } } else { NotCosigned::Excluded { size } })
    }
}
