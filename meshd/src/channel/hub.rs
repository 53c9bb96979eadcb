//! Who has a channel, who is called, and who is let in.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use meshd_wire::{NodeId, PublicKey};
use quinn::{
    AsyncUdpSocket, Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::ChannelError;
use super::allowance::Allowance;
use super::backoff::Backoff;
use super::holdings::Holdings;
use super::members::{Member, Members};
use super::session::{Received, Session};
use crate::places::{Places, Source};
use crate::random;
use crate::tls::{Admission, RawKey, quic_client, quic_peer, quic_server};

/// A neighbour that is silent for this long is gone; it is greeted three times within.
const SILENT_FOR: VarInt = VarInt::from_u32(10_000);
const GREET_EVERY: Duration = Duration::from_secs(3);
/// Longest time for a handshake and the first stream, over a slow path with losses.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// The end with the greater id lets the other one call first.
const SECOND_DELAY: Duration = Duration::from_secs(1);
/// How often calls that are due are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Handshakes of callers at a time, and those of one address among them.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKES_PER_SOURCE_MAX: usize = 8;
/// Channels at a time: all that are called, and as many who call.
const CHANNELS_MAX: usize = 256;
/// How long there is no channel with a neighbour that has sent what no honest node holds.
const SHUNNED_FOR: Duration = Duration::from_secs(60);
/// A channel that ends earlier counts as a call that failed. Of two that begin within this time both ends keep the one that
/// the smaller id has called.
const LASTING: Duration = Duration::from_secs(5);
/// Bytes that the other end may send ahead of being read, and that wait for it: one frame of values.
const WINDOW: VarInt = VarInt::from_u32(256 << 10);
/// What every path carries; fragments of control messages are allowed, probing for more is not worth it.
const MTU: u16 = 1200;

/// Codes with which a connection is closed.
const STOPPING: VarInt = VarInt::from_u32(0);
const REPLACED: VarInt = VarInt::from_u32(1);
const NOT_MEMBER: VarInt = VarInt::from_u32(2);
const SHUNNED: VarInt = VarInt::from_u32(3);
const NOT_NEIGHBOUR: VarInt = VarInt::from_u32(4);

/// Opens the endpoint that calls and is called, on the runtime that is entered.
pub(super) fn endpoint(
    socket: Arc<dyn AsyncUdpSocket>,
    key: &RawKey,
    members: Admission,
) -> Result<Endpoint, ChannelError> {
    let mut server = quic_server(key, members)?;
    server.transport_config(transport());
    server.max_incoming(HANDSHAKES_MAX);
    let mut config = EndpointConfig::default();
    // The bit that tells QUIC from the tunnel must stay (RFC 9287).
    config.grease_quic_bit(false);
    Ok(Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))?)
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(SILENT_FOR)))
        .keep_alive_interval(Some(GREET_EVERY))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(WINDOW)
        .receive_window(WINDOW)
        .send_window(u64::from(WINDOW))
        .initial_mtu(MTU)
        .min_mtu(MTU)
        .mtu_discovery_config(None);
    Arc::new(transport)
}

/// What a task of the hub ends with.
enum Ended {
    /// A caller came in, or did not.
    Came(Option<(NodeId, Link)>),
    /// A neighbour was called.
    Called(NodeId, Option<Link>),
    /// A channel is over.
    Over(NodeId, u64),
}

/// A connection with its one stream.
struct Link {
    connection: Connection,
    stream: (quinn::SendStream, quinn::RecvStream),
    /// What the other end has proved.
    key: PublicKey,
    /// This node has called.
    is_own_call: bool,
}

/// A channel in operation.
struct Open {
    number: u64,
    connection: Connection,
    key: PublicKey,
    is_own_call: bool,
    since: Instant,
}

/// The hub's ends of the queues between its thread and the event loop.
pub(super) struct Ends {
    pub(super) members: watch::Receiver<Arc<Members>>,
    pub(super) complaints: mpsc::Receiver<NodeId>,
    pub(super) received: mpsc::Sender<Received>,
    pub(super) connected: watch::Sender<usize>,
}

/// Everything the thread owns.
pub(super) struct Hub {
    own: NodeId,
    key: RawKey,
    endpoint: Endpoint,
    holdings: Arc<Holdings>,
    ends: Ends,
    open: HashMap<NodeId, Open>,
    /// The neighbours that this end calls.
    called: BTreeSet<NodeId>,
    calls: HashMap<NodeId, Backoff>,
    /// Of each member, whatever channels it has had.
    allowances: HashMap<NodeId, Arc<Mutex<Allowance>>>,
    shunned: HashMap<NodeId, Instant>,
    tasks: JoinSet<Ended>,
    handshakes: Arc<Places>,
    opened: u64,
}

