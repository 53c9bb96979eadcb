//! The embedded registry server: the part of etcd's v3 API that the client needs, from one file.
//!
//! - `state`: everything in memory: keys, the log of changes, leases, usage. All reads are served from it, so
//!   that they go on when the disk does not take writes.
//! - `journal`: the same on disk (redb). A change is in the journal before it is in the state, and in the state
//!   before it is acknowledged.
//! - `stage`: evaluates requests against the state into a batch, without touching it.
//! - `writer`: one thread that stages, commits and applies; what waits while one commit runs forms the next, so
//!   a group commit never delays an acknowledgement by more than the commit before it.
//! - `kv`, `watch`, `lease`, `maintenance`: the gRPC services.
//! - `authorise`: the hook asked for every operation, with the key of the client.
//!
//! Threads and tasks: the writer thread, owned by the server; one task per watch and per keep-alive stream,
//! owned by that stream; one serving task per in-process endpoint, owned by that endpoint.

mod authorise;
mod connection;
#[cfg(test)]
mod failing_disk;
mod journal;
mod kv;
mod lease;
mod limits;
mod maintenance;
mod refusal;
mod stage;
mod state;
mod watch;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::proto::{PbKvServer, PbLeaseServer, PbMaintenanceServer, PbResponseHeader, PbWatchServer};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch as signal;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::server::Connected;

pub use authorise::{Authorise, ClientKey, Denied, Op};
pub use connection::KeyedConn;
pub use journal::OpenError;
pub use limits::{
    KEY_BYTES_MAX, LOG_AGE_MAX, LOG_BYTES_MAX, LOG_EVENTS_MAX, Limits, Quota, REQUEST_BYTES_MAX, TXN_OPS_MAX,
};

use crate::endpoint::Endpoint;
use crate::task::Task;
use journal::Journal;
use state::State;
use writer::Writer;

/// Streams one connection may have open: a daemon needs about ten.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// A silent connection is asked for a sign of life after this time.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// No sign of life for this time ends the connection and frees its watches.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Buffer of an in-process connection, each way.
const LOCAL_BUFFER_BYTES: usize = 64 << 10;
/// In-process connections waiting to be accepted; a client opens one.
const LOCAL_CONNECTIONS_WAITING: usize = 4;
/// Messages above the request limit that are still decoded, so that the refusal can say why.
const DECODE_BYTES_MAX: usize = 2 * REQUEST_BYTES_MAX;

/// A registry server on one file; clones are handles of the same server.
#[derive(Clone)]
pub struct EmbeddedServer {
    core: Arc<Core>,
}

/// What the services share.
struct Core {
    path: PathBuf,
    limits: Limits,
    /// Number of this registry's history; a new file has a new one.
    history: u64,
    state: Arc<Mutex<State>>,
    writer: Writer,
    closing: signal::Sender<bool>,
}

