//! The client's side of a handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshd_wire::PublicKey;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::provider::{TlsSetupError, provider};
use super::raw_key::{RawKey, parse_spki};
use super::verify::ServerVerifier;

/// Longest time for the TCP connection and the handshake together: one lost SYN, two slow round trips.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Which server key is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerKey {
    /// One of these.
    OneOf(Vec<PublicKey>),
    /// Any: the caller verifies the key before it sends anything secret.
    Unverified,
}

/// Reports a server that could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No network path, or nothing there.
    #[error("{at} is not reachable")]
    Unreachable {
        /// Address tried.
        at: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host is there, but nothing listens, or the listener closes at once.
    #[error("{at} refuses the connection")]
    Refused {
        /// Address tried.
        at: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer within the deadline.
    #[error("{at} does not answer within {} s", CONNECT_DEADLINE.as_secs())]
    TimedOut {
        /// Address tried.
        at: SocketAddr,
    },
    /// Another server answers.
    #[error("{at} is another server: its key is not the expected one")]
    OtherKey {
        /// Address tried.
        at: SocketAddr,
    },
    /// What answers does not speak this protocol.
    #[error("{at} does not speak the protocol of meshd")]
    Protocol {
        /// Address tried.
        at: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The own key or settings can't be used.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
}

/// A TLS connection and the key its server has proved.
#[derive(Debug)]
pub struct Connection {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// Key of the server.
    pub server: PublicKey,
}

/// Connects to a server with the own key and one ALPN protocol.
pub async fn connect(
    at: SocketAddr,
    key: &RawKey,
    server: ServerKey,
    alpn: &[u8],
) -> Result<Connection, ConnectError> {
    let config = config(key, server, alpn)?;
    timeout(CONNECT_DEADLINE, shake_hands(at, config, alpn))
        .await
        .unwrap_or(Err(ConnectError::TimedOut { at }))
}

async fn shake_hands(at: SocketAddr, config: ClientConfig, alpn: &[u8]) -> Result<Connection, ConnectError> {
    let stream = TcpStream::connect(at).await.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { at, source },
        _ => ConnectError::Unreachable { at, source },
    })?;
    stream.set_nodelay(true).map_err(|source| ConnectError::Unreachable { at, source })?;
    // An address gives no server name indication; only the key counts.
    let name = ServerName::IpAddress(at.ip().into());
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|source| handshake_error(at, source))?;
    let session = stream.get_ref().1;
    let protocol_error =
        |what: &str| ConnectError::Protocol { at, source: io::Error::other(what.to_owned()) };
    if session.alpn_protocol() != Some(alpn) {
        return Err(protocol_error("another ALPN protocol"));
    }
    let server = session
        .peer_certificates()
        .and_then(|keys| keys.first())
        .and_then(|key| parse_spki(key))
        .ok_or_else(|| protocol_error("no raw public key"))?;
    Ok(Connection { stream, server })
}

fn handshake_error(at: SocketAddr, source: io::Error) -> ConnectError {
    let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            ConnectError::OtherKey { at }
        }
        Some(_) => ConnectError::Protocol { at, source },
        None => ConnectError::Refused { at, source },
    }
}

pub(super) fn config(key: &RawKey, server: ServerKey, alpn: &[u8]) -> Result<ClientConfig, TlsSetupError> {
    let expected = match server {
        ServerKey::OneOf(keys) => Some(keys),
        ServerKey::Unverified => None,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(expected)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.certified())));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(config)
}