impl Hub {
    pub(super) fn new(
        own: NodeId,
        key: RawKey,
        endpoint: Endpoint,
        holdings: Arc<Holdings>,
        ends: Ends,
    ) -> Self {
        Self {
            own,
            key,
            endpoint,
            holdings,
            ends,
            open: HashMap::new(),
            called: BTreeSet::new(),
            calls: HashMap::new(),
            allowances: HashMap::new(),
            shunned: HashMap::new(),
            tasks: JoinSet::new(),
            handshakes: Places::new(HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX),
            opened: 0,
        }
    }

    /// Runs until nobody can change the members any more.
    pub(super) async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.ends.members.changed() => match changed {
                    Ok(()) => self.drop_strangers(),
                    Err(_) => break,
                },
                Some(neighbour) = self.ends.complaints.recv() => self.shun(neighbour),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(ended) => self.on_end(ended),
                    Err(error) => {
                        tracing::error!(%error, "a task of the control channels failed");
                        // Nobody knows which: no call shall be waited for, and no channel stand without a task.
                        self.calls.clear();
                        for (_, open) in self.open.drain() {
                            open.connection.close(STOPPING, b"a task failed");
                        }
                    }
                },
                Some(incoming) = self.endpoint.accept() => self.on_incoming(incoming),
                _ = look.tick() => self.call_due(),
            }
            let count = self.open.len();
            self.ends.connected.send_if_modified(|held| std::mem::replace(held, count) != count);
        }
        self.endpoint.close(STOPPING, b"the node stops");
        // The farewell is worth no wait: who misses it notices the silence.
        let _ = timeout(Duration::from_millis(100), self.endpoint.wait_idle()).await;
    }

    /// Lets a caller begin, if there is room for it. It proves its address first: what it is given costs more.
    fn on_incoming(&mut self, incoming: Incoming) {
        if self.open.len() >= CHANNELS_MAX {
            return incoming.ignore();
        }
        if !incoming.remote_address_validated() {
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return;
        }
        let Some(place) = self.handshakes.take(Source::of(incoming.remote_address().ip())) else {
            return incoming.ignore();
        };
        let members = self.ends.members.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                link = timeout(CONNECT_WITHIN, let_in(incoming, &members)) => Ended::Came(link.ok().flatten()),
                () = place.lost() => Ended::Came(None),
            }
        });
    }

    fn on_end(&mut self, ended: Ended) {
        match ended {
            Ended::Came(None) => {}
            Ended::Came(Some((node, link))) => self.open(node, link),
            Ended::Called(node, link) => {
                let now = Instant::now();
                match (link, self.calls.get_mut(&node)) {
                    (Some(link), calls) => {
                        if let Some(calls) = calls {
                            calls.answered();
                        }
                        self.open(node, link);
                    }
                    (None, Some(calls)) => calls.failed(now, jitter()),
                    (None, None) => {}
                }
            }
            Ended::Over(node, number) => self.over(node, number),
        }
    }

    fn over(&mut self, node: NodeId, number: u64) {
        let Entry::Occupied(open) = self.open.entry(node) else { return };
        if open.get().number != number {
            return;
        }
        let now = Instant::now();
        if open.remove().since + LASTING <= now {
            self.calls.remove(&node);
        } else if let Some(calls) = self.calls.get_mut(&node) {
            calls.failed(now, jitter());
        }
    }

    /// Takes a connection into operation. The newest one counts: of an earlier one the other end may know nothing more.
    fn open(&mut self, node: NodeId, link: Link) {
        let Link { connection, stream, key, is_own_call } = link;
        if self.ends.members.borrow().get(&node).is_none_or(|member| member.key != key) {
            return connection.close(NOT_MEMBER, b"not a member");
        }
        if self.is_shunned(&node) {
            return connection.close(SHUNNED, b"bad records");
        }
        let now = Instant::now();
        if let Some(open) = self.open.get(&node)
            && open.since + LASTING > now
            && open.is_own_call != is_own_call
            && open.is_own_call == (self.own < node)
        {
            // Both have called at once.
            return connection.close(REPLACED, b"both have called");
        }
        self.opened += 1;
        let number = self.opened;
        tracing::debug!(node = %node.short(), at = %connection.remote_address(), "control channel");
        let open = Open { number, connection: connection.clone(), key, is_own_call, since: now };
        if let Some(before) = self.open.insert(node, open) {
            before.connection.close(REPLACED, b"a newer channel");
        }
        let allowance = Arc::clone(self.allowances.entry(node).or_default());
        let session = Session::new(node, Arc::clone(&self.holdings), allowance);
        let received = self.ends.received.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                why = session.run(stream, &received) => {
                    tracing::debug!(node = %node.short(), why = crate::chain::of(&why), "control channel over");
                }
                // A session that waits for something else would keep all that it has read.
                why = connection.closed() => {
                    tracing::debug!(node = %node.short(), %why, "control channel closed");
                }
            }
            connection.close(STOPPING, b"over");
            Ended::Over(node, number)
        });
    }

    /// Closes the channels of those who are no members any more, or have another key; and those that this node has opened
    /// with neighbours of a mesh that looks different now.
    fn drop_strangers(&mut self) {
        let members = Arc::clone(&self.ends.members.borrow_and_update());
        let called = members.called_by(&self.own);
        self.open.retain(|node, open| {
            if members.get(node).is_none_or(|member| member.key != open.key) {
                open.connection.close(NOT_MEMBER, b"not a member");
                return false;
            }
            let stays = !open.is_own_call || called.contains(node);
            if !stays {
                open.connection.close(NOT_NEIGHBOUR, b"not a neighbour");
            }
            stays
        });
        self.calls.retain(|node, _| called.contains(node));
        self.called = called;
        self.allowances.retain(|node, _| members.get(node).is_some());
    }

    fn shun(&mut self, node: NodeId) {
        if self.is_shunned(&node) {
            return;
        }
        tracing::warn!(node = %node.short(), "a neighbour sends records that no honest node holds");
        if let Some(open) = self.open.remove(&node) {
            open.connection.close(SHUNNED, b"bad records");
        }
        self.shunned.insert(node, Instant::now() + SHUNNED_FOR);
    }

    fn is_shunned(&mut self, node: &NodeId) -> bool {
        let now = Instant::now();
        self.shunned.retain(|_, until| *until > now);
        self.shunned.contains_key(node)
    }

    /// Calls whoever has no channel and is due.
    fn call_due(&mut self) {
        let now = Instant::now();
        self.shunned.retain(|_, until| *until > now);
        let members = self.ends.members.borrow();
        let is_free = |node: &&NodeId| !self.open.contains_key(*node) && !self.shunned.contains_key(*node);
        for node in self.called.iter().filter(is_free).copied() {
            let Some(member) = members.get(&node) else { continue };
            let second = if self.own < node { Duration::ZERO } else { SECOND_DELAY };
            if self.calls.entry(node).or_insert_with(|| Backoff::until(now + second)).begin(now) {
                let call = call(self.endpoint.clone(), self.key.clone(), member.clone());
                self.tasks.spawn(async move { Ended::Called(node, call.await) });
            }
        }
    }
}

