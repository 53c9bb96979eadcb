//! Frames between a node and a steward: fetch the chain of trust, enrol, renew, claim, leave, hand over
//! records, log, see how the log grew; and between two stewards: cosign, copy the log.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::frame::frame;
use crate::id::{MeshId, PublicKey, TokenId};
use crate::time::Timestamp;

/// What a node asks of a steward. One request, one reply, several times on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum EnrolRequest {
    /// Asks for every record that proves the mesh: roots, genesis, delegations, states, revocations.
    #[n(0)]
    Chain {
        /// The mesh meant.
        #[n(0)]
        mesh: MeshId,
    },
    /// Asks for admission with a token.
    #[n(1)]
    Enrol {
        /// Token used.
        #[n(0)]
        token: TokenId,
        /// Envelope of a JoinRequest.
        #[cbor(n(1), with = "minicbor::bytes")]
        request: Vec<u8>,
        /// HMAC-SHA256 under the token's key over request and TLS exporter.
        #[cbor(n(2), with = "minicbor::bytes")]
        mac: [u8; 32],
    },
    /// Asks for a new certificate; the request is signed by the certified identity and transport keys.
    #[n(2)]
    Renew {
        /// Envelope of a JoinRequest.
        #[cbor(n(0), with = "minicbor::bytes")]
        request: Vec<u8>,
    },
    /// Says farewell.
    #[n(3)]
    Leave {
        /// Envelope of a NodeLeave.
        #[cbor(n(0), with = "minicbor::bytes")]
        leave: Vec<u8>,
    },
    /// Hands over records, so that this node's registry knows who may use it.
    #[n(4)]
    Introduce {
        /// Envelopes.
        #[n(0)]
        records: Vec<ByteVec>,
    },
    /// Asks for the addresses of the plain WireGuard peers that the node serves.
    #[n(5)]
    Claim {
        /// Envelope of a NodeExternals.
        #[cbor(n(0), with = "minicbor::bytes")]
        claim: Vec<u8>,
    },
    /// Asks for a leaf about the node's own key in the audit log.
    #[n(6)]
    Log {
        /// What it shall say.
        #[n(0)]
        statement: KeyStatement,
    },
    /// Asks the steward of another organisation to cosign a checkpoint.
    #[n(7)]
    Cosign {
        /// What a witness is asked (docs/audit.md).
        #[cbor(n(0), with = "minicbor::bytes")]
        request: Vec<u8>,
    },
    /// Asks how the steward's audit log grew.
    #[n(8)]
    Growth {
        /// Leaves of the smaller tree.
        #[n(0)]
        old: u64,
        /// Leaves of the larger one.
        #[n(1)]
        new: u64,
    },
    /// Asks for a part of the steward's audit log, to keep a copy of it.
    #[n(9)]
    Copy {
        /// Index of the first leaf.
        #[n(0)]
        from: u64,
    },
}

/// What a node wants the audit log to say of its key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct KeyStatement {
    /// Number of what happened (see [`crate::LeafKind`]).
    #[n(0)]
    pub kind: u16,
    /// Epoch of the key.
    #[n(1)]
    pub epoch: u32,
    /// Envelope of the NodeKeys that say so.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub record: Vec<u8>,
}

/// A leaf of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LoggedLeaf {
    /// Its bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub leaf: Vec<u8>,
    /// Envelope of the record that it names.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub record: Vec<u8>,
    /// Proof that the log has it (docs/audit.md).
    #[cbor(n(2), with = "minicbor::bytes")]
    pub proof: Vec<u8>,
}

/// A leaf of the audit log as a copy has it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CopiedRow {
    /// Its bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub leaf: Vec<u8>,
    /// Envelope of the record that it names; empty if it names none.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub record: Vec<u8>,
}

/// Where a registry is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RegistryHint {
    /// `meshd://host:port` of an embedded one, `http://…` or `https://…` of an etcd.
    #[n(0)]
    pub url: String,
    /// Raw public key of an embedded one.
    #[n(1)]
    pub tls_key: Option<PublicKey>,
}

