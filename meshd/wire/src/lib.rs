//! The bytes of meshd: identifiers, the signed envelope, records, frames of enrolment and of control channels, join
//! tokens and leaves of audit logs.
//!
//! Everything here is pure: bytes in, values out. Verification of signatures lives in `meshd-trust`.

pub mod bundle;
pub mod cbor;
pub mod channel;
pub mod enrol;
pub mod envelope;
mod frame;
pub mod id;
pub mod kind;
pub mod leaf;
pub mod limits;
pub mod name;
pub mod record;
pub mod time;
pub mod token;

pub use bundle::PeerBundle;
pub use cbor::DecodeError;
pub use channel::{ChannelFrame, HaveEntry, PlacedRecord};
pub use envelope::{Envelope, Signature};
pub use id::{
    EndpointId, ImageDigest, KeyId, MeshId, NodeId, OrgId, PublicKey, ReceiptsDigest, RecordDigest, RecordId,
    Subject, TokenId,
};
pub use kind::Kind;
pub use leaf::{Leaf, LeafError, LeafKind, Receipts};
pub use record::Record;
pub use time::Timestamp;
pub use token::JoinToken;
