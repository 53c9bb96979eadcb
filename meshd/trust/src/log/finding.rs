//! What an audit finds in a log.

use meshd_wire::{OrgId, PublicKey, Subject, Timestamp};

use super::frontier::TreeHead;

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
        }
    }

    /// What it means for the whole.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Fork { .. } | Self::Root { .. } => Severity::Tampering,
            Self::Missing { .. } | Self::Unreadable { .. } => Severity::Incomplete,
            Self::Chain { .. }
            | Self::Gap { .. }
            | Self::Reuse { .. }
            | Self::Overdue { .. }
            | Self::Undestroyed { .. }
            | Self::OrphanRevoke { .. }
            | Self::Clock { .. }
            | Self::Unwitnessed { .. } => Severity::Rule,
        }
    }
}
