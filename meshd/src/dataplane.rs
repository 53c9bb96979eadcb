//! The data plane: packets between the overlay device and the peers' tunnels.
//!
//! Dedicated threads run to completion, train by train, and never wait for the control plane:
//!
//! - `meshd-tx-N` reads queue N of the device, cuts what it holds into packets, finds the owner of the
//!   destination, asks the flow filter, seals, and sends the train with one call on socket N.
//! - `meshd-rx-N` receives trains on socket N, opens them, checks source and destination, asks the flow filter,
//!   puts packets of a flow together again and writes them to queue N.
//! - `meshd-engine` owns handshakes, timers, paths and the control socket ([`tunnels`]). What comes there as QUIC it
//!   hands on unread ([`QuicPort`]).
//!
//! The control plane publishes an immutable snapshot of peers and routes ([`DataPlane::set_peers`],
//! [`DataPlane::set_own`]); a peer whose key is unchanged keeps its tunnel. A data thread that panics starts again at once; the others notice
//! nothing. Nothing is lost silently: each drop has a counter with a reason.

mod clock;
mod counters;
mod delivery;
mod events;
mod flows;
mod handshakes;
mod header;
mod inbound;
mod keys;
mod notes;
mod outbound;
mod peer;
mod ping;
mod probe;
mod quic;
mod sessions;
mod shared;
mod snapshot;
mod staged;
mod supervisor;
#[cfg(test)]
mod tests;
mod threads;
mod train;
mod tunnels;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use meshd_tunnel::{Psk, Suite, Tai64n};
use meshd_wire::{NodeId, OrgId};
use tokio::sync::mpsc;

use crate::io::{BindError, PacketDevice, Switches, TunError, TunGroup, TunQueue, UdpGroup, UdpTally};
use crate::os::{Device, DeviceError, DeviceSettings, NetlinkError, underlay_mtu};

pub use events::Event;
pub use flows::{AllowAll, FlowFilter, PeerIdentity};
pub use handshakes::{Completed, Ends};
pub use keys::{OwnKey, OwnKeys, PeerKey, PeerKeys, TunnelUse};
pub use ping::{PingError, PingReply};
pub use quic::{QuicDatagram, QuicPort, QuicSender};

use counters::UDP_BUFFER_FULL;
use shared::Shared;
use threads::Running;
use tunnels::Command;

/// Calls of the control plane that wait for the engine's thread.
const COMMANDS_MAX: usize = 16;
/// Bytes a tunnel adds to a packet on an IPv6 underlay: IPv6 40, UDP 8, tunnel 32.
pub const OVERHEAD: u16 = 80;
/// Least MTU of the overlay: IPv6 demands it.
pub const MTU_MIN: u16 = 1280;
/// Greatest MTU of the overlay: a sealed packet must fit a UDP datagram.
pub const MTU_MAX: u16 = 65_440;

/// What one node's data plane is made of.
#[derive(Debug)]
pub struct DataPlaneConfig {
    /// Name of the overlay device.
    pub device: String,
    /// MTU of the overlay device; by default the underlay's less [`OVERHEAD`].
    pub mtu: Option<u16>,
    /// UDP port of the tunnel; 0 takes a free one.
    pub udp_port: u16,
    /// Its tunnel keys.
    pub keys: OwnKeys,
    /// This node's IPv4 address and the length of the prefix it lies in.
    pub addr4: (Ipv4Addr, u8),
    /// This node's IPv6 address and the length of the prefix it lies in.
    pub addr6: (Ipv6Addr, u8),
    /// All prefixes of the mesh: routed to the device, never used as outer addresses.
    pub mesh_prefixes: Vec<IpNet>,
    /// Data threads of each direction, rounded down to a power of two; by default half the processors.
    pub shards: Option<usize>,
    /// Which offloads may be used.
    pub switches: Switches,
    /// Later than any timestamp that an earlier run with this key may have sent.
    pub clock_floor: Tai64n,
}

/// One peer as its verified records describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The node.
    pub node: NodeId,
    /// The organisation that answers for it.
    pub org: OrgId,
    /// Its name, for log lines.
    pub name: String,
    /// Its tunnel keys.
    pub keys: PeerKeys,
    /// Addresses and prefixes it owns.
    pub addrs: Vec<IpNet>,
    /// Where it says it can be reached: hints only.
    pub candidates: Vec<SocketAddr>,
    /// Pre-shared key; another one makes another tunnel, without a gap.
    pub psk: Option<Psk>,
    /// The ciphers; others make another tunnel, without a gap.
    pub suite: Suite,
    /// Whether it speaks WireGuard and nothing else: it is never called first, answers no probes of the path,
    /// and what it exchanges with other peers passes through this node.
    pub is_external: bool,
}

