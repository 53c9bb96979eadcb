//! The data planes in two namespaces, and what the tests ask of both.

#[path = "../rig/pair.rs"]
mod pair;
#[path = "../rig/space.rs"]
mod space;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use meshd::dataplane::{DataPlane, DataPlaneConfig, OwnKeys, PeerConfig, PeerKeys};
use meshd::io::Switches;
use meshd_core::rotation::Epoch;
use meshd_tunnel::{LocalKey, Suite, Tai64n};
use meshd_wire::{NodeId, OrgId};
use zeroize::Zeroizing;

use pair::link;
pub(crate) use pair::{PATIENCE, wait_for};
use space::Space;

pub(crate) const PORT: u16 = 51820;
/// The organisation of both sides.
pub(crate) const ORG: OrgId = OrgId([9; 32]);

/// Two hosts, by their numbers 0 and 1.
pub(crate) struct Pair {
    hosts: pair::Pair,
    /// Namespaces on the way between the two.
    between: Vec<Space>,
}

impl Pair {
    /// Two hosts on one link; `None`, with a word why, where namespaces or devices cannot be made.
    pub(crate) fn new() -> Option<Self> {
        Some(Self { hosts: pair::Pair::new()?, between: Vec::new() })
    }

    /// Two hosts with two routers between them, whose link carries packets of `width` bytes. Nobody is told of
    /// longer ones.
    pub(crate) fn narrow(width: u16) -> Option<Self> {
        let hosts = pair::Pair::unlinked()?;
        let (near, far) = (Space::new()?, Space::new()?);
        link((&near, "inner"), (&far, "inner"));
        let sides = [
            (0, &hosts.left, &near, "10.255.0.1", "10.255.0.2"),
            (1, &hosts.right, &far, "10.255.0.2", "10.255.0.1"),
        ];
        for (side, host, router, inner, next) in sides {
            let (own, other) = (underlay4(side), underlay4(1 - side));
            link((host, "uplink"), (router, "outer"));
            host.ip(&format!("address add {own}/32 dev uplink"));
            host.ip(&format!("route add default dev uplink src {own}"));
            router.ip(&format!("link set inner mtu {width}"));
            router.ip(&format!("address add {inner}/30 dev inner"));
            router.ip(&format!("route add {own}/32 dev outer"));
            router.ip(&format!("route add {other}/32 via {next} onlink dev inner"));
            router.set("/proc/sys/net/ipv4/ip_forward", "1");
            router.set("/proc/sys/net/ipv4/conf/all/proxy_arp", "1");
            router.run("nft", "add table ip silent");
            router.run("nft", "add chain ip silent out { type filter hook output priority 0; }");
            router.run("nft", "add rule ip silent out icmp type destination-unreachable drop");
        }
        Some(Self { hosts, between: vec![near, far] })
    }

    /// Nothing that was fragmented passes between the two any more.
    pub(crate) fn swallow_fragments(&self) {
        for router in &self.between {
            router.run("nft", "add chain ip silent through { type filter hook forward priority 0; }");
            router.run("nft", "add rule ip silent through ip frag-off & 0x3fff != 0 drop");
        }
    }

    pub(crate) fn config(&self, side: u8) -> DataPlaneConfig {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        DataPlaneConfig {
            device: device(side).to_owned(),
            mtu: None,
            udp_port: PORT,
            keys: OwnKeys::single(Epoch(1), local_key(side + 1), local_key(0xee)),
            addr4: (addr4(side), 16),
            addr6: (addr6(side), 48),
            mesh_prefixes: prefixes(),
            shards: None,
            switches: Switches::detect(),
            clock_floor: Tai64n::from_unix(wall),
        }
    }

    pub(crate) fn start(&self, side: u8) -> DataPlane {
        self.start_with(side, self.config(side))
    }

    pub(crate) fn start_with(&self, side: u8, config: DataPlaneConfig) -> DataPlane {
        let plane = self.inside(side, || DataPlane::start(config)).expect("data plane starts");
        self.host(side).settle();
        plane
    }

    pub(crate) fn peer(&self, side: u8) -> PeerConfig {
        PeerConfig {
            node: node_id(side),
            org: ORG,
            name: device(side).to_owned(),
            keys: PeerKeys::single(Epoch(1), local_key(side + 1).public()),
            addrs: vec![IpNet::from(IpAddr::V4(addr4(side))), IpNet::from(IpAddr::V6(addr6(side)))],
            candidates: vec![SocketAddr::new(underlay4(side), PORT)],
            psk: None,
            suite: Suite::Aes,
            is_external: false,
        }
    }

    /// Runs `act` on a thread that lives in the namespace of one side.
    pub(crate) fn inside<T: Send>(&self, side: u8, act: impl FnOnce() -> T + Send) -> T {
        self.host(side).inside(act)
    }

    /// Runs `ip` with these words in the namespace of one side.
    pub(crate) fn ip(&self, side: u8, words: &str) {
        self.host(side).ip(words);
    }

    pub(crate) fn host(&self, side: u8) -> &Space {
        if side == 0 { &self.hosts.left } else { &self.hosts.right }
    }
}

pub(crate) fn assert_datagram_arrives(pair: &Pair, from: u8, source: IpAddr, destination: IpAddr, to: u8) {
    let listener = pair.inside(to, || UdpSocket::bind((destination, 0))).unwrap();
    let sender = pair.inside(from, || UdpSocket::bind((source, 0))).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    sender.send_to(b"through the tunnel", listener.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 64];
    let (len, seen) = listener.recv_from(&mut buffer).expect("datagram arrives");
    assert_eq!(&buffer[..len], b"through the tunnel");
    assert_eq!(seen.ip(), source);
}

pub(crate) fn prefixes() -> Vec<IpNet> {
    vec!["10.91.0.0/16".parse().unwrap(), "fd5a:1::/48".parse().unwrap()]
}

pub(crate) fn device(side: u8) -> &'static str {
    if side == 0 { "mesh-a" } else { "mesh-b" }
}

fn local_key(private: u8) -> LocalKey {
    LocalKey::from_bytes(&Zeroizing::new([private; 32])).expect("a private key")
}

pub(crate) fn node_id(side: u8) -> NodeId {
    NodeId([side + 1; 32])
}

pub(crate) fn addr4(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 91, 0, side + 1)
}

pub(crate) fn addr6(side: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, u16::from(side) + 1)
}

pub(crate) fn underlay4(side: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 77, side + 1).into()
}

pub(crate) fn underlay6(side: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, u16::from(side) + 1).into()
}

pub(crate) fn counter(plane: &DataPlane, reason: &str) -> u64 {
    plane.counters().into_iter().find(|(name, _)| *name == reason).expect("counter exists").1
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}
