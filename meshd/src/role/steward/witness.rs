//! This steward as a witness of the other organisations' logs.
//!
//! It cosigns what follows from the checkpoint that it cosigned last of a log (C2SP `tlog-witness`), and that is on disk
//! before anybody gets the cosignature. What it can't read again it does not take for nothing: it cosigns no more of that
//! log until somebody has looked. Evidence of a log with two faces goes to the node, which keeps it and passes it on.

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use meshd_core::bucket::TokenBucket;
use meshd_trust::log::{
    Checkpoint, CheckpointKeys, CosignRequest, Evidence, LogOrigin, NOTE_BYTES_MAX, Note, TreeHash, TreeHead,
};
use meshd_wire::enrol::{EnrolReply, Refused};
use meshd_wire::record::{Roles, StewardDelegation};
use meshd_wire::{OrgId, PublicKey, Timestamp};

use super::{Answer, Declined, LogError, Steward};
use crate::whole_file::{FileError, read, replace};

/// Directory of the newest checkpoints cosigned, a file for each organisation.
const WITNESSED: &str = "witnessed";

/// Checkpoints of one log that are cosigned: it asks once a second, and each costs a write that is synced.
const COSIGNED_PER_S: u32 = 2;
const COSIGNED_AT_ONCE: u32 = 64;

/// The checkpoint of a log that was cosigned last.
struct Last {
    note: Note,
    head: TreeHead,
}

impl Steward {
    /// Cosigns a checkpoint of another organisation's log, if it follows from the last one.
    pub(super) fn cosign(&mut self, request: &[u8], now: Timestamp) -> Result<Answer, Declined> {
        let CosignRequest { old, growth, note } =
            CosignRequest::from_bytes(request).map_err(|_| Refused::Malformed)?;
        let checkpoint: Checkpoint = note.text().parse().map_err(|_| Refused::Malformed)?;
        let Checkpoint { origin, head } = checkpoint;
        let own = self.own_origin().ok_or(Refused::Unavailable)?;
        if origin.mesh != own.mesh || origin.org == own.org {
            return Err(Refused::WrongMesh.into());
        }
        let log = self.log_keys_of(&origin.org, now).ok_or(Refused::WrongMesh)?;
        let keys = CheckpointKeys { log, witnesses: Vec::new() };
        keys.verify(&note, &origin).map_err(|_| Refused::Malformed)?;
        // Only now: nobody else uses up what an organisation may ask for.
        if !self.may_cosign(origin.org, now) {
            return Err(Refused::Unavailable.into());
        }
        let note = note.signed_alone_by(&origin.to_string(), &keys.log);

        let last = self.last_cosigned(&origin)?;
        if let Some(last) = &last
            && last.head.size == head.size
        {
            if last.head.root == head.root {
                return self.repeat(&last.note, &own);
            }
            let checkpoint = bytes(&last.note);
            let last = last.note.signed_alone_by(&origin.to_string(), &keys.log);
            let evidence = Some((origin.org, Evidence::new(last, note)));
            return Ok(Answer { evidence, ..Answer::silent(EnrolReply::Witnessed { checkpoint }) });
        }
        let nothing = TreeHead { size: 0, root: TreeHash::empty() };
        let known = last.as_ref().map_or(nothing, |last| last.head);
        if old != known.size {
            let checkpoint = last.map_or_else(Vec::new, |last| bytes(&last.note));
            return Ok(Answer::silent(EnrolReply::Witnessed { checkpoint }));
        }
        growth.verify(&known, &head).map_err(|_| Refused::Malformed)?;
        self.hold_against_state(&origin, &head)?;

        let signature = checkpoint.cosign(own.org, &self.seeds.witness(), now);
        let mut cosigned = note;
        cosigned.add(signature.clone()).map_err(|_| Refused::Malformed)?;
        self.put_cosigned(&origin.org, &cosigned)?;
        self.shown.insert(origin.org, head.size);
        Ok(Answer::silent(EnrolReply::Cosigned { signature: signature.to_string().into_bytes() }))
    }