/// What is known of one peer's tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// The node.
    pub node: NodeId,
    /// Its proven address, if there is one.
    pub endpoint: Option<SocketAddr>,
    /// Whether something authentic was received from it lately.
    pub up: bool,
    /// Age of the session, if there is one.
    pub last_handshake: Option<Duration>,
    /// Time since the last authentic datagram.
    pub last_received: Option<Duration>,
    /// Longest packet its path carries, as far as is known; none without a session.
    pub mtu: Option<u16>,
    /// Bytes of inner packets received.
    pub rx_bytes: u64,
    /// Bytes of inner packets sent.
    pub tx_bytes: u64,
    /// Inner packets received.
    pub rx_packets: u64,
    /// Inner packets sent.
    pub tx_packets: u64,
}

/// Says why the data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// The tunnel's socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The overlay device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// Addresses and routes of the overlay device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The underlay's MTU.
    #[error("find the mtu of the underlay")]
    UnderlayMtu(#[source] NetlinkError),
    /// A configured MTU that cannot work.
    #[error("mtu {0} is outside {MTU_MIN}..={MTU_MAX}")]
    Mtu(u16),
    /// A thread or its stop signal.
    #[error("start thread {name}")]
    Thread {
        /// Name of the thread.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A running data plane; dropping it stops the threads and removes the device.
#[derive(Debug)]
pub struct DataPlane {
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    running: Mutex<Option<Running>>,
    udp: UdpTally,
    port: u16,
}

impl DataPlane {
    /// Opens the sockets, creates the device with its addresses and routes, and starts the threads.
    ///
    /// What was made is unmade when a later step fails.
    pub fn start(config: DataPlaneConfig) -> Result<Self, DataPlaneError> {
        Self::start_on(config, |_, queue| queue)
    }

    /// Starts with what `queue` makes of each numbered queue of the device: tests watch it there.
    fn start_on<D: PacketDevice + AsFd + 'static>(
        config: DataPlaneConfig,
        queue: impl Fn(usize, TunQueue) -> D,
    ) -> Result<Self, DataPlaneError> {
        let mtu = match config.mtu {
            Some(mtu) if (MTU_MIN..=MTU_MAX).contains(&mtu) => mtu,
            Some(mtu) => return Err(DataPlaneError::Mtu(mtu)),
            None => overlay_mtu(underlay_mtu().map_err(DataPlaneError::UnderlayMtu)?),
        };
        let shards = threads::shards(config.shards);
        let udp = UdpGroup::bind(config.udp_port, shards, config.switches)?;
        let tun = TunGroup::create(&config.device, shards, config.switches)?;
        let device = Device::configure(&DeviceSettings {
            name: config.device.clone(),
            mtu,
            addr4: config.addr4.0,
            addr6: config.addr6.0,
            routes: routes(&config),
        })?;
        if !device.has_ipv6 {
            tracing::warn!(device = config.device, "ipv6 is off in the kernel: the overlay has ipv4 alone");
        }
        let (port, tally) = (udp.port(), udp.tally());
        tracing::info!(
            device = config.device,
            mtu,
            port,
            shards,
            udp_gso = udp.has_gso,
            udp_gro = udp.has_gro,
            tun_tcp = tun.trains.tcp,
            tun_udp = tun.trains.udp,
            "data plane is up"
        );
        let (commands, inbox) = sync_channel(COMMANDS_MAX);
        let queues = tun.queues.into_iter().enumerate().map(|(number, taken)| queue(number, taken)).collect();
        let (shared, running) = threads::start(&config, (mtu, device.has_ipv6), queues, udp, inbox)?;
        Ok(Self { shared, commands, running: Mutex::new(Some(running)), udp: tally, port })
    }

    /// Replaces the peers. One with the same node and key keeps its tunnel and proven endpoint; one that is
    /// missing loses its tunnel at once; a new one is called without waiting for traffic.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        let (done, wait) = sync_channel(1);
        // It fails only after the end, when there is nothing left to replace.
        if self.commands.send(Command::SetPeers(peers, done)).is_ok() {
            self.shared.notes.wake();
            let _ = wait.recv();
        }
    }

    /// Replaces the addresses and prefixes that this node has for its endpoints: what comes for them is handed to
    /// the host, and nobody else speaks for them. A narrower prefix of a peer stays the peer's.
    pub fn set_own(&self, own: Vec<IpNet>) {
        let (done, wait) = sync_channel(1);
        if self.commands.send(Command::SetOwn(own, done)).is_ok() {
            self.shared.notes.wake();
            let _ = wait.recv();
        }
    }

    /// Replaces this node's keys. Peers may call all of them. Tunnels with a key that stays
    /// go on as they are, so that no packet is lost if the next key is known before it is called with, and the one
    /// before goes after nobody uses it any more: [`DataPlane::tunnel_uses`] tells.
    pub fn set_keys(&self, keys: OwnKeys) {
        let (done, wait) = sync_channel(1);
        if self.commands.send(Command::SetKeys(keys, done)).is_ok() {
            self.shared.notes.wake();
            let _ = wait.recv();
        }
    }

    /// How each tunnel is used, for each pair of keys one.
    pub fn tunnel_uses(&self) -> Vec<TunnelUse> {
        let (answer, wait) = sync_channel(1);
        if self.commands.send(Command::Uses(answer)).is_err() {
            return Vec::new();
        }
        self.shared.notes.wake();
        wait.recv().unwrap_or_default()
    }

    /// The handshakes completed since the last call, by the keys they were completed with; also after [`Self::stop`].
    pub fn take_handshakes(&self) -> Vec<Completed> {
        self.shared.handshakes.take(clock::now())
    }

    /// Puts another filter in force; running flows are decided again.
    pub fn set_filter(&self, filter: Arc<dyn FlowFilter>) {
        self.shared.rules.replace(filter);
    }

    /// The side of the tunnel's port on which QUIC is spoken; an earlier one receives no more.
    pub fn quic_port(&self) -> QuicPort {
        QuicPort::open(&self.shared, self.port)
    }

    /// Sends each connected peer an empty message soon: after this host's addresses changed, the peers learn
    /// the new one from it.
    pub fn greet_peers(&self) {
        // A full queue holds a greeting already, or a thread that will not come back.
        if self.commands.try_send(Command::Greet).is_ok() {
            self.shared.notes.wake();
        }
    }

    /// The state of every peer, in the order of their nodes.
    pub fn peers(&self) -> Vec<PeerStats> {
        let snapshot = self.shared.snapshot.load();
        let now = clock::now();
        let mut stats: Vec<PeerStats> = snapshot.peers().map(|peer| peer.stats(now)).collect();
        stats.sort_by_key(|stats| stats.node);
        stats
    }

    /// Bytes of inner packets received and sent since the start, also with peers that are gone.
    pub fn bytes(&self) -> (u64, u64) {
        let retired = self.shared.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.shared.snapshot.load();
        let [received, sent] = snapshot.peers().fold(*retired, |[received, sent], peer| {
            let [from, to] = peer.bytes();
            [received + from, sent + to]
        });
        (received, sent)
    }

    /// Every reason a packet can be dropped for, with the number of drops.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.shared.counters.all();
        counters.push((UDP_BUFFER_FULL, self.udp.overflows()));
        counters
    }

    /// Trains that went out packet by packet, because a link refused them.
    pub fn trains_refused(&self) -> u64 {
        self.udp.trains_refused()
    }

    /// Sends an ICMP echo with `payload_len` bytes through the tunnel of `node` and waits for the answer.
    pub async fn ping(&self, node: &NodeId, payload_len: u16) -> Result<PingReply, PingError> {
        ping::ping(&self.shared, node, payload_len).await
    }

    /// Starts to report events; an earlier receiver gets no more of them.
    pub fn events(&self) -> mpsc::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// UDP port of the tunnel.
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// MTU of the overlay device.
    pub fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    /// Whether the overlay carries IPv6 on this host.
    pub fn has_ipv6(&self) -> bool {
        self.shared.addr6.is_some()
    }

    /// Ends the threads and waits for them; the device vanishes with them. The port is free when the data
    /// plane is dropped.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            drop(running);
            // Whoever waits for an answer holds the socket, and its port.
            self.shared.pings.give_up();
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

impl PeerConfig {
    /// Who the peer is to a filter.
    pub fn identity(&self) -> PeerIdentity {
        PeerIdentity { node: self.node, org: self.org }
    }
}

/// The mesh's prefixes, and this node's own where they are not among them.
fn routes(config: &DataPlaneConfig) -> Vec<IpNet> {
    let own4 = ipnet::Ipv4Net::new(config.addr4.0, config.addr4.1).ok().map(IpNet::from);
    let own6 = ipnet::Ipv6Net::new(config.addr6.0, config.addr6.1).ok().map(IpNet::from);
    let mut routes: Vec<IpNet> = config.mesh_prefixes.iter().map(IpNet::trunc).collect();
    for own in own4.into_iter().chain(own6).map(|own| own.trunc()) {
        if !routes.iter().any(|prefix| prefix.contains(&own)) {
            routes.push(own);
        }
    }
    routes.sort();
    routes.dedup();
    routes
}

fn overlay_mtu(underlay: u32) -> u16 {
    u16::try_from(underlay).unwrap_or(u16::MAX).saturating_sub(OVERHEAD).clamp(MTU_MIN, MTU_MAX)
}
