//! The control port of a host with a role: enrolment for everybody, the registry for members.
//!
//! Tasks: the listener, and the registry server if there is one; both end with the role.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::StreamExt;
use meshd_registry::Endpoint;
use meshd_registry::server::{ClientKey, EmbeddedServer, KeyedConn, Limits};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::registry::Guard;
use crate::enrol::{ControlCounters, EnrolCall, serve_control};
use crate::tls::{Admission, RawKey, RegistryConn, ServerTls};

/// Members' connections waiting for the registry server.
const CONNECTIONS_WAITING_MAX: usize = 64;

/// A running control port.
pub struct ControlRole {
    port: u16,
    counters: Arc<ControlCounters>,
    tls: ServerTls,
    listener: JoinHandle<()>,
    registry: Option<EmbeddedRegistry>,
}

struct EmbeddedRegistry {
    server: EmbeddedServer,
    guard: Arc<Guard>,
    task: JoinHandle<()>,
}

impl ControlRole {
    /// Listens, and serves a registry kept at `registry` if there is to be one.
    pub async fn start(
        listen: SocketAddr,
        key: &RawKey,
        admission: Admission,
        enrol: mpsc::Sender<EnrolCall>,
        registry: Option<PathBuf>,
        guard: Guard,
    ) -> anyhow::Result<Self> {
        let listener = bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let port = listener.local_addr().context("read the control port")?.port();
        let tls = ServerTls::new(key, admission)?;
        let (connections, incoming) = mpsc::channel(CONNECTIONS_WAITING_MAX);
        let registry = match registry {
            Some(path) => Some(EmbeddedRegistry::start(path, guard, incoming).await?),
            None => None,
        };
        let counters = Arc::<ControlCounters>::default();
        let serve = serve_control(listener, tls.clone(), enrol, connections, Arc::clone(&counters));
        Ok(Self { port, counters, tls, listener: tokio::spawn(serve), registry })
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Proves another key to whoever connects from now on.
    pub fn replace_key(&self, key: &RawKey) {
        self.tls.replace_key(key);
    }

    /// Whether a registry is served here.
    pub fn serves_registry(&self) -> bool {
        self.registry.is_some()
    }

    /// The registry served here, reached without a network; `own` is the node's transport key.
    pub fn own_registry(&self, own: [u8; 32]) -> Option<Endpoint> {
        let registry = self.registry.as_ref()?;
        Some(registry.server.local(ClientKey(Some(own)), registry.guard.clone()))
    }

    /// Connections that came to nothing, by reason.
    pub fn failures(&self) -> [(&'static str, u64); 5] {
        self.counters.read()
    }

    /// Stops listening; the port is free and the registry's file is closed when this returns.
    pub async fn stop(mut self) {
        self.listener.abort();
        let _ = (&mut self.listener).await;
        if let Some(registry) = self.registry.take() {
            registry.server.close().await;
            registry.task.abort();
            let _ = registry.task.await;
        }
    }
}

/// Binds; "every address" means every IPv4 address on a kernel without IPv6, as for the tunnels.
async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, listen.port()));
    match TcpListener::bind(listen).await {
        Err(error) if listen == any6 && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        bound => bound,
    }
}

impl EmbeddedRegistry {
    async fn start(
        path: PathBuf,
        guard: Guard,
        incoming: mpsc::Receiver<RegistryConn>,
    ) -> anyhow::Result<Self> {
        let server = EmbeddedServer::open(path, Limits::default()).await.context("open the registry")?;
        let guard = Arc::new(guard);
        let incoming = ReceiverStream::new(incoming).map(|connection| {
            let client = ClientKey(Some(connection.client().0));
            Ok(KeyedConn::new(connection, client))
        });
        let serve = server.serve(incoming, guard.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(error = %crate::chain::of(&error), "the registry server ended");
            }
        });
        Ok(Self { server, guard, task })
    }
}
