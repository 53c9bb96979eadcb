//! What an audit finds in a log and in what lies beside it.

use meshd_wire::{OrgId, PublicKey, Subject, Timestamp};

use super::frontier::TreeHead;

/// What is wrong with the record beside a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The leaf names one, and none is there.
    #[error("it is not there")]
    Absent,
    /// The leaf names none, and one is there; or there are more records than leaves.
    #[error("no leaf names it")]
    Unnamed,
    /// No record, or one of a newer release.
    #[error("it can't be read")]
    Unreadable,
    /// Another record than the leaf names.
    #[error("it is not the one that the leaf names")]
    OtherId,
    /// The record that the leaf names says something else than the leaf.
    #[error("it does not say what the leaf says")]
    OtherContent,
    /// Not signed by who the leaf says, or by nobody who may sign it.
    #[error("it is not signed by who may")]
    Signature,
}

/// Something that an honest log does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The log signed two trees of one size.
    Fork {
        /// One of them.
        one: TreeHead,
        /// The other.
        other: TreeHead,
    },
    /// The leaves are not those of the tree that was signed.
    Root {
        /// What the log signed.
        signed: TreeHead,
        /// What follows from the leaves.
        found: TreeHead,
    },
    /// A leaf does not name the leaf of its subject before it.
    Chain {
        /// The leaf.
        index: u64,
        /// The leaf before it about the same subject.
        expected: Option<u64>,
    },
    /// Leaves that a signed tree has are missing at the end.
    Missing {
        /// Leaves that were signed.
        signed: u64,
        /// Leaves that there are.
        found: u64,
    },
    /// A leaf of a newer release, or none at all.
    Unreadable {
        /// The leaf.
        index: u64,
    },
    /// Epochs of a node that no leaf names.
    Gap {
        /// The node.
        node: Subject,
        /// First of them.
        first: u32,
        /// Last of them.
        last: u32,
    },
    /// A note that says it is of this log and is not, or none.
    Checkpoint {
        /// Path of the note.
        path: String,
        /// Whether it is there.
        is_there: bool,
    },
    /// A signature on a checkpoint by a key that nobody vouches for.
    Signer {
        /// Path of the note.
        path: String,
        /// Name of the signer.
        name: String,
    },
    /// A tile of hashes or of leaves that is not what the log says, or none.
    Tile {
        /// Path of the tile.
        path: String,
        /// Whether it is there.
        is_there: bool,
    },
    /// The record beside a leaf is not what the leaf says.
    Record {
        /// The leaf.
        index: u64,
        /// In what way.
        fault: RecordFault,
    },
    /// A record that is to prove who may sign does not, or is not there.
    Authority {
        /// Which, and why.
        what: String,
        /// Whether it is there.
        is_there: bool,
    },
    /// An organisation of the mesh whose log is not in the bundle.
    Absent {
        /// The organisation.
        org: OrgId,
    },
    /// A key that came into use and had not been announced under this epoch.
    Unlogged {
        /// The leaf that shows it.
        index: u64,
        /// The node.
        node: Subject,
        /// The epoch.
        epoch: u32,
        /// The key that was announced, if any was.
        announced: Option<PublicKey>,
        /// The key in use, if the record is there.
        used: Option<PublicKey>,
    },
    /// A key that was in use before it was announced.
    LateLog {
        /// The leaf that shows it.
        index: u64,
        /// The node.
        node: Subject,
        /// The epoch.
        epoch: u32,
        /// Since when it was in use, as its node says.
        since: Timestamp,
        /// When it was announced.
        announced: Timestamp,
    },
    /// An epoch beyond its period at a node that was not a member meanwhile.
    Dormant {
        /// The node.
        node: Subject,
        /// The epoch.
        epoch: u32,
        /// When it came into use.
        since: Timestamp,
        /// End of the certificate.
        certified: Timestamp,
    },
    /// A key in two epochs or at two nodes, or an epoch that came back.
    Reuse {
        /// The leaf that shows it.
        index: u64,
        /// The key, if the record was there.
        key: Option<PublicKey>,
        /// Node and epoch before.
        before: (Subject, u32),
        /// Node and epoch now.
        again: (Subject, u32),
    },
    /// An epoch that was in use for too long.
    Overdue {
        /// The node.
        node: Subject,
        /// The epoch.
        epoch: u32,
        /// When it came into use.
        since: Timestamp,
        /// When the next one did, or the audit.
        until: Timestamp,
    },
    /// An old key that was not erased in time.
    Undestroyed {
        /// The node.
        node: Subject,
        /// The epoch.
        epoch: u32,
        /// When the next one came into use.
        since: Timestamp,
        /// When it was erased at last, if it was.
        destroyed: Option<Timestamp>,
    },
    /// Who was revoked did something later.
    OrphanRevoke {
        /// Who.
        subject: Subject,
        /// Leaf that revoked it.
        revoked: u64,
        /// What it did later.
        index: u64,
    },
    /// A leaf's time is not that at which it was first witnessed.
    Clock {
        /// The leaf.
        index: u64,
        /// Its time.
        time: Timestamp,
        /// When its tree was witnessed.
        witnessed: Timestamp,
    },
    /// An organisation did not cosign in time.
    Unwitnessed {
        /// The organisation.
        org: OrgId,
        /// First checkpoint that it did not cosign.
        size: u64,
        /// Time of that checkpoint's last leaf.
        since: Timestamp,
    },
}

