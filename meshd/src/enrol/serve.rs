//! The control listener: one TCP port for enrolment and for the members' registry connections.
//!
//! Tasks: one for each connection from its first byte to its last (enrolment), or to the end of the
//! handshake (registry). They end when the future of [`serve_control`] is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meshd_wire::PublicKey;
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused};
use meshd_wire::limits::{FRAME_BYTES_MAX, RECORD_BYTES_MAX};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::frame::{read_frame, write_frame};
use crate::places::{Place, Places, Source};
use crate::tls::{Accepted, EnrolConn, RegistryConn, ServerTls};

/// Longest time from the TCP connection to the end of the handshake, the wait for a turn included.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Connections without an admitted key at one time; each holds one descriptor and at most one request.
const PLACES_MAX: usize = 384;
/// Of them, connections of one source: 200 hosts behind one address may join at once.
const PLACES_PER_SOURCE_MAX: usize = 256;
/// Handshakes at one time: each costs about a millisecond of work and 20 kB.
const HANDSHAKES_MAX: usize = 64;
/// Longest silence before a request, and longest time to take the reply.
const PEER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for the event loop.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Requests on one connection: a join needs two.
const REQUESTS_MAX: usize = 8;
/// Largest request: a record and what introduces it. Replies may be larger, they carry whole chains.
const REQUEST_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;
/// Pause after the system could not accept, out of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request on its way to the event loop.
#[derive(Debug)]
pub struct EnrolCall {
    /// Transport key that the client has proved.
    pub peer_key: PublicKey,
    /// Where it comes from.
    pub peer_addr: SocketAddr,
    /// Exporter of the connection.
    pub exporter: Zeroizing<[u8; 32]>,
    /// The request.
    pub request: EnrolRequest,
    /// Takes the reply.
    pub reply: oneshot::Sender<EnrolReply>,
}

/// Connections that came to nothing, by reason.
#[derive(Debug, Default)]
pub struct ControlCounters {
    over_limit: AtomicU64,
    handshake_failed: AtomicU64,
    handshake_late: AtomicU64,
    malformed: AtomicU64,
    unanswered: AtomicU64,
}

impl ControlCounters {
    /// Name and count of each reason.
    pub fn read(&self) -> [(&'static str, u64); 5] {
        [
            ("over-limit", self.over_limit.load(Ordering::Relaxed)),
            ("handshake-failed", self.handshake_failed.load(Ordering::Relaxed)),
            ("handshake-late", self.handshake_late.load(Ordering::Relaxed)),
            ("malformed", self.malformed.load(Ordering::Relaxed)),
            ("unanswered", self.unanswered.load(Ordering::Relaxed)),
        ]
    }
}

/// What the task of a connection needs.
#[derive(Clone)]
struct Desk {
    tls: ServerTls,
    handshakes: Arc<Semaphore>,
    enrol_tx: mpsc::Sender<EnrolCall>,
    registry_tx: mpsc::Sender<RegistryConn>,
    counters: Arc<ControlCounters>,
}

/// Serves the port until it is dropped.
pub async fn serve_control(
    listener: TcpListener,
    tls: ServerTls,
    enrol_tx: mpsc::Sender<EnrolCall>,
    registry_tx: mpsc::Sender<RegistryConn>,
    counters: Arc<ControlCounters>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let desk = Desk { tls, handshakes, enrol_tx, registry_tx, counters };
    let places = Places::new(PLACES_MAX, PLACES_PER_SOURCE_MAX);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(Source::of(peer.ip())) {
                Some(place) => {
                    tasks.spawn(desk.clone().attend(stream, peer, place));
                }
                None => {
                    desk.counters.over_limit.fetch_add(1, Ordering::Relaxed);
                    drop(stream);
                }
            },
            Err(error) => {
                tracing::warn!(%error, "accept on the control port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Desk {
    /// Serves a connection as long as it may keep its place.
    async fn attend(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let admitted = tokio::select! {
            admitted = self.serve_stranger(stream, peer) => admitted,
            () = place.lost() => {
                self.counters.over_limit.fetch_add(1, Ordering::Relaxed);
                None
            }
        };
        drop(place);
        if let Some(connection) = admitted {
            // A registry that does not take the connection is gone, and so is its port soon.
            let _ = timeout(ANSWER_DEADLINE, self.registry_tx.send(connection)).await;
        }
    }

    /// Shakes hands and answers enrolment requests; returns the connection if it is a member's.
    async fn serve_stranger(&self, stream: TcpStream, peer: SocketAddr) -> Option<RegistryConn> {
        let shaken = timeout(HANDSHAKE_DEADLINE, async {
            // Nothing is computed, and no turn taken, before the client has sent its first byte.
            stream.readable().await.ok()?;
            let _turn = self.handshakes.acquire().await.ok()?;
            stream.set_nodelay(true).ok()?;
            match self.tls.accept(stream).await {
                Ok(accepted) => Some(accepted),
                Err(error) => {
                    tracing::debug!(%peer, error = &error as &dyn std::error::Error, "control connection");
                    None
                }
            }
        });
        match shaken.await {
            Ok(Some(Accepted::Registry(connection))) => return Some(connection),
            Ok(Some(Accepted::Enrol(connection))) => {
                if let Err(error) = self.converse(connection, peer).await {
                    tracing::debug!(%peer, %error, "enrolment connection");
                }
            }
            Ok(None) => {
                self.counters.handshake_failed.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.counters.handshake_late.fetch_add(1, Ordering::Relaxed);
            }
        }
        None
    }

    /// Answers requests until the client is done, silent or malformed.
    async fn converse(&self, connection: EnrolConn, peer: SocketAddr) -> io::Result<()> {
        let EnrolConn { mut stream, client, exporter } = connection;
        for _ in 0..REQUESTS_MAX {
            let frame = match timeout(PEER_DEADLINE, read_frame(&mut stream, REQUEST_BYTES_MAX)).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => {
                    self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                    return Err(io::Error::other(error));
                }
                Err(late) => return Err(late.into()),
            };
            let request = EnrolRequest::from_bytes(&frame);
            let malformed = request.is_err();
            let reply = match request {
                Ok(request) => self.ask(client, peer, exporter.clone(), request).await,
                Err(_) => EnrolReply::Refused { why: Refused::Malformed },
            };
            let mut bytes = reply.to_bytes();
            if bytes.len() > FRAME_BYTES_MAX {
                tracing::warn!(len = bytes.len(), "enrolment reply is larger than a frame");
                bytes = EnrolReply::Refused { why: Refused::Unavailable }.to_bytes();
            }
            timeout(PEER_DEADLINE, write_frame(&mut stream, &bytes)).await??;
            if malformed {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        timeout(PEER_DEADLINE, tokio::io::AsyncWriteExt::shutdown(&mut stream)).await?
    }

    async fn ask(
        &self,
        peer_key: PublicKey,
        peer_addr: SocketAddr,
        exporter: Zeroizing<[u8; 32]>,
        request: EnrolRequest,
    ) -> EnrolReply {
        let (reply, answer) = oneshot::channel();
        let call = EnrolCall { peer_key, peer_addr, exporter, request, reply };
        let asked = timeout(ANSWER_DEADLINE, async {
            self.enrol_tx.send(call).await.ok()?;
            answer.await.ok()
        });
        match asked.await {
            Ok(Some(reply)) => reply,
            Ok(None) | Err(_) => {
                self.counters.unanswered.fetch_add(1, Ordering::Relaxed);
                EnrolReply::Refused { why: Refused::Unavailable }
            }
        }
    }
}
