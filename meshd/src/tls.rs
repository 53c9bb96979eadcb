//! TLS of meshd: version 1.3 only, raw public keys (RFC 7250) on both sides, X25519MLKEM768 only.
//!
//! A peer is its Ed25519 key; names, certificates and authorities play no part. There is no resumption,
//! no session ticket and no early data, so every connection proves both keys anew. One TCP port serves
//! two protocols, told apart by ALPN: [`ALPN_ENROL`] to any key, [`ALPN_REGISTRY`] only to the keys in
//! the [`Admission`] set. [`ALPN_CHANNEL`] is spoken over QUIC by members alone.

mod accept;
mod admission;
mod connect;
mod provider;
mod quic;
mod raw_key;
mod registry_conn;
#[cfg(test)]
mod tests;
mod verify;

pub use accept::{AcceptError, Accepted, EnrolConn, ServerTls};
pub use admission::Admission;
pub use connect::{ConnectError, Connection, ServerKey, connect};
pub use provider::TlsSetupError;
pub use quic::{quic_client, quic_peer, quic_server};
pub use raw_key::RawKey;
pub use registry_conn::RegistryConn;

/// Protocol of enrolment frames.
pub const ALPN_ENROL: &[u8] = b"meshd-enrol/1";
/// Protocol of the registry: gRPC over HTTP/2.
pub const ALPN_REGISTRY: &[u8] = b"h2";
/// Protocol of control channels, over QUIC on the tunnel's port.
pub const ALPN_CHANNEL: &[u8] = b"meshd-channel/1";
/// Label of the exporter (RFC 5705) that binds an enrolment to its channel.
pub const EXPORTER_LABEL: &[u8] = b"meshd enrol v1";
