use std::collections::BTreeSet;
use std::sync::Arc;

use meshd_registry::server::ClientKey;
use rustls::ClientConfig;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::transport::server::Connected;

use super::verify::ServerVerifier;
use super::*;

#[tokio::test]
async fn both_ends_learn_the_others_key_and_derive_the_same_secret() {
    let server = Server::start(&[]).await;
    let connection =
        server.connect(1, ServerKey::OneOf(vec![key(0).public()]), ALPN_ENROL).await.expect("connects");
    assert_eq!(connection.server, key(0).public());
    let session = connection.stream.get_ref().1;
    let exporter = session.export_keying_material([0; 32], EXPORTER_LABEL, None).expect("exporter");
    let Ok(Accepted::Enrol(accepted)) = server.accepted().await else { panic!("not accepted") };
    assert_eq!(accepted.client, key(1).public());
    assert_eq!(*accepted.exporter, exporter);
}

#[tokio::test]
async fn exporters_of_two_connections_differ() {
    let mut exporters = Vec::new();
    for _ in 0..2 {
        let server = Server::start(&[]).await;
        let connection = server.connect(1, ServerKey::Unverified, ALPN_ENROL).await.expect("connects");
        let session = connection.stream.get_ref().1;
        exporters.push(session.export_keying_material([0; 32], EXPORTER_LABEL, None).expect("exporter"));
    }
    assert_ne!(exporters[0], exporters[1]);
}

#[tokio::test]
async fn another_server_than_the_pinned_one_is_refused() {
    let server = Server::start(&[]).await;
    let refused = server.connect(1, ServerKey::OneOf(vec![key(9).public()]), ALPN_ENROL).await;
    assert!(matches!(refused, Err(ConnectError::OtherKey { .. })), "{refused:?}");
    assert!(server.accepted().await.is_err());
}

#[tokio::test]
async fn a_member_reaches_the_registry_and_is_known_by_its_key() {
    let server = Server::start(&[1]).await;
    let pinned = ServerKey::OneOf(vec![key(0).public()]);
    let mut connection = server.connect(1, pinned, ALPN_REGISTRY).await.expect("connects");
    let Ok(Accepted::Registry(mut accepted)) = server.accepted().await else { panic!("not accepted") };
    assert_eq!(accepted.connect_info(), ClientKey(Some(key(1).public().0)));
    accepted.write_all(b"hello").await.expect("writes");
    accepted.flush().await.expect("flushes");
    let mut greeting = [0; 5];
    connection.stream.read_exact(&mut greeting).await.expect("reads");
    assert_eq!(&greeting, b"hello");
}

#[tokio::test]
async fn a_stranger_gets_nothing_from_the_registry() {
    let server = Server::start(&[1]).await;
    let connection = server.connect(2, ServerKey::Unverified, ALPN_REGISTRY).await;
    // In TLS 1.3 the client is done before the server has judged its key, so the refusal is in the read.
    if let Ok(mut connection) = connection {
        let mut bytes = Vec::new();
        assert!(connection.stream.read_to_end(&mut bytes).await.is_err());
        assert_eq!(bytes, b"");
    }
    assert!(matches!(server.accepted().await, Err(AcceptError::Handshake(_))));
}

