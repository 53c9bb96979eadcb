//! Checkpoints: the head of a log, signed by it, cosigned by its witnesses.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use meshd_wire::{MeshId, OrgId, PublicKey, Timestamp};

use super::frontier::{SIZE_MAX, TreeHead};
use super::note::{BadSignature, Note, NoteSignature};
use super::strict::decimal;
use crate::key::SigningKey;

/// Names the log of an organisation in a mesh, and its steward as a witness of others' logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOrigin {
    /// The mesh.
    pub mesh: MeshId,
    /// The organisation.
    pub org: OrgId,
}

/// Which tree a log had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: LogOrigin,
    /// Its tree.
    pub head: TreeHead,
}

/// A checkpoint that its log signed, and which known witnesses cosigned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// First cosignature of each organisation.
    pub cosigned: BTreeMap<OrgId, Timestamp>,
}

/// Reports a text that is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The first line names no log of a mesh.
    #[error("not the name of a log")]
    Origin,
    /// The second line is no size of a tree.
    #[error("not the size of a tree")]
    Size,
    /// The third line is no hash.
    #[error("not the root of a tree")]
    Root,
    /// Other than three lines.
    #[error("a checkpoint has three lines")]
    Lines,
}

/// Says why a note is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointRefusal {
    /// Another log's, or nothing of a log.
    #[error("not of this log")]
    OtherLog,
    /// No key of the log has signed it.
    #[error("not signed by the log")]
    Unsigned,
    /// A signature in a known key's name is not its own.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The log signed what is no checkpoint.
    #[error("malformed checkpoint")]
    Malformed(#[source] CheckpointError),
}

/// Keys that a verifier knows: those of the log, and those of its witnesses with their organisation.
#[derive(Debug, Clone, Default)]
pub struct CheckpointKeys {
    /// Keys of the log; while one replaces another there are two.
    pub log: Vec<PublicKey>,
    /// Keys of witnesses.
    pub witnesses: Vec<(OrgId, PublicKey)>,
}

impl Checkpoint {
    /// Signs it as the log.
    pub fn sign(&self, key: &SigningKey) -> Note {
        let text = self.to_string();
        let signature = NoteSignature::of_log(&self.origin.to_string(), key, &text);
        Note::new(text, signature)
    }

    /// Cosigns it as the witness of an organisation. It must follow from the last one that was cosigned.
    pub fn cosign(&self, witness: OrgId, key: &SigningKey, at: Timestamp) -> NoteSignature {
        let witness = LogOrigin { org: witness, ..self.origin };
        NoteSignature::of_witness(&witness.to_string(), key, &self.to_string(), at)
    }
}

impl CheckpointKeys {
    /// Believes a note: it is of this log, a key of the log signed it, and no known key's signature is wrong.
    pub fn verify(&self, note: &Note, origin: &LogOrigin) -> Result<VerifiedCheckpoint, CheckpointRefusal> {
        let name = origin.to_string();
        if note.text().split('\n').next() != Some(name.as_str()) {
            return Err(CheckpointRefusal::OtherLog);
        }
        let mut is_signed = false;
        for key in &self.log {
            is_signed |= note.is_signed_by(&name, key)?;
        }
        if !is_signed {
            return Err(CheckpointRefusal::Unsigned);
        }
        let checkpoint = note.text().parse().map_err(CheckpointRefusal::Malformed)?;
        let mut cosigned = BTreeMap::new();
        for (org, key) in &self.witnesses {
            let witness = LogOrigin { org: *org, ..*origin };
            if let Some(at) = note.cosigned_by(&witness.to_string(), key)? {
                // The first counts: a witness that has another key by now may cosign again.
                let first = cosigned.entry(*org).or_insert(at);
                *first = at.min(*first);
            }
        }
        Ok(VerifiedCheckpoint { checkpoint, cosigned })
    }

    /// Signatures on a note that no key known here has made.
    pub fn strangers<'n>(&self, note: &'n Note, origin: &LogOrigin) -> Vec<&'n NoteSignature> {
        note.signatures().iter().filter(|signature| !self.knows(signature, origin)).collect()
    }

    /// Leaves out the signatures that no key known here has made.
    #[must_use]
    pub fn without_strangers(&self, note: &Note, origin: &LogOrigin) -> Note {
        note.signed_by(|signature| self.knows(signature, origin))
    }

    fn knows(&self, signature: &NoteSignature, origin: &LogOrigin) -> bool {
        let log = origin.to_string();
        self.log.iter().any(|key| signature.is_of_log(&log, key))
            || self.witnesses.iter().any(|(org, key)| {
                signature.is_of_witness(&LogOrigin { org: *org, ..*origin }.to_string(), key)
            })
    }
}

impl fmt::Display for LogOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meshd/{}/{}", self.mesh, self.org)
    }
}

impl FromStr for LogOrigin {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let ids = text.strip_prefix("meshd/").and_then(|ids| ids.split_once('/'));
        let (mesh, org) = ids.ok_or(CheckpointError::Origin)?;
        let (Ok(mesh), Ok(org)) = (mesh.parse(), org.parse()) else { return Err(CheckpointError::Origin) };
        let origin = Self { mesh, org };
        // Ids are read in either case, but a log has one name.
        if origin.to_string() == text { Ok(origin) } else { Err(CheckpointError::Origin) }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, head: TreeHead { size, root } } = self;
        writeln!(f, "{origin}\n{size}\n{root}")
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        let origin = origin.parse()?;
        let size = decimal(size).filter(|size| *size <= SIZE_MAX).ok_or(CheckpointError::Size)?;
        let root = root.parse().map_err(|_| CheckpointError::Root)?;
        Ok(Self { origin, head: TreeHead { size, root } })
    }
}
