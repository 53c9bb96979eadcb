//! The same keys and rules over QUIC (RFC 9001).

use std::sync::Arc;

use meshd_wire::PublicKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::Error;
use rustls::pki_types::CertificateDer;
use rustls::server::AlwaysResolvesServerRawPublicKeys;

use super::admission::Admission;
use super::connect::ServerKey;
use super::provider::TlsSetupError;
use super::raw_key::{RawKey, parse_spki};
use super::{ALPN_CHANNEL, accept, connect};

/// Settings for those who call: keys of members, and no other.
pub fn quic_server(key: &RawKey, members: Admission) -> Result<quinn::ServerConfig, TlsSetupError> {
    let key = Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.certified()));
    let config = accept::config(key, ALPN_CHANNEL, Some(members))?;
    let config = QuicServerConfig::try_from(config).map_err(no_initial_suite)?;
    Ok(quinn::ServerConfig::with_crypto(Arc::new(config)))
}

/// Settings for calling the holder of one key.
pub fn quic_client(key: &RawKey, server: PublicKey) -> Result<quinn::ClientConfig, TlsSetupError> {
    let config = connect::config(key, ServerKey::OneOf(vec![server]), ALPN_CHANNEL)?;
    let config = QuicClientConfig::try_from(config).map_err(no_initial_suite)?;
    Ok(quinn::ClientConfig::new(Arc::new(config)))
}

/// The key that the other end of a connection has proved.
pub fn quic_peer(connection: &quinn::Connection) -> Option<PublicKey> {
    let keys = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    parse_spki(keys.first()?)
}

/// QUIC protects its first packets with AES-128-GCM, whatever follows.
fn no_initial_suite(_: quinn::crypto::rustls::NoInitialCipherSuite) -> Error {
    Error::General("no cipher suite for the first packets of QUIC".into())
}
