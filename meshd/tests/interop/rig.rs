//! Links, peers of every kind, and traffic between them.

mod ours;
#[path = "../rig/pair.rs"]
mod pair;
mod program;
mod relay;
mod scripted;
#[path = "../rig/space.rs"]
mod space;
mod traffic;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use ours::{Ours, external, peer, start_with_key};
pub use pair::{PATIENCE, Pair, wait_for};
use pair::{Turn, link};
pub use program::{Program, ProgramPeer, Remote};
pub use relay::{Relay, Side};
pub use scripted::Scripted;
pub use space::Space;
pub use traffic::{Inbox, Talk, assert_reachable, ping, stream_while, tcp, udp4, udp6};

/// UDP port of every tunnel.
pub const PORT: u16 = 51820;

/// Makes two tests of each case: nodes speak either suite with each other. What is not a node speaks `wg` alone.
macro_rules! in_both_suites {
    ($($case:ident),+ $(,)?) => {
        mod wg {
            $(#[test] fn $case() { super::$case(meshd_tunnel::Suite::Wg); })+
        }
        mod aes {
            $(#[test] fn $case() { super::$case(meshd_tunnel::Suite::Aes); })+
        }
    };
}
pub(crate) use in_both_suites;

/// Two namespaces and a third between them that nothing crosses but what is forwarded on purpose.
pub struct Chain {
    pub left: Space,
    pub middle: Space,
    pub right: Space,
    _turn: Turn,
}

impl Chain {
    /// `None`, with a word why, where namespaces or devices cannot be made.
    pub fn new() -> Option<Self> {
        let turn = Turn::take();
        let (left, middle, right) = (Space::new()?, Space::new()?, Space::new()?);
        link((&left, "uplink"), (&middle, "to-left"));
        link((&middle, "to-right"), (&right, "uplink"));
        for (space, device, net, host) in [
            (&left, "uplink", 77, 1),
            (&middle, "to-left", 77, 254),
            (&middle, "to-right", 78, 254),
            (&right, "uplink", 78, 2),
        ] {
            space.ip(&format!("address add 192.168.{net}.{host}/24 dev {device}"));
            space.ip(&format!("address add 2001:db8:{net}::{host:x}/64 dev {device} nodad"));
        }
        for space in [&left, &middle, &right] {
            space.settle();
        }
        Some(Self { left, middle, right, _turn: turn })
    }

    /// Makes the middle a router, and the two ends reach each other.
    pub fn route(&self) {
        self.middle.set("/proc/sys/net/ipv4/ip_forward", "1");
        self.middle.set("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        for (space, own, far) in [(&self.left, 77, 78), (&self.right, 78, 77)] {
            space.ip(&format!("route add 192.168.{far}.0/24 via 192.168.{own}.254"));
            space.ip(&format!("route add 2001:db8:{far}::/64 via 2001:db8:{own}::fe"));
        }
    }
}

/// Which of the two address families of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    V4,
    V6,
}

impl Underlay {
    /// The tunnel's address of host 1 or 2 of a [`Pair`].
    pub fn endpoint(self, host: u8) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::new(192, 168, 77, host), PORT).into(),
            Self::V6 => (Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, u16::from(host)), PORT).into(),
        }
    }
}

/// The tunnel key of a host: its number, 32 times.
pub fn key(host: u8) -> [u8; 32] {
    [host; 32]
}

pub fn public(private: &[u8; 32]) -> [u8; 32] {
    boringtun::x25519::PublicKey::from(&boringtun::x25519::StaticSecret::from(*private)).to_bytes()
}

pub fn overlay4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 91, 0, host).into()
}

pub fn overlay6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, u16::from(host)).into()
}

/// The IPv4 address among the two families.
pub fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(v4) = address else { panic!("{address} is not of IPv4") };
    v4
}

/// The IPv6 address among the two families.
pub fn v6(address: IpAddr) -> Ipv6Addr {
    let IpAddr::V6(v6) = address else { panic!("{address} is not of IPv6") };
    v6
}
