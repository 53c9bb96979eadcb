//! Frames of the control channel between two nodes (docs/channel.md): what each holds, what it lacks, and records.
//!
//! A place is the key of a record in a registry without the prefix of its mesh, such as `p/<node>`.

use minicbor::{Decode, Encode};

use crate::frame::frame;
use crate::id::RecordDigest;

/// What one node tells another. Each kind comes in any number and in any order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum ChannelFrame {
    /// What the sender holds.
    #[n(0)]
    Have {
        /// Some of its places.
        #[n(0)]
        entries: Vec<HaveEntry>,
    },
    /// What the sender wants to have.
    #[n(1)]
    Want {
        /// The places.
        #[n(0)]
        places: Vec<String>,
    },
    /// Values, asked for or new.
    #[n(2)]
    Records {
        /// The values and their places.
        #[n(0)]
        records: Vec<PlacedRecord>,
    },
}

/// One place and what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct HaveEntry {
    /// The place.
    #[n(0)]
    pub place: String,
    /// Digest of the value there.
    #[n(1)]
    pub digest: RecordDigest,
}

/// A value as it stands in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PlacedRecord {
    /// Its place.
    #[n(0)]
    pub place: String,
    /// The value: an envelope or a bundle, to be verified like any other.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

frame!(ChannelFrame);
