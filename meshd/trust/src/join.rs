//! Admission: proofs made with a token's secret, and what a steward is asked for and must check first.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use meshd_wire::name::is_host_name;
use meshd_wire::record::{JoinRequest, NodeExternals, NodeKeys, NodeLeave};
use meshd_wire::token::TokenSecret;
use meshd_wire::{DecodeError, Envelope, MeshId, NodeId, PublicKey, Timestamp, TokenId};
use sha2::Sha256;

use crate::key::verify_signature;
use crate::roster::EXTERNALS_MAX;

/// How far ahead of the steward's clock a request may be dated.
pub const CLOCK_SKEW_S: u64 = 5 * 60;
/// Oldest request that is still answered: one that travels by file may take two days, as long as the
/// tunnel key inside stays valid by default.
pub const REQUEST_AGE_MAX_S: u64 = 48 * 3600;

const TOKEN_KEY_INFO: &[u8] = b"meshd-v1/token-key";

/// Key that the steward stores instead of the token's secret.
pub fn token_key(secret: &TokenSecret, mesh: &MeshId, token: &TokenId) -> [u8; 32] {
    let mut salt = [0; 40];
    salt[..32].copy_from_slice(&mesh.0);
    salt[32..].copy_from_slice(&token.0);
    let mut key = [0; 32];
    match Hkdf::<Sha256>::new(Some(&salt), &secret.0).expand(TOKEN_KEY_INFO, &mut key) {
        Ok(()) => key,
        Err(error) => unreachable!("one hash of output is always to be had: {error}"),
    }
}

/// Proof that the sender of a request holds the token, valid on one TLS connection only.
///
/// `request` is the envelope as sent; `exporter` comes from the connection, so a proof that was
/// overheard or relayed fits no other.
pub fn proof(key: &[u8; 32], request: &[u8], exporter: &[u8; 32]) -> [u8; 32] {
    keyed(key, request, exporter).finalize().into_bytes().into()
}

/// Whether a proof fits; takes the same time whichever byte differs.
pub fn proof_fits(key: &[u8; 32], request: &[u8], exporter: &[u8; 32], proof: &[u8; 32]) -> bool {
    keyed(key, request, exporter).verify_slice(proof).is_ok()
}

fn keyed(key: &[u8; 32], request: &[u8], exporter: &[u8; 32]) -> Hmac<Sha256> {
    let mut mac = match <Hmac<Sha256> as Mac>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(error) => unreachable!("HMAC takes keys of any length: {error}"),
    };
    // The exporter has a fixed length and stands last, so no two inputs give the same message.
    mac.update(request);
    mac.update(exporter);
    mac
}

/// A join request whose signatures and ids all fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRequest {
    /// What is asked for.
    pub request: JoinRequest,
    /// The node's tunnel keys.
    pub keys: NodeKeys,
    /// The node: key id of its identity key.
    pub node: NodeId,
    /// Envelope of the tunnel keys as received.
    pub keys_envelope: Vec<u8>,
}

