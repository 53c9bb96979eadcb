//! The payloads of signed records, one kind a file. A released version is frozen.

mod delegation;
mod endpoint;
mod genesis;
mod join_request;
mod node_cert;
mod node_externals;
mod node_keys;
mod node_leave;
mod node_paths;
mod org_root;
mod org_state;
mod revocations;

pub use delegation::{Roles, StewardDelegation};
pub use endpoint::Endpoint;
pub use genesis::{AgreementBody, Member, MeshGenesis};
pub use join_request::JoinRequest;
pub use node_cert::{Label, NodeCert, Prefix};
pub use node_externals::NodeExternals;
pub use node_keys::{EpochKey, NodeKeys};
pub use node_leave::NodeLeave;
pub use node_paths::{Candidate, CandidateKind, NodePaths};
pub use org_root::OrgRoot;
pub use org_state::{OrgState, Versioned};
pub use revocations::Revocations;

use crate::cbor::{self, DecodeError};
use crate::kind::Kind;
use crate::limits::RECORD_BYTES_MAX;

/// Version byte of every record of this release.
pub const VERSION: u8 = 1;

/// A payload with its kind: encodes to and decodes from deterministic CBOR.
pub trait Record: Sized + minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> {
    /// Kind of the envelope that carries it.
    const KIND: Kind;

    /// Version in the first element.
    fn version(&self) -> u8;

    /// Encodes the payload.
    fn encode_payload(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Decodes a payload: limits first, all bytes consumed, and encoding again gives the same bytes.
    fn decode_payload(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::TooLarge { len: bytes.len(), max: RECORD_BYTES_MAX });
        }
        let record: Self = cbor::decode(bytes)?;
        if record.version() == VERSION {
            Ok(record)
        } else {
            Err(DecodeError::Version { kind: Self::KIND, version: record.version() })
        }
    }
}
