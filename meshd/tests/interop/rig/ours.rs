//! Our own data plane in a namespace.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use meshd::dataplane::{DataPlane, DataPlaneConfig, OwnKeys, PeerConfig, PeerKeys, PeerStats};
use meshd::io::Switches;
use meshd_core::rotation::Epoch;
use meshd_tunnel::{LocalKey, Suite, Tai64n};
use meshd_wire::{NodeId, OrgId};
use zeroize::Zeroizing;

use super::{PORT, Space, key, overlay4, overlay6, public, wait_for};

/// Name of the overlay device.
pub const DEVICE: &str = "mesh";

/// A running data plane of one host.
pub struct Ours {
    pub plane: DataPlane,
}

impl Ours {
    /// Starts the data plane of a host with the default MTU.
    pub fn start(space: &Space, host: u8) -> Self {
        Self::start_with(space, config(host))
    }

    pub fn start_mtu(space: &Space, host: u8, mtu: u16) -> Self {
        Self::start_with(space, DataPlaneConfig { mtu: Some(mtu), ..config(host) })
    }

    fn start_with(space: &Space, config: DataPlaneConfig) -> Self {
        let plane = space.inside(|| DataPlane::start(config)).expect("data plane starts");
        space.settle();
        Self { plane }
    }

    pub fn set_peers(&self, peers: &[PeerConfig]) {
        self.plane.set_peers(peers.to_vec());
    }

    /// What is known of a host.
    pub fn stats(&self, host: u8) -> PeerStats {
        let found = self.plane.peers().into_iter().find(|stats| stats.node == NodeId(key(host)));
        found.expect("the host is a peer")
    }

    pub fn wait_up(&self, host: u8) {
        wait_for("the tunnel to come up", || self.stats(host).up);
    }

    pub fn count(&self) -> Counted<'_> {
        Counted { plane: &self.plane, before: self.plane.counters().into_iter().collect() }
    }
}

/// The counters of drops since a moment.
pub struct Counted<'p> {
    plane: &'p DataPlane,
    before: BTreeMap<&'static str, u64>,
}

impl Counted<'_> {
    /// What was counted since.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let now = self.plane.counters().into_iter();
        now.map(|(name, count)| (name, count - self.before[name])).filter(|(_, count)| *count > 0).collect()
    }

    /// Waits until `count` drops were counted under `reason`, and sees that nothing else was.
    pub fn wait(&self, reason: &'static str, count: u64) {
        let total = || self.drops().iter().map(|(_, count)| count).sum::<u64>();
        wait_for(&format!("{count} drops for {reason}"), || total() >= count);
        assert_eq!(self.drops(), [(reason, count)]);
    }
}

/// Starts the data plane of a host with the key of another mesh.
pub fn start_with_key(space: &Space, host: u8, private_key: [u8; 32]) -> Ours {
    Ours::start_with(space, DataPlaneConfig { keys: keys(private_key), ..config(host) })
}

/// The configuration of a host of the mesh.
fn config(host: u8) -> DataPlaneConfig {
    let (IpAddr::V4(addr4), IpAddr::V6(addr6)) = (overlay4(host), overlay6(host)) else { unreachable!() };
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    DataPlaneConfig {
        device: DEVICE.to_owned(),
        mtu: None,
        udp_port: PORT,
        keys: keys(key(host)),
        addr4: (addr4, 16),
        addr6: (addr6, 48),
        mesh_prefixes: vec!["10.91.0.0/16".parse().unwrap(), "fd5a:1::/48".parse().unwrap()],
        shards: None,
        switches: Switches::detect(),
        clock_floor: Tai64n::from_unix(wall),
    }
}

/// The keys of a host whose key plain WireGuard peers know.
fn keys(private: [u8; 32]) -> OwnKeys {
    let local = |private| LocalKey::from_bytes(&Zeroizing::new(private)).expect("a private key");
    OwnKeys::single(Epoch(1), local(among_ours(private)), local(private))
}

/// The key that a host has for its like.
fn among_ours(private: [u8; 32]) -> [u8; 32] {
    private.map(|byte| !byte)
}

/// A peer that runs our data plane, with the addresses of its host.
pub fn peer(suite: Suite, host: u8, candidates: &[SocketAddr]) -> PeerConfig {
    PeerConfig {
        node: NodeId(key(host)),
        org: OrgId([9; 32]),
        name: format!("host-{host}"),
        keys: PeerKeys::single(Epoch(1), public(&among_ours(key(host)))),
        addrs: vec![IpNet::from(overlay4(host)), IpNet::from(overlay6(host))],
        candidates: candidates.to_vec(),
        psk: None,
        suite,
        is_external: false,
    }
}

/// A peer that speaks WireGuard and nothing else.
pub fn external(host: u8, candidates: &[SocketAddr]) -> PeerConfig {
    let keys = PeerKeys::external(public(&key(host)));
    PeerConfig { keys, is_external: true, ..peer(Suite::Wg, host, candidates) }
}