/// Why a join request can't be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// The request can't be read.
    #[error("the request is malformed")]
    Malformed(#[source] DecodeError),
    /// The tunnel keys inside can't be read.
    #[error("the tunnel keys inside the request are malformed")]
    MalformedKeys(#[source] DecodeError),
    /// It asks for another mesh.
    #[error("the request is for another mesh")]
    OtherMesh(MeshId),
    /// Not signed by exactly the identity and the transport key.
    #[error("the request is not signed by its identity and its transport key")]
    Signature,
    /// One key for two purposes.
    #[error("the request uses one key for two purposes")]
    SharedKey,
    /// The tunnel keys are not signed by exactly the identity key.
    #[error("the tunnel keys are not signed by the identity key")]
    KeysSignature,
    /// The tunnel keys belong to another node.
    #[error("the tunnel keys belong to another node")]
    OtherNode,
    /// A name that is no host name.
    #[error("the name is not 1 to 63 characters of a-z, 0-9 and hyphen")]
    Name,
    /// Dated ahead of the steward's clock.
    #[error("the request is dated {ahead_s} s ahead of this clock")]
    Future {
        /// Seconds ahead.
        ahead_s: u64,
    },
    /// Too old.
    #[error("the request is {age_s} s old")]
    Old {
        /// Its age in seconds.
        age_s: u64,
    },
}

/// Verifies a request: both keys signed it, and the identity key signed the tunnel keys inside.
pub fn verify_request(
    envelope: &[u8],
    mesh: &MeshId,
    now: Timestamp,
) -> Result<VerifiedRequest, RequestRefusal> {
    let envelope = Envelope::from_bytes(envelope).map_err(RequestRefusal::Malformed)?;
    // The keys stand in the payload itself, so it has to be decoded before its signatures are verified.
    let request: JoinRequest = envelope.record().map_err(RequestRefusal::Malformed)?;
    if request.mesh != *mesh {
        return Err(RequestRefusal::OtherMesh(request.mesh));
    }
    if request.identity == request.transport {
        return Err(RequestRefusal::SharedKey);
    }
    if !is_signed_by_exactly(&envelope, mesh, &[&request.identity, &request.transport]) {
        return Err(RequestRefusal::Signature);
    }
    let keys_envelope = Envelope::from_bytes(&request.keys).map_err(RequestRefusal::MalformedKeys)?;
    let keys: NodeKeys = keys_envelope.record().map_err(RequestRefusal::MalformedKeys)?;
    if !is_signed_by_exactly(&keys_envelope, mesh, &[&request.identity]) {
        return Err(RequestRefusal::KeysSignature);
    }
    let node = NodeId::from(request.identity.key_id());
    if keys.node != node {
        return Err(RequestRefusal::OtherNode);
    }
    if !is_host_name(&request.name) {
        return Err(RequestRefusal::Name);
    }
    for issued_at in [request.issued_at, keys.issued_at] {
        check_age(issued_at, now)?;
    }
    let keys_envelope = request.keys.clone();
    Ok(VerifiedRequest { request, keys, node, keys_envelope })
}

fn check_age(issued_at: Timestamp, now: Timestamp) -> Result<(), RequestRefusal> {
    let (ahead_s, age_s) = (issued_at.since(now), now.since(issued_at));
    if ahead_s > CLOCK_SKEW_S {
        Err(RequestRefusal::Future { ahead_s })
    } else if age_s > REQUEST_AGE_MAX_S {
        Err(RequestRefusal::Old { age_s })
    } else {
        Ok(())
    }
}

/// Why a farewell is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveRefusal {
    /// It can't be read.
    #[error("the farewell is malformed")]
    Malformed(#[source] DecodeError),
    /// The node it names is not known.
    #[error("the farewell names an unknown node")]
    UnknownNode(NodeId),
    /// Not signed by exactly the identity of the node it names.
    #[error("the farewell is not signed by the node it names")]
    Signature,
}

/// Verifies a farewell: the identity key of the very node it names signed it for this mesh.
///
/// `identity_of` gives the certified identity key of a node.
pub fn verify_leave(
    envelope: &[u8],
    mesh: &MeshId,
    identity_of: impl FnOnce(&NodeId) -> Option<PublicKey>,
) -> Result<NodeLeave, LeaveRefusal> {
    let envelope = Envelope::from_bytes(envelope).map_err(LeaveRefusal::Malformed)?;
    let leave: NodeLeave = envelope.record().map_err(LeaveRefusal::Malformed)?;
    let identity = identity_of(&leave.node).ok_or(LeaveRefusal::UnknownNode(leave.node))?;
    if is_signed_by_exactly(&envelope, mesh, &[&identity]) { Ok(leave) } else { Err(LeaveRefusal::Signature) }
}

/// Why the externals of a node are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalsRefusal {
    /// They can't be read.
    #[error("the externals are malformed")]
    Malformed(#[source] DecodeError),
    /// The node is not known.
    #[error("the externals are of an unknown node")]
    UnknownNode(NodeId),
    /// Not signed by exactly the identity of the node.
    #[error("the externals are not signed by their node")]
    Signature,
    /// Too many, unsorted, repeated, or no host names.
    #[error("the names are not up to {EXTERNALS_MAX} host names, sorted and distinct")]
    Names,
    /// Said at another time than now.
    #[error("the externals are {by_s} s away from this clock")]
    Clock {
        /// Seconds of difference, in either direction.
        by_s: u64,
    },
}

/// Verifies what a node says about its externals: its identity key signed it for this mesh, just now.
///
/// `identity_of` gives the certified identity key of a node.
pub fn verify_externals(
    envelope: &[u8],
    mesh: &MeshId,
    now: Timestamp,
    identity_of: impl FnOnce(&NodeId) -> Option<PublicKey>,
) -> Result<NodeExternals, ExternalsRefusal> {
    let envelope = Envelope::from_bytes(envelope).map_err(ExternalsRefusal::Malformed)?;
    let externals: NodeExternals = envelope.record().map_err(ExternalsRefusal::Malformed)?;
    let identity = identity_of(&externals.node).ok_or(ExternalsRefusal::UnknownNode(externals.node))?;
    if !is_signed_by_exactly(&envelope, mesh, &[&identity]) {
        return Err(ExternalsRefusal::Signature);
    }
    let names = &externals.names;
    let are_distinct = names.is_sorted_by(|a, b| a < b);
    if names.len() > EXTERNALS_MAX || !are_distinct || !names.iter().all(|name| is_host_name(name)) {
        return Err(ExternalsRefusal::Names);
    }
    let by_s = externals.issued_at.since(now).max(now.since(externals.issued_at));
    if by_s > CLOCK_SKEW_S { Err(ExternalsRefusal::Clock { by_s }) } else { Ok(externals) }
}

/// One signature more than needed refuses the record too (rule R5).
fn is_signed_by_exactly(envelope: &Envelope, mesh: &MeshId, keys: &[&PublicKey]) -> bool {
    envelope.signatures().len() == keys.len() && keys.iter().all(|key| verify_signature(envelope, mesh, key))
}

#[cfg(test)]
mod tests;
