//! The roster as bytes: envelopes as received, marks, and a checksum over everything.
//!
//! ```text
//! magic ‖ [mesh, floor, marks, envelopes in an order that can be accepted] ‖ SHA-256 of all before
//! ```

use meshd_wire::{Kind, MeshId, Timestamp};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use super::accept::is_kind;
use super::high_water::HighWater;
use super::refusal::Refusal;
use super::timing::Timing;
use super::{Floor, Roster};

/// Begins every roster; the last byte is the version of the format.
const MAGIC: &[u8; 16] = b"meshd-roster\0\0\0\x01";
/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 32;
/// Largest roster that is read: what comes out when every table is full of the largest records that are
/// accepted, 16 KiB for each node, 3 KiB for each endpoint, 40 MiB for marks of endpoints and as much for the
/// chains of all organisations, with room.
const FILE_BYTES_MAX: usize = 640 * 1024 * 1024;

/// Reports bytes that are not a roster of this mesh.
#[derive(Debug, thiserror::Error)]
pub enum RosterFileError {
    /// More bytes than any roster has.
    #[error("it is too large: {len} bytes")]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// Not a roster, or one of a release that writes another format.
    #[error("it does not begin like a roster of this release")]
    Magic,
    /// Damaged or cut off.
    #[error("its checksum does not fit: it is damaged or cut off")]
    Checksum,
    /// The checksum fits, the content does not.
    #[error("its content is malformed")]
    Malformed(#[source] minicbor::decode::Error),
    /// Bytes follow the content.
    #[error("bytes follow its content")]
    Trailing,
    /// A roster of another mesh.
    #[error("it belongs to mesh {}", found.short())]
    OtherMesh {
        /// The mesh it belongs to.
        found: MeshId,
    },
    /// A record that does not verify any more.
    #[error("record {index} does not verify")]
    Record {
        /// Position of the record.
        index: usize,
        /// Why it was refused.
        #[source]
        refusal: Refusal,
    },
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Body {
    #[n(0)]
    mesh: MeshId,
    #[n(1)]
    floor: Floor,
    #[n(2)]
    marks: HighWater,
    #[n(3)]
    envelopes: Vec<ByteVec>,
}

impl Roster {
    /// Encodes everything that was accepted, and every mark.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = Body {
            mesh: self.mesh,
            floor: self.floor,
            marks: self.marks.clone(),
            envelopes: self.envelopes().map(|bytes| ByteVec::from(bytes.to_vec())).collect(),
        };
        let mut out = MAGIC.to_vec();
        match minicbor::encode(&body, &mut out) {
            Ok(()) => {}
            Err(error) => unreachable!("encoding into a Vec: {error}"),
        }
        let checksum = Sha256::digest(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// Decodes a roster and verifies every record in it again, then forgets what is long over.
    pub fn from_bytes(bytes: &[u8], mesh: MeshId, now: Timestamp) -> Result<Self, RosterFileError> {
        let body = open(bytes)?;
        if body.mesh != mesh {
            return Err(RosterFileError::OtherMesh { found: body.mesh });
        }
        let mut roster = Self::new(mesh, body.floor);
        roster.marks = body.marks;
        for envelope in body.envelopes.iter().filter(|bytes| is_kind(bytes, Kind::MeshGenesis)) {
            roster.pin(envelope);
        }
        for (index, envelope) in body.envelopes.iter().enumerate() {
            roster
                .accept_at(envelope, Timing::Restored)
                .map_err(|refusal| RosterFileError::Record { index, refusal })?;
        }
        roster.forget_expired(now);
        Ok(roster)
    }

    /// Everything that was accepted, each after what it builds on.
    fn envelopes(&self) -> impl Iterator<Item = &[u8]> {
        let orgs = || self.orgs.values();
        let revocations = orgs().filter_map(|org| org.revocations.as_ref()).map(|held| held.bytes.as_slice());
        let states = orgs().flat_map(|org| org.state_complete.iter().chain(&org.state));
        let nodes = || self.nodes.values();
        let certs = nodes().map(|node| node.cert.bytes.as_slice());
        let keys = nodes().filter_map(|node| node.keys.as_ref()).map(|held| held.bytes.as_slice());
        let paths = nodes().filter_map(|node| node.paths.as_ref()).map(|held| held.bytes.as_slice());
        let endpoints = nodes().flat_map(|node| node.endpoints.values()).map(|held| held.bytes.as_slice());
        self.authority()
            .chain(revocations)
            .chain(states.map(|held| held.bytes.as_slice()))
            .chain(certs)
            .chain(keys)
            .chain(paths)
            .chain(endpoints)
    }
}

/// Checks the frame of the bytes and decodes what is in it.
fn open(bytes: &[u8]) -> Result<Body, RosterFileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(RosterFileError::TooLarge { len: bytes.len() });
    }
    let framed = bytes.strip_prefix(MAGIC).ok_or(RosterFileError::Magic)?;
    let body_len = framed.len().checked_sub(CHECKSUM_LEN).ok_or(RosterFileError::Checksum)?;
    let (body, checksum) = framed.split_at(body_len);
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(body);
    if hash.finalize().as_slice() != checksum {
        return Err(RosterFileError::Checksum);
    }
    let mut decoder = minicbor::Decoder::new(body);
    let content = decoder.decode().map_err(RosterFileError::Malformed)?;
    if decoder.position() == body.len() { Ok(content) } else { Err(RosterFileError::Trailing) }
}
