//! The data plane: packets between the overlay device and the peers' tunnels.
//!
//! Two threads run to completion, packet by packet, and never wait for the control plane:
//!
//! - `meshd-tun` reads the device, finds the owner of the destination, seals and sends.
//! - `meshd-udp` receives datagrams, opens them, checks the inner source and writes the device. Between
//!   datagrams, every [`TICK`], it drives handshakes, keepalives and the liveness of peers.
//!
//! The control plane publishes an immutable snapshot of peers and routes ([`DataPlane::set_peers`]); a peer
//! whose key is unchanged keeps its tunnel. Nothing is lost silently: each drop has a counter with a reason.

mod counters;
mod events;
mod inbound;
mod outbound;
mod peer;
mod ping;
mod sentinel;
mod shared;
mod snapshot;
mod tick;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use meshd_wire::NodeId;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::io::{BindError, StopSignal, StopWatch, Tun, TunError, Udp};
use crate::os::{Device, DeviceError, DeviceSettings, NetlinkError, underlay_mtu};

pub use events::Event;
pub use ping::{PingError, PingReply};

use sentinel::Sentinel;
use shared::Shared;

/// Time between two looks at the timers of all peers.
pub const TICK: Duration = Duration::from_millis(100);
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
    /// X25519 tunnel key.
    pub private_key: Zeroizing<[u8; 32]>,
    /// This node's IPv4 address and the length of the prefix it lies in.
    pub addr4: (Ipv4Addr, u8),
    /// This node's IPv6 address and the length of the prefix it lies in.
    pub addr6: (Ipv6Addr, u8),
    /// All prefixes of the mesh: routed to the device, never used as outer addresses.
    pub mesh_prefixes: Vec<IpNet>,
}

/// One peer as its verified records describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The node.
    pub node: NodeId,
    /// Its name, for log lines.
    pub name: String,
    /// Its X25519 tunnel key.
    pub public_key: [u8; 32],
    /// Addresses and prefixes it owns.
    pub addrs: Vec<IpNet>,
    /// Where it says it can be reached: hints only.
    pub candidates: Vec<SocketAddr>,
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
        name: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A running data plane; dropping it stops the threads and removes the device.
#[derive(Debug)]
pub struct DataPlane {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// The threads `meshd-tun` and `meshd-udp`, and what ends them.
#[derive(Debug)]
struct Running {
    stop: StopSignal,
    threads: Vec<JoinHandle<()>>,
}

impl DataPlane {
    /// Opens the socket, creates the device with its addresses and routes, and starts the threads.
    ///
    /// What was made is unmade when a later step fails.
    pub fn start(config: DataPlaneConfig) -> Result<Self, DataPlaneError> {
        let mtu = match config.mtu {
            Some(mtu) if (MTU_MIN..=MTU_MAX).contains(&mtu) => mtu,
            Some(mtu) => return Err(DataPlaneError::Mtu(mtu)),
            None => overlay_mtu(underlay_mtu().map_err(DataPlaneError::UnderlayMtu)?),
        };
        let udp = Udp::bind(config.udp_port)?;
        let tun = Tun::create(&config.device)?;
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
        tracing::info!(device = config.device, mtu, port = udp.port(), "data plane is up");
        let shared = Arc::new(Shared::new(config, mtu, device.has_ipv6, udp));
        let tun = Arc::new(tun);

        let (stop, watch) =
            StopSignal::new().map_err(|source| DataPlaneError::Thread { name: "meshd-tun", source })?;
        let mut running = Running { stop, threads: Vec::with_capacity(2) };
        running.spawn("meshd-tun", (&shared, &tun, &watch), outbound::run)?;
        running.spawn("meshd-udp", (&shared, &tun, &watch), inbound::run)?;
        Ok(Self { shared, running: Mutex::new(Some(running)) })
    }

    /// Replaces the peers. One with the same node and key keeps its tunnel and proven endpoint; one that is
    /// missing loses its tunnel at once; a new one is called without waiting for traffic.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        self.shared.set_peers(peers);
    }

    /// Sends each connected peer an empty message soon: after this host's addresses changed, the peers learn
    /// the new one from it.
    pub fn greet_peers(&self) {
        for peer in &self.shared.snapshot.load().peers {
            peer.state().tunnel.greet();
        }
    }

    /// The state of every peer, in the order of their nodes.
    pub fn peers(&self) -> Vec<PeerStats> {
        let snapshot = self.shared.snapshot.load();
        let now = self.shared.now();
        let mut stats: Vec<PeerStats> = snapshot.peers.iter().map(|peer| peer.stats(now)).collect();
        stats.sort_by_key(|stats| stats.node);
        stats
    }

    /// Bytes of inner packets received and sent since the start, also with peers that are gone.
    pub fn bytes(&self) -> (u64, u64) {
        self.shared.bytes()
    }

    /// Every reason a packet can be dropped for, with the number of drops.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.all()
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
        self.shared.udp.port()
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
        if let Some(Running { stop, threads }) = running {
            self.shared.stopping.store(true, Ordering::Release);
            drop(stop);
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a data thread had panicked");
                }
            }
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

impl Running {
    fn spawn(
        &mut self,
        name: &'static str,
        (shared, tun, watch): (&Arc<Shared>, &Arc<Tun>, &StopWatch),
        run: fn(&Shared, &Tun, &StopWatch),
    ) -> Result<(), DataPlaneError> {
        let (shared, tun, watch) = (Arc::clone(shared), Arc::clone(tun), watch.clone());
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _sentinel = Sentinel::new(Arc::clone(&shared), name);
                run(&shared, &tun, &watch);
            })
            .map_err(|source| DataPlaneError::Thread { name, source })?;
        self.threads.push(thread);
        Ok(())
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