/// What a finding means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, and right.
    Notice,
    /// Against the rules.
    Rule,
    /// The audit could not see everything.
    Incomplete,
    /// Somebody changed what was signed.
    Tampering,
}

impl Finding {
    /// Word for it in reports, the same for ever.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Fork { .. } => "FORK",
            Self::Root { .. } => "ROOT",
            Self::Chain { .. } => "CHAIN",
            Self::Missing { .. } => "MISSING",
            Self::Unreadable { .. } => "UNREADABLE",
            Self::Gap { .. } => "GAP",
            Self::Reuse { .. } => "REUSE",
            Self::Overdue { .. } => "OVERDUE",
            Self::Undestroyed { .. } => "UNDESTROYED",
            Self::OrphanRevoke { .. } => "ORPHAN-REVOKE",
            Self::Clock { .. } => "CLOCK",
            Self::Unwitnessed { .. } => "UNWITNESSED",
            Self::Checkpoint { .. } => "CHECKPOINT",
            Self::Signer { .. } => "SIGNER",
            Self::Tile { .. } => "TILE",
            Self::Record { .. } => "RECORD",
            Self::Authority { .. } => "AUTHORITY",
            Self::Absent { .. } => "ABSENT",
            Self::Unlogged { .. } => "UNLOGGED",
            Self::LateLog { .. } => "LATE-LOG",
            Self::Dormant { .. } => "DORMANT",
        }
    }

    /// What it means for the whole.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Fork { .. }
            | Self::Root { .. }
            | Self::Checkpoint { is_there: true, .. }
            | Self::Tile { is_there: true, .. }
            | Self::Authority { is_there: true, .. } => Severity::Tampering,
            Self::Record { fault, .. } => match fault {
                RecordFault::Absent => Severity::Incomplete,
                RecordFault::Unnamed
                | RecordFault::Unreadable
                | RecordFault::OtherId
                | RecordFault::OtherContent
                | RecordFault::Signature => Severity::Tampering,
            },
            Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::Signer { .. }
            | Self::Absent { .. }
            | Self::Checkpoint { is_there: false, .. }
            | Self::Tile { is_there: false, .. }
            | Self::Authority { is_there: false, .. } => Severity::Incomplete,
            Self::Chain { .. }
            | Self::Gap { .. }
            | Self::Reuse { .. }
            | Self::Overdue { .. }
            | Self::Undestroyed { .. }
            | Self::OrphanRevoke { .. }
            | Self::Clock { .. }
            | Self::Unwitnessed { .. }
            | Self::Unlogged { .. }
            | Self::LateLog { .. } => Severity::Rule,
            Self::Dormant { .. } => Severity::Notice,
        }
    }
}