/// Calls a neighbour at all its addresses at once; the first that answers counts.
async fn call(endpoint: Endpoint, key: RawKey, neighbour: Member) -> Option<Link> {
    let mut config = match quic_client(&key, neighbour.key) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(error = crate::chain::of(&error), "control channels can't be made");
            return None;
        }
    };
    config.transport_config(transport());
    let mut calls: FuturesUnordered<_> = neighbour
        .addresses
        .iter()
        // The name is not looked at: the key is who answers.
        .filter_map(|at| endpoint.connect_with(config.clone(), *at, "meshd").ok())
        .map(|connecting| async move {
            let connection = connecting.await.ok()?;
            let stream = connection.open_bi().await.ok()?;
            Some(Link { connection, stream, key: neighbour.key, is_own_call: true })
        })
        .collect();
    let first = async {
        while let Some(called) = calls.next().await {
            if called.is_some() {
                return called;
            }
        }
        None
    };
    timeout(CONNECT_WITHIN, first).await.ok().flatten()
}

/// Shakes hands with a caller, which must be a member, and waits for its stream.
async fn let_in(incoming: Incoming, members: &watch::Receiver<Arc<Members>>) -> Option<(NodeId, Link)> {
    let connection = incoming.accept().ok()?.await.ok()?;
    let key = quic_peer(&connection)?;
    let Some(node) = members.borrow().holder(&key) else {
        connection.close(NOT_MEMBER, b"not a member");
        return None;
    };
    let stream = connection.accept_bi().await.ok()?;
    Some((node, Link { connection, stream, key, is_own_call: false }))
}

/// Keeps two ends that failed at the same moment from doing so again and again.
fn jitter() -> Duration {
    Duration::from_millis(random::number() % 250)
}
