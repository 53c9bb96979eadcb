//! Leaves of an organisation's audit log: who did what to whom, and which record says so.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::cbor::{self, DecodeError};
use crate::id::{KeyId, NodeId, OrgId, ReceiptsDigest, RecordId, Subject, TokenId};
use crate::limits::LEAF_BYTES_MAX;
use crate::time::Timestamp;

/// Version of the leaves that this release writes.
pub const LEAF_VERSION: u8 = 1;

/// What happened. Numbers are for ever: a retired one is never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum LeafKind {
    /// A node got its first certificate.
    Enrol = 1,
    /// A node got a new certificate.
    Renew = 2,
    /// A node named the tunnel key that it will use next.
    RotateAnnounce = 3,
    /// A node began to use a tunnel key.
    RotateActivate = 4,
    /// A node erased a tunnel key.
    KeyDestroy = 5,
    /// A node said that a tunnel key was stolen.
    KeyCompromised = 6,
    /// A node or certificate was revoked.
    Revoke = 7,
    /// A node cut off what was revoked.
    RevokeEffect = 8,
    /// An organisation cut off another.
    Sever = 9,
    /// An organisation changed its policy.
    Policy = 10,
    /// An organisation entered an agreement, or founded the mesh.
    AgreementJoin = 11,
    /// An organisation left an agreement.
    AgreementLeave = 12,
    /// The root named a steward.
    StewardDelegate = 13,
    /// A steward's time was over.
    StewardRetire = 14,
    /// The root has other keys, or its first ones.
    RootRotate = 15,
    /// A steward gave out a join token.
    TokenIssue = 16,
    /// A join token was used.
    TokenUse = 17,
    /// A node found itself set back to an older state.
    StateRollback = 18,
    /// An operator lowered the floor of a node's clock.
    ClockReset = 19,
    /// The root used its right to break the glass.
    BreakGlass = 20,
    /// A node no longer demands post-quantum keys.
    ConfigPqDowngrade = 21,
}

impl LeafKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Enrol,
        Self::Renew,
        Self::RotateAnnounce,
        Self::RotateActivate,
        Self::KeyDestroy,
        Self::KeyCompromised,
        Self::Revoke,
        Self::RevokeEffect,
        Self::Sever,
        Self::Policy,
        Self::AgreementJoin,
        Self::AgreementLeave,
        Self::StewardDelegate,
        Self::StewardRetire,
        Self::RootRotate,
        Self::TokenIssue,
        Self::TokenUse,
        Self::StateRollback,
        Self::ClockReset,
        Self::BreakGlass,
        Self::ConfigPqDowngrade,
    ];

    /// Number in a leaf.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Kind of a number, if this version knows it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Renew => "renew",
            Self::RotateAnnounce => "rotate-announce",
            Self::RotateActivate => "rotate-activate",
            Self::KeyDestroy => "key-destroy",
            Self::KeyCompromised => "key-compromised",
            Self::Revoke => "revoke",
            Self::RevokeEffect => "revoke-effect",
            Self::Sever => "sever",
            Self::Policy => "policy",
            Self::AgreementJoin => "agreement-join",
            Self::AgreementLeave => "agreement-leave",
            Self::StewardDelegate => "steward-delegate",
            Self::StewardRetire => "steward-retire",
            Self::RootRotate => "root-rotate",
            Self::TokenIssue => "token-issue",
            Self::TokenUse => "token-use",
            Self::StateRollback => "state-rollback",
            Self::ClockReset => "clock-reset",
            Self::BreakGlass => "break-glass",
            Self::ConfigPqDowngrade => "config-pq-downgrade",
        }
    }
}

impl From<NodeId> for Subject {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}

impl From<OrgId> for Subject {
    fn from(org: OrgId) -> Self {
        Self(org.0)
    }
}

impl From<TokenId> for Subject {
    /// Its id is shorter than those of others.
    fn from(token: TokenId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"meshd-v1/token\0");
        hash.update(token.0);
        Self(hash.finalize().into())
    }
}

/// How many peers confirmed a rotation, and a digest of their receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Receipts {
    /// Number of receipts.
    #[n(0)]
    pub count: u32,
    /// SHA-256 of their record ids, sorted, one behind the other.
    #[n(1)]
    pub digest: ReceiptsDigest,
}

/// A leaf of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Leaf {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// When the steward took it in, by the steward's clock.
    #[n(1)]
    pub time: Timestamp,
    /// Number of what happened; a newer release may know more of them.
    #[n(2)]
    pub kind: u16,
    /// Organisation whose log this is.
    #[n(3)]
    pub org: OrgId,
    /// Whom it is about.
    #[n(4)]
    pub subject: Subject,
    /// Epoch of the tunnel key it is about.
    #[n(5)]
    pub epoch: Option<u32>,
    /// Record that says so.
    #[n(6)]
    pub record: Option<RecordId>,
    /// Key that signed the record, or did it.
    #[n(7)]
    pub actor: KeyId,
    /// Index of the subject's leaf before this one.
    #[n(8)]
    pub prev: Option<u64>,
    /// Receipts that were held when a key came into use.
    #[n(9)]
    pub receipts: Option<Receipts>,
}

/// Reports bytes that are no leaf of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// No leaf of any version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A leaf of a version that this release does not know; it counts in the tree and says nothing else.
    #[error("unknown version {0} of a leaf")]
    Version(u8),
}

impl Leaf {
    /// A leaf about somebody, with nothing optional.
    pub fn new(time: Timestamp, kind: LeafKind, org: OrgId, subject: Subject, actor: KeyId) -> Self {
        let (epoch, record, prev, receipts) = (None, None, None, None);
        let kind = kind.number();
        Self { version: LEAF_VERSION, time, kind, org, subject, epoch, record, actor, prev, receipts }
    }

    /// What happened, if this version knows it.
    pub fn known_kind(&self) -> Option<LeafKind> {
        LeafKind::from_number(self.kind)
    }

    /// Encodes it: these bytes are what the tree has the hash of.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Decodes it: size, shape, version, then fields; one encoding only.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(DecodeError::TooLarge { len: bytes.len(), max: LEAF_BYTES_MAX }.into());
        }
        match cbor::version(bytes)? {
            LEAF_VERSION => Ok(cbor::decode(bytes)?),
            other => Err(LeafError::Version(other)),
        }
    }
}