/// The addresses of a plain WireGuard peer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ExternalAddress {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Overlay IPv4 address.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub addr4: [u8; 4],
    /// Overlay IPv6 address.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub addr6: [u8; 16],
}

/// Why a steward refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Refused {
    /// The request can't be read or its signatures do not verify.
    #[n(0)]
    Malformed,
    /// Another mesh, or an organisation this steward does not serve.
    #[n(1)]
    WrongMesh,
    /// No such token, or its proof does not fit.
    #[n(2)]
    TokenUnknown,
    /// The token was used before.
    #[n(3)]
    TokenUsed,
    /// The token's time is over.
    #[n(4)]
    TokenExpired,
    /// The clocks differ too much.
    #[n(5)]
    Clock,
    /// The name is taken by another node.
    #[n(6)]
    NameTaken,
    /// No address is left in the organisation's prefix.
    #[n(7)]
    NoAddress,
    /// The node is revoked or unknown.
    #[n(8)]
    NotMember,
    /// The steward can't do it now (disk full, clock suspect).
    #[n(9)]
    Unavailable,
}

/// What the steward answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum EnrolReply {
    /// The records asked for.
    #[n(0)]
    Chain {
        /// The steward's clock.
        #[n(0)]
        now: Timestamp,
        /// Envelopes, roots first.
        #[n(1)]
        records: Vec<ByteVec>,
    },
    /// Admitted, or renewed.
    #[n(1)]
    Admitted {
        /// Envelope of the NodeCert.
        #[cbor(n(0), with = "minicbor::bytes")]
        cert: Vec<u8>,
        /// Envelopes of the chain, newest OrgState included.
        #[n(1)]
        records: Vec<ByteVec>,
        /// Where the mesh's registries are.
        #[n(2)]
        registries: Vec<RegistryHint>,
        /// `host:port` of stewards, to renew at.
        #[n(3)]
        stewards: Vec<String>,
    },
    /// Refused.
    #[n(2)]
    Refused {
        /// Why.
        #[n(0)]
        why: Refused,
    },
    /// Done, nothing to hand back.
    #[n(3)]
    Done,
    /// The externals of the node have addresses.
    #[n(4)]
    Claimed {
        /// Envelope of the NodeCert that holds the addresses.
        #[cbor(n(0), with = "minicbor::bytes")]
        cert: Vec<u8>,
        /// Each name asked for, in that order.
        #[n(1)]
        externals: Vec<ExternalAddress>,
    },
    /// The audit log has the leaf.
    #[n(5)]
    Logged {
        /// The leaf and its proof.
        #[n(0)]
        leaf: LoggedLeaf,
    },
    /// The witness has cosigned.
    #[n(6)]
    Cosigned {
        /// Its signature line, without a newline.
        #[cbor(n(0), with = "minicbor::bytes")]
        signature: Vec<u8>,
    },
    /// The witness has cosigned another tree than the request goes on from.
    #[n(7)]
    Witnessed {
        /// The checkpoint that it cosigned last; empty if none of this log.
        #[cbor(n(0), with = "minicbor::bytes")]
        checkpoint: Vec<u8>,
    },
    /// The log grew so.
    #[n(8)]
    Grown {
        /// Its checkpoint of the smaller tree (docs/audit.md).
        #[cbor(n(0), with = "minicbor::bytes")]
        old: Vec<u8>,
        /// That of the larger one behind the proof, as a witness is shown it.
        #[cbor(n(1), with = "minicbor::bytes")]
        new: Vec<u8>,
    },
    /// A part of the log.
    #[n(9)]
    Copied {
        /// Leaves from the one asked for on, none if there are no more; never those of two tiles.
        #[n(0)]
        rows: Vec<CopiedRow>,
        /// Checkpoint of the tree that ends with them.
        #[cbor(n(1), with = "minicbor::bytes")]
        checkpoint: Vec<u8>,
        /// Cosigned checkpoints of the trees that end with one of them, and of the last trees before.
        #[n(2)]
        cosigned: Vec<ByteVec>,
    },
}

frame!(EnrolRequest, EnrolReply);