    fn may_cosign(&mut self, org: OrgId, now: Timestamp) -> bool {
        let now = Duration::from_secs(now.0);
        let quota = self.cosign_quotas.entry(org);
        quota.or_insert_with(|| TokenBucket::new(COSIGNED_PER_S, COSIGNED_AT_ONCE, now)).take(now)
    }

    /// Gives the cosignature of the last checkpoint again, to a log that did not get it.
    fn repeat(&self, last: &Note, own: &LogOrigin) -> Result<Answer, Declined> {
        let (name, key) = (own.to_string(), self.seeds.witness().public());
        let mut signatures = last.signatures().iter();
        let signature = signatures.find(|one| one.is_of_witness(&name, &key)).ok_or(Refused::Unavailable)?;
        Ok(Answer::silent(EnrolReply::Cosigned { signature: signature.to_string().into_bytes() }))
    }

    /// Holds a tree against what its organisation last told the mesh of it: a witness that came back from a backup may
    /// have forgotten what it cosigned, but the mesh has not.
    fn hold_against_state(&self, origin: &LogOrigin, head: &TreeHead) -> Result<(), Refused> {
        let org = self.roster.as_ref().and_then(|roster| roster.org(&origin.org));
        let Some(told) = org.and_then(|org| org.state()?.checkpoint) else { return Ok(()) };
        if head.size < told.n {
            return Err(Refused::Unavailable);
        }
        if head.size == told.n && head.root.0 != told.id.0 {
            tracing::error!(
                org = origin.org.short(),
                leaves = told.n,
                "a log has another tree than its organisation's state says"
            );
            return Err(Refused::Malformed);
        }
        Ok(())
    }

    pub(super) fn own_origin(&self) -> Option<LogOrigin> {
        self.station.as_ref().map(|station| LogOrigin { mesh: station.mesh, org: station.org })
    }

    /// Keys that may sign another organisation's log now; none if there is no such organisation.
    fn log_keys_of(&self, org: &OrgId, now: Timestamp) -> Option<Vec<PublicKey>> {
        let org = self.roster.as_ref()?.org(org)?;
        let may_sign = |one: &&StewardDelegation| {
            one.roles.contains(Roles::LOG) && one.not_before <= now && now <= one.not_after
        };
        Some(org.delegations().filter(may_sign).map(|steward| steward.log_key).collect())
    }

    /// What was cosigned last of a log. The own cosignature on it says that it is not damaged.
    fn last_cosigned(&self, origin: &LogOrigin) -> Result<Option<Last>, Declined> {
        let path = self.witnessed(&origin.org);
        let bytes = match read(&path, NOTE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LogError::from(FileError::new("read", &path, source)).into()),
        };
        let own = self.own_origin().ok_or(Refused::Unavailable)?.to_string();
        let note =
            Note::from_bytes(&bytes).map_err(|source| LogError::Note { path: path.clone(), source })?;
        let is_ours = note.cosigned_by(&own, &self.seeds.witness().public());
        let checkpoint = note.text().parse::<Checkpoint>().ok().filter(|one| one.origin == *origin);
        match (is_ours, checkpoint) {
            (Ok(Some(_)), Some(Checkpoint { head, .. })) => Ok(Some(Last { note, head })),
            _ => Err(LogError::Forgotten { path }.into()),
        }
    }

    /// Stores a checkpoint that is about to be cosigned; when this returns, it is on disk.
    fn put_cosigned(&self, org: &OrgId, note: &Note) -> Result<(), LogError> {
        Ok(replace(&self.witnessed(org), note.to_string().as_bytes())?)
    }

    pub(super) fn witnessed_dir(&self) -> PathBuf {
        self.dir.join(WITNESSED)
    }

    fn witnessed(&self, org: &OrgId) -> PathBuf {
        self.witnessed_dir().join(org.to_string())
    }
}

fn bytes(note: &Note) -> Vec<u8> {
    note.to_string().into_bytes()
}