#[tokio::test]
async fn a_member_that_is_taken_back_loses_its_open_connection() {
    let server = Server::start(&[1]).await;
    let admission = server.admission.clone();
    let _connection = server.connect(1, ServerKey::Unverified, ALPN_REGISTRY).await.expect("connects");
    let Ok(Accepted::Registry(mut accepted)) = server.accepted().await else { panic!("not accepted") };
    accepted.write_all(b"a").await.expect("writes");
    admission.replace(BTreeSet::new());
    let refused = accepted.write_all(b"b").await.expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let refused = accepted.read_u8().await.expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn one_member_holds_only_so_many_connections() {
    for free in [0, 1] {
        let server = Server::start(&[1, 2]).await;
        let taken = admission::CONNECTIONS_PER_MEMBER_MAX - free;
        let seats: Vec<_> =
            (0..taken).map(|_| server.admission.seat(key(1).public()).expect("seat")).collect();
        assert!(server.admission.seat(key(2).public()).is_some(), "members are counted apart");
        let admission = server.admission.clone();
        let _connection = server.connect(1, ServerKey::Unverified, ALPN_REGISTRY).await.expect("connects");
        let accepted = server.accepted().await;
        match free {
            0 => assert!(matches!(accepted, Err(AcceptError::TooMany))),
            _ => assert!(matches!(accepted, Ok(Accepted::Registry(_)))),
        }
        drop((accepted, seats));
        let again: Vec<_> = (0..=taken).map_while(|_| admission.seat(key(1).public())).collect();
        assert_eq!(again.len(), admission::CONNECTIONS_PER_MEMBER_MAX.min(taken + 1), "all came back");
    }
}

#[tokio::test]
async fn a_client_without_the_hybrid_group_is_refused() {
    let mut classical = aws_lc_rs::default_provider();
    classical.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let server = Server::start(&[]).await;
    assert!(connect_with(&server, classical, Some(key(1)), &[ALPN_ENROL]).await.is_err());
    assert!(matches!(server.accepted().await, Err(AcceptError::Handshake(_))));
}

#[tokio::test]
async fn a_server_proves_its_new_key_to_whoever_connects_next() {
    let tls = ServerTls::new(&key(0), Admission::default()).expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let at = listener.local_addr().expect("address");
    let server = tls.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _refused = server.accept(stream).await;
        }
    });
    let expected = |number: u8| ServerKey::OneOf(vec![key(8).public(), key(number).public()]);
    connect(at, &key(1), expected(0), ALPN_ENROL).await.expect("connects");
    tls.replace_key(&key(7));
    let connection = connect(at, &key(1), expected(7), ALPN_ENROL).await.expect("connects");
    assert_eq!(connection.server, key(7).public());
    let refused = connect(at, &key(1), expected(0), ALPN_ENROL).await;
    assert!(matches!(refused, Err(ConnectError::OtherKey { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_client_without_a_key_is_refused() {
    let server = Server::start(&[]).await;
    if let Ok(mut stream) = connect_with(&server, aws_lc_rs::default_provider(), None, &[ALPN_ENROL]).await {
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
    }
    assert!(server.accepted().await.is_err());
}

#[tokio::test]
async fn a_client_of_another_protocol_is_refused() {
    for protocols in [&[][..], &[b"http/1.1".as_slice()][..]] {
        let server = Server::start(&[1]).await;
        assert!(connect_with(&server, aws_lc_rs::default_provider(), Some(key(1)), protocols).await.is_err());
        assert!(matches!(server.accepted().await, Err(AcceptError::Protocol)));
    }
}

#[tokio::test]
async fn bytes_that_are_no_tls_end_the_connection() {
    let server = Server::start(&[]).await;
    let mut stream = TcpStream::connect(server.at).await.expect("connects");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("writes");
    assert!(matches!(server.accepted().await, Err(AcceptError::Handshake(_))));
}

/// A server with key 0 that accepts one connection.
struct Server {
    at: std::net::SocketAddr,
    admission: Admission,
    accepted: JoinHandle<Result<Accepted, AcceptError>>,
}

impl Server {
    async fn start(members: &[u8]) -> Self {
        let members = members.iter().map(|number| key(*number).public()).collect();
        let admission = Admission::new(members);
        let tls = ServerTls::new(&key(0), admission.clone()).expect("settings");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let at = listener.local_addr().expect("address");
        let accepted = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            tls.accept(stream).await
        });
        Self { at, admission, accepted }
    }

    async fn connect(&self, client: u8, server: ServerKey, alpn: &[u8]) -> Result<Connection, ConnectError> {
        connect(self.at, &key(client), server, alpn).await
    }

    async fn accepted(self) -> Result<Accepted, AcceptError> {
        self.accepted.await.expect("server")
    }
}

fn key(number: u8) -> RawKey {
    RawKey::from_seed(&[number; 32]).expect("key")
}

async fn connect_with(
    server: &Server,
    provider: CryptoProvider,
    key: Option<RawKey>,
    protocols: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(None)));
    let mut config = match key {
        Some(key) => builder
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.certified()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(server.at).await?;
    let name = ServerName::IpAddress(server.at.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