impl EmbeddedServer {
    /// Opens the registry at `path`, or makes a new one there.
    pub async fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let opening = path.clone();
        let loaded = tokio::task::spawn_blocking(move || Journal::open(opening)).await;
        let (journal, loaded) = match loaded {
            Ok(outcome) => outcome?,
            Err(error) => return Err(OpenError::Interrupted { path, reason: error.to_string() }),
        };
        Self::start(journal, loaded, limits)
    }

    fn start(journal: Journal, loaded: journal::Loaded, limits: Limits) -> Result<Self, OpenError> {
        let path = journal.path().to_owned();
        let history = loaded.history;
        let state = Arc::new(Mutex::new(State::new(loaded)));
        let writer = Writer::start(journal, Arc::clone(&state), limits)
            .map_err(|source| OpenError::Thread { path: path.clone(), source })?;
        let (closing, _) = signal::channel(false);
        Ok(Self { core: Arc::new(Core { path, limits, history, state, writer, closing }) })
    }

    /// Serves connections until `incoming` ends or the server is closed; dropping the future stops it as well.
    ///
    /// Each connection says with which key its client is authenticated, see [`KeyedConn`].
    pub fn serve<I, C>(
        &self,
        incoming: I,
        authoriser: Arc<dyn Authorise>,
    ) -> impl Future<Output = Result<(), ServeError>> + Send + 'static
    where
        I: Stream<Item = io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected<ConnectInfo = ClientKey> + Unpin + Send + 'static,
    {
        let core = Arc::clone(&self.core);
        let mut closing = self.core.closing.subscribe();
        async move {
            let service = Service { core, authoriser };
            tonic::transport::Server::builder()
                .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
                .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
                .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
                .add_service(PbKvServer::new(service.clone()).max_decoding_message_size(DECODE_BYTES_MAX))
                .add_service(PbWatchServer::new(service.clone()))
                .add_service(PbLeaseServer::new(service.clone()))
                .add_service(PbMaintenanceServer::new(service))
                .serve_with_incoming_shutdown(Box::pin(incoming), async move {
                    // An error means that the server is gone altogether.
                    let _ = closing.wait_for(|closing| *closing).await;
                })
                .await
                .map_err(|source| ServeError { source })
        }
    }

    /// Serves plain TCP; every client is without a key.
    pub fn serve_tcp(
        &self,
        listener: TcpListener,
        authoriser: Arc<dyn Authorise>,
    ) -> impl Future<Output = Result<(), ServeError>> + Send + 'static {
        let incoming = TcpListenerStream::new(listener)
            .map(|accepted| accepted.map(|stream| KeyedConn::new(stream, ClientKey::NONE)));
        self.serve(incoming, authoriser)
    }

    /// An endpoint for this process, through memory, served like any other with `client` as its key.
    ///
    /// Must be called within a tokio runtime.
    pub fn local(&self, client: ClientKey, authoriser: Arc<dyn Authorise>) -> Endpoint {
        let (offer, offered) = tokio::sync::mpsc::channel(LOCAL_CONNECTIONS_WAITING);
        let serving = self.serve(ReceiverStream::new(offered).map(Ok), authoriser);
        let task = Task::spawn(async move {
            if let Err(error) = serving.await {
                tracing::warn!(%error, "in-process registry endpoint failed");
            }
        });
        let task = Arc::new(task);
        Endpoint::channel("embedded registry", move || {
            let (offer, task) = (offer.clone(), Arc::clone(&task));
            async move {
                // The endpoint owns the serving task for as long as it can open connections.
                let _task = task;
                let (ours, theirs) = tokio::io::duplex(LOCAL_BUFFER_BYTES);
                let closed = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "registry is closed");
                offer.send(KeyedConn::new(theirs, client)).await.map_err(closed)?;
                Ok(ours)
            }
        })
    }

    /// Stops serving, lets the writer finish what it has accepted and closes the file.
    pub async fn close(self) {
        self.core.closing.send_replace(true);
        let core = self.core;
        // Joining the writer waits for a commit, which must not hold up the runtime.
        if let Err(error) = tokio::task::spawn_blocking(move || core.writer.close()).await {
            tracing::error!(%error, "closing the registry failed");
        }
    }
}

impl std::fmt::Debug for EmbeddedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedServer").field("path", &self.core.path).finish_non_exhaustive()
    }
}

/// Serving failed as a whole; the fault of one connection never does this.
#[derive(Debug, thiserror::Error)]
#[error("registry server stopped")]
pub struct ServeError {
    #[source]
    source: tonic::transport::Error,
}

/// One server as seen through one authoriser.
#[derive(Clone)]
struct Service {
    core: Arc<Core>,
    authoriser: Arc<dyn Authorise>,
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn header(&self, revision: i64) -> PbResponseHeader {
        PbResponseHeader {
            cluster_id: self.history,
            member_id: self.history,
            revision,
            raft_term: state::TERM,
        }
    }
}

/// Locks the state; a panic of another holder cannot have left it half changed, because changes are applied
/// from complete batches.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
