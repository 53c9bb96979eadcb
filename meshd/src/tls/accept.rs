//! The server's side of a handshake: look at the ALPN first, then demand what that protocol demands.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meshd_wire::PublicKey;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::admission::Admission;
use super::provider::{TlsSetupError, provider};
use super::raw_key::{RawKey, parse_spki};
use super::registry_conn::RegistryConn;
use super::verify::ClientVerifier;
use super::{ALPN_ENROL, ALPN_REGISTRY, EXPORTER_LABEL};

/// Reports a handshake that did not end in a connection.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The peer closed, broke the protocol, or holds no admitted key.
    #[error("handshake failed")]
    Handshake(#[source] io::Error),
    /// It offers neither of the two protocols.
    #[error("client offers no protocol of this port")]
    Protocol,
    /// A member with as many registry connections as one may have.
    #[error("client has too many connections")]
    TooMany,
    /// It has no key after all.
    #[error("client has no key")]
    NoKey,
    /// The exporter failed.
    #[error("derive the exporter")]
    Exporter(#[source] rustls::Error),
}

/// What a handshake yields.
#[derive(Debug)]
pub enum Accepted {
    /// A client that wants to enrol, renew or leave.
    Enrol(EnrolConn),
    /// A member that uses the registry.
    Registry(RegistryConn),
}

/// A connection of the enrolment protocol.
#[derive(Debug)]
pub struct EnrolConn {
    /// The stream, without a frame read yet.
    pub stream: Box<TlsStream<TcpStream>>,
    /// Key that the client has proved.
    pub client: PublicKey,
    /// Exporter of this connection.
    pub exporter: Zeroizing<[u8; 32]>,
}

/// Settings of the server, one for each protocol.
#[derive(Debug, Clone)]
pub struct ServerTls {
    enrol: Arc<ServerConfig>,
    registry: Arc<ServerConfig>,
    admission: Admission,
    key: Arc<KeyInUse>,
}

/// The key that a server proves to whoever connects next.
#[derive(Debug)]
struct KeyInUse(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for KeyInUse {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

impl ServerTls {
    /// Makes settings for a server with this key, whose registry serves these clients.
    pub fn new(key: &RawKey, admission: Admission) -> Result<Self, TlsSetupError> {
        let key = Arc::new(KeyInUse(ArcSwap::new(key.certified())));
        Ok(Self {
            enrol: Arc::new(config(key.clone(), ALPN_ENROL, None)?),
            registry: Arc::new(config(key.clone(), ALPN_REGISTRY, Some(admission.clone()))?),
            admission,
            key,
        })
    }

    /// Proves another key from the next connection on; those that are open go on.
    pub fn replace_key(&self, key: &RawKey) {
        self.key.0.store(key.certified());
    }

    /// Shakes hands; the caller sets the deadline.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, AcceptError> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
            .await
            .map_err(AcceptError::Handshake)?;
        let offered = |wanted: &[u8]| {
            start.client_hello().alpn().is_some_and(|mut protocols| protocols.any(|one| one == wanted))
        };
        let enrol = offered(ALPN_ENROL);
        if !enrol && !offered(ALPN_REGISTRY) {
            return Err(AcceptError::Protocol);
        }
        let config = if enrol { &self.enrol } else { &self.registry };
        let stream = start.into_stream(config.clone()).await.map_err(AcceptError::Handshake)?;
        let session = stream.get_ref().1;
        let client = session
            .peer_certificates()
            .and_then(|keys| keys.first())
            .and_then(|key| parse_spki(key))
            .ok_or(AcceptError::NoKey)?;
        if !enrol {
            let seat = self.admission.seat(client).ok_or(AcceptError::TooMany)?;
            let connection = RegistryConn::new(stream, self.admission.clone(), client, seat);
            return Ok(Accepted::Registry(connection));
        }
        let exporter =
            session.export_keying_material([0; 32], EXPORTER_LABEL, None).map_err(AcceptError::Exporter)?;
        let exporter = Zeroizing::new(exporter);
        Ok(Accepted::Enrol(EnrolConn { stream: Box::new(stream), client, exporter }))
    }
}

pub(super) fn config(
    key: Arc<dyn ResolvesServerCert>,
    alpn: &[u8],
    admission: Option<Admission>,
) -> Result<ServerConfig, TlsSetupError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(admission)))
        .with_cert_resolver(key);
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}
