//! Why a record was refused.

use meshd_wire::{DecodeError, Kind, NodeId, OrgId};

/// Reports a record that was refused; nothing but a counter changes because of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than any record has.
    #[error("the record is too large: {len} bytes")]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// Not a record at all.
    #[error("the record is malformed: {0}")]
    Malformed(String),
    /// A kind that never travels this way.
    #[error("a {} is not accepted here", .0.name())]
    WrongKind(Kind),
    /// A field that no honest issuer writes.
    #[error("the record breaks a rule: {0}")]
    Invalid(&'static str),
    /// The record it builds on is not here yet; try again when it is.
    #[error("the {0} it builds on is not known yet")]
    MissingParent(&'static str),
    /// A genesis of another mesh.
    #[error("it belongs to another mesh")]
    OtherMesh,
    /// An organisation that is no member of the mesh.
    #[error("organisation {} is no member of this mesh", .0.short())]
    UnknownOrg(OrgId),
    /// A signature that does not verify.
    #[error("a signature does not verify")]
    BadSignature,
    /// A signature of a key that nobody vouches for.
    #[error("it is signed by an unknown key")]
    UnknownSigner,
    /// Signed by a known key without the right to sign this.
    #[error("its signer may not sign this kind")]
    WrongRole,
    /// Too few distinct keys signed.
    #[error("{found} of {needed} needed keys signed")]
    TooFewSigners {
        /// Distinct keys that signed.
        found: usize,
        /// Keys that must sign.
        needed: usize,
    },
    /// Older than what was seen before.
    #[error("a newer version was seen before")]
    Stale,
    /// Older than what the join token allows.
    #[error("it is older than the join token allows")]
    BelowFloor,
    /// The same version with other content: its signer says two things.
    #[error("its signer gave the same version two contents; the first one stays")]
    Equivocation,
    /// Dated more than the permitted skew ahead of this node's time.
    #[error("it is dated in the future")]
    Future,
    /// Its time, or that of its signer, is over.
    #[error("its time is over")]
    Expired,
    /// An address outside of what the organisation owns.
    #[error("an address lies outside its organisation's prefix")]
    OutsidePrefix,
    /// An address that another node of the mesh holds.
    #[error("node {} holds that address", holder.short())]
    AddressTaken {
        /// The node that holds it.
        holder: NodeId,
    },
    /// A transport or tunnel key that another node of the mesh holds.
    #[error("node {} holds that key", holder.short())]
    KeyTaken {
        /// The node that holds it.
        holder: NodeId,
    },
    /// A name that another node, or an endpoint of another, has in the organisation.
    #[error("node {} has that name", holder.short())]
    NameTaken {
        /// The node that has it, or whose endpoint does.
        holder: NodeId,
    },
    /// A node that another organisation has enrolled.
    #[error("the node belongs to organisation {}", holder.short())]
    OtherOrg {
        /// The organisation that enrolled it first.
        holder: OrgId,
    },
    /// The node or its certificate was taken back.
    #[error("it was revoked")]
    Revoked,
    /// A node that is new in an organisation whose word does not count for new ones.
    #[error("organisation {} is shut to new nodes", .0.short())]
    Shut(OrgId),
    /// A table is full.
    #[error("there are too many {0}")]
    TooMany(&'static str),
}

impl Refusal {
    /// Short label for counters.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Malformed(_) => "malformed",
            Self::WrongKind(_) => "wrong-kind",
            Self::Invalid(_) => "invalid",
            Self::MissingParent(_) => "missing-parent",
            Self::OtherMesh => "other-mesh",
            Self::UnknownOrg(_) => "unknown-org",
            Self::BadSignature => "bad-signature",
            Self::UnknownSigner => "unknown-signer",
            Self::WrongRole => "wrong-role",
            Self::TooFewSigners { .. } => "too-few-signers",
            Self::Stale => "stale",
            Self::BelowFloor => "below-floor",
            Self::Equivocation => "equivocation",
            Self::Future => "future",
            Self::Expired => "expired",
            Self::OutsidePrefix => "outside-prefix",
            Self::AddressTaken { .. } => "address-taken",
            Self::KeyTaken { .. } => "key-taken",
            Self::NameTaken { .. } => "name-taken",
            Self::OtherOrg { .. } => "other-org",
            Self::Revoked => "revoked",
            Self::Shut(_) => "shut",
            Self::TooMany(_) => "too-many",
        }
    }

    /// Whether no honest node would pass such a record on: whatever else it lacks, it verifies first.
    pub const fn is_forgery(&self) -> bool {
        matches!(self, Self::BadSignature | Self::TooLarge { .. })
    }

    /// Whether another record of the same set can change the answer.
    pub const fn may_pass_later(&self) -> bool {
        matches!(
            self,
            Self::MissingParent(_)
                | Self::UnknownSigner
                | Self::WrongRole
                | Self::AddressTaken { .. }
                | Self::KeyTaken { .. }
                | Self::NameTaken { .. }
        )
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { len, max: _ } => Self::TooLarge { len },
            DecodeError::Shape
            | DecodeError::ForbiddenType { .. }
            | DecodeError::Malformed(_)
            | DecodeError::Trailing
            | DecodeError::NotCanonical
            | DecodeError::Version { .. }
            | DecodeError::WrongKind { .. } => Self::Malformed(error.to_string()),
        }
    }
}
