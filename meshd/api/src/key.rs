//! Tunnel keys of the nodes, and their rotation.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::words;

/// Asks for the tunnel keys in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetKeys {}

impl Call for GetKeys {
    type Reply = Keys;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/keys";
}

/// Replaces this node's tunnel key before its time, without a packet lost. Answered when it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyRequest {}

impl Call for RotateKeyRequest {
    type Reply = Keys;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/keys/rotate";
}

/// Drops this node's tunnel keys at once, because somebody else may know them, and makes another. Connections are
/// interrupted until peers have heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompromisedKeyRequest {}

impl Call for CompromisedKeyRequest {
    type Reply = Keys;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/keys/compromised";
}

/// The tunnel keys of the mesh as this node knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// How far the rotation of this node's own key is.
    pub rotation: RotationState,
    /// Time from one own key to the next in seconds; each is up to a tenth shorter.
    pub period_s: u64,
    /// Those of this node first, then by organisation and name.
    pub keys: Vec<Key>,
}

impl Body for Keys {
    const SCHEMA: &'static str = "meshd.keys/1";
}

/// A tunnel key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Name of the node.
    pub node: String,
    /// Name of its organisation.
    pub org: String,
    /// Number of the key.
    pub epoch: u32,
    /// What it is to the node.
    pub role: KeyRole,
    /// Since when it is that, in seconds since 1970.
    pub since: u64,
    /// X25519 public key in Base64.
    pub public_key: String,
}

words! {
    /// What a tunnel key is to its node.
    KeyRole otherwise Other {
        /// It is in use.
        Current = "current",
        /// It is announced.
        Next = "next",
        /// It was used before and is still accepted.
        Previous = "previous",
        /// Something that this release does not know.
        Other = "other",
    }
}

words! {
    /// How far a rotation is.
    RotationState otherwise Other {
        /// One key is accepted and used.
        Steady = "steady",
        /// The next key is being stored.
        Prepared = "prepared",
        /// The next key is announced.
        Announced = "announced",
        /// Peers are called with the next key.
        Proving = "proving",
        /// The next key is in use, the one before still accepted.
        Committed = "committed",
        /// The key before is gone from memory, and about to be gone from disk.
        Retired = "retired",
        /// The announced key will not be used.
        Aborted = "aborted",
        /// The key was replaced at once.
        Compromised = "compromised",
        /// Something that this release does not know.
        Other = "other",
    }
}
