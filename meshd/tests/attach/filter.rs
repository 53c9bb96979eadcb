//! The table `inet meshd`: who may speak, as whom, and where packets of the overlay may go.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::Duration;

use meshd::os::{Firewall, GATEWAY4, host_link};
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::rig::*;

/// Types of ICMPv6 messages that tell a host where to send packets.
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;
/// The same of ICMP.
const ROUTER_ADVERTISEMENT4: u8 = 9;
const REDIRECT4: u8 = 5;

/// Time until an attempt to connect is given up, several repetitions of its first packet.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(4);

#[test]
fn packets_under_a_foreign_address_are_dropped_and_counted() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    host.attach(&a);
    host.attach(&b);
    let foreign = ["10.91.128.99/32", "fd91:0:0:1::99/128 nodad"];
    for (family, foreign) in foreign.into_iter().enumerate() {
        a.space.ip(&format!("address add dev {IFNAME} {foreign}"));
        let foreign = foreign.split('/').next().and_then(|text| text.parse().ok()).expect("an address");
        let listener = listen(&b.space, b.addresses[family]);
        send(&a.space, a.addresses[family], b.addresses[family], "own");
        assert_eq!(received(&listener), ("own".to_owned(), a.addresses[family]));
        let before = host.drops("spoofed");
        send(&a.space, foreign, b.addresses[family], "spoofed");
        send(&a.space, a.addresses[family], b.addresses[family], "own");
        assert_eq!(received(&listener), ("own".to_owned(), a.addresses[family]));
        assert!(is_silent(&listener));
        assert!(host.drops("spoofed") > before);
    }
    // An address of another endpoint is as foreign.
    a.space.ip(&format!("address add dev {IFNAME} {}/32", b.addresses[0]));
    let before = host.drops("spoofed");
    send(&a.space, b.addresses[0], NODE4.into(), "spoofed");
    assert!(host.drops("spoofed") > before);
}

#[test]
fn advertisements_and_redirects_of_endpoints_do_not_reach_the_host() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    let own: Ipv6Addr = "fe80::77".parse().expect("an address");
    a.space.ip(&format!("address add {own}/64 dev {IFNAME} nodad"));
    let send_icmp = |kind: u8| {
        a.space.inside(|| {
            let scope = nix::net::if_::if_nametoindex(IFNAME).expect("the link is there");
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).expect("a raw socket");
            socket.bind(&SockAddr::from(SocketAddrV6::new(own, 0, 0, scope))).expect("the socket is bound");
            socket.set_multicast_hops_v6(255).expect("hops");
            let all_nodes = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, scope);
            let mut message = [0; 40];
            message[0] = kind;
            socket.send_to(&message, &all_nodes.into()).expect("the message is sent");
        });
    };
    for (kind, count) in [(ROUTER_ADVERTISEMENT, 1), (REDIRECT, 2)] {
        send_icmp(kind);
        wait_for("the message to be dropped", || host.drops("rogue") == count);
    }
    for (kind, count) in [(ROUTER_ADVERTISEMENT4, 3), (REDIRECT4, 4)] {
        let mut message = [0; 40];
        message[0] = kind;
        send_raw(&a.space, libc::IPPROTO_ICMP, message);
        wait_for("the message to be dropped", || host.drops("rogue") == count);
    }
    assert_eq!(host.drops("spoofed"), 0);
}

#[test]
fn an_endpoint_that_is_not_admitted_is_isolated() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    host.attach(&a);
    host.space.inside(|| b.wire());
    let assert_isolated = |host: &Host| {
        for (family, node) in [IpAddr::from(NODE4), IpAddr::from(NODE6)].into_iter().enumerate() {
            let pairs = [(&b, &a.space, a.addresses[family]), (&b, &host.space, node)];
            for (_, space, at) in pairs {
                let (listener, before) = (listen(space, at), host.drops("unattached"));
                wait_for("a packet to be dropped", || {
                    send(&b.space, b.addresses[family], at, "from");
                    host.drops("unattached") > before
                });
                assert!(is_silent(&listener));
            }
            let listener = listen(&b.space, b.addresses[family]);
            for (space, from) in [(&a.space, a.addresses[family]), (&host.space, node)] {
                let before = host.drops("unattached");
                wait_for("a packet to be dropped", || {
                    send(space, from, b.addresses[family], "to");
                    host.drops("unattached") > before
                });
                assert!(is_silent(&listener));
            }
        }
    };
    assert_isolated(&host);
    host.admit(&b, false);
    assert_reached((&b.space, b.addresses[0]), (&a.space, a.addresses[0]));
    host.space.inside(|| host.firewall.expel(b.id())).expect("the endpoint is isolated");
    assert_isolated(&host);
}

#[test]
fn an_endpoint_that_gets_other_addresses_loses_the_old_ones() {
    let Some(mut host) = Host::new() else { return };
    let mut a = Endpoint::new(1);
    host.attach(&a);
    let old = std::mem::replace(&mut a.addresses, Endpoint::new(9).addresses);
    host.admit(&a, false);
    assert_eq!(host.faults(), [""; 0]);
    send(&a.space, old[0], NODE4.into(), "old");
    assert_eq!(host.drops("spoofed"), 1);
}

#[test]
fn nobody_else_enters_the_overlay_through_the_host_and_nothing_of_it_leaves() {
    let Some((mut host, outside)) = host_with_neighbour() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    let (near, far): (IpAddr, IpAddr) =
        ("192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address"));

    outside.ip("route add 10.91.0.0/16 via 192.0.2.1");
    let listener = listen(&a.space, a.addresses[0]);
    send(&outside, far, a.addresses[0], "in");
    wait_for("the packet to be dropped", || host.drops("foreign_in") == 1);
    assert!(is_silent(&listener));

    let listener = listen(&outside, far);
    send(&a.space, a.addresses[0], far, "out");
    wait_for("the packet to be dropped", || host.drops("foreign_out") == 1);
    assert!(is_silent(&listener));

    host.admit(&a, true);
    send(&a.space, a.addresses[0], far, "out");
    assert_eq!(received(&listener), ("out".to_owned(), near));
    host.admit(&a, false);
    send(&a.space, a.addresses[0], far, "out");
    wait_for("the packet to be dropped", || host.drops("foreign_out") > 1);
    assert!(is_silent(&listener));
}

#[test]
fn names_are_served_to_who_is_outside_the_mesh() {
    let Some((host, outside)) = host_with_neighbour() else { return };
    outside.ip("route add 10.91.0.0/16 via 192.0.2.1");
    let [names, other] = [53, 54].map(|port| socket(&host.space, SocketAddr::new(NODE4.into(), port)));
    let asker = socket(&outside, SocketAddr::new("192.0.2.2".parse().expect("an address"), 0));
    asker.send_to(b"else", (NODE4, 54)).expect("the datagram is sent");
    asker.send_to(b"name", (NODE4, 53)).expect("the datagram is sent");
    assert_eq!(received(&names).0, "name");
    names.send_to(b"address", asker.local_addr().expect("an address")).expect("the datagram is sent");
    assert_eq!(received(&asker), ("address".to_owned(), NODE4.into()));
    wait_for("the packet to be dropped", || host.drops("foreign_in") == 1);
    assert!(is_silent(&other));
}

#[test]
fn the_host_enters_the_mesh_under_the_nodes_address_only() {
    let Some(host) = Host::new() else { return };
    let far = Space::new().expect("a namespace");
    host.space.ip(&format!("link set mesh netns {}", far.path()));
    far.ip("link set mesh up");
    for (node, at, own) in [
        (IpAddr::from(NODE4), "10.91.0.2/32", "192.0.2.1/32"),
        (IpAddr::from(NODE6), "fd91::2/128", "2001:db8::1/128"),
    ] {
        far.ip(&format!("address add {at} dev mesh nodad"));
        far.ip(&format!("route add {node} dev mesh"));
        host.space.ip(&format!("route add {at} dev meshd0"));
        host.space.ip(&format!("address add {own} dev lo nodad"));
        let bare = |net: &str| net.split('/').next().and_then(|text| text.parse().ok()).expect("an address");
        let (own, at): (IpAddr, IpAddr) = (bare(own), bare(at));
        wait_for("the address to be the host's", || is_settled(&host.space));
        let listener = listen(&far, at);
        send(&host.space, own, at, "translated");
        assert_eq!(received(&listener), ("translated".to_owned(), node));
    }
}

#[test]
fn connections_fit_the_narrowest_link_on_their_way() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    host.attach(&a);
    host.attach(&b);
    for (at, headers) in [(b.addresses[0], 40), (b.addresses[1], 60)] {
        host.space.ip(&format!("route change {at} dev {} src {} mtu 1300", host_link(b.id()), node_of(at)));
        let listener = b.space.inside(|| TcpListener::bind((at, 0))).expect("a listener");
        let to = listener.local_addr().expect("an address");
        let _asker = a.space.inside(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("a connection");
        let (accepted, _) = listener.accept().expect("a connection");
        let size = getsockopt(&accepted, sockopt::TcpMaxSeg).expect("the size of a segment");
        assert!(size <= 1300 - headers, "{at}: {size}");
    }
}

#[test]
fn endpoints_get_no_tunnels_to_the_host() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    for (count, port) in [(1, 4789), (2, 8472), (3, 6081), (4, UNDERLAY_PORT)] {
        let listener = socket(&host.space, SocketAddr::new(GATEWAY4.into(), port));
        let sender = socket(&a.space, SocketAddr::new(a.addresses[0], 0));
        sender.send_to(b"tunnel", (GATEWAY4, port)).expect("the datagram is sent");
        wait_for("the packet to be dropped", || host.drops("tunnelled") == count);
        assert!(is_silent(&listener));
    }
    for (count, protocol) in [(5, 4), (6, 41), (7, 47)] {
        send_raw(&a.space, protocol, [0; 40]);
        wait_for("the packet to be dropped", || host.drops("tunnelled") == count);
    }
    // Another host's port of that number is none of our business.
    let b = Endpoint::new(2);
    host.attach(&b);
    let listener = socket(&b.space, SocketAddr::new(b.addresses[0], 4789));
    socket(&a.space, SocketAddr::new(a.addresses[0], 0))
        .send_to(b"own", SocketAddr::new(b.addresses[0], 4789))
        .expect("the datagram is sent");
    assert_eq!(received(&listener).0, "own");
}

#[test]
fn endpoints_do_not_get_at_the_registry_of_their_host() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    let connect = |port: u16| {
        let listener = host.space.inside(|| TcpListener::bind(("0.0.0.0", port))).expect("a listener");
        let target = SocketAddr::new(GATEWAY4.into(), port);
        let connected = a.space.inside(|| TcpStream::connect_timeout(&target, CONNECT_TIME_MAX)).is_ok();
        drop(listener);
        connected
    };
    assert!(!connect(CONTROL_PORT));
    assert!(host.drops("uninvited") > 0);
    assert!(connect(CONTROL_PORT + 1), "what else listens is the host's business");
}

#[test]
fn a_table_that_somebody_changed_is_noticed_and_mended() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    assert_eq!(host.faults(), [""; 0]);
    let link = host_link(a.id());
    for (change, fault) in [
        (format!("delete element inet meshd attached {{ {link} }}"), format!("missing: {link} in attached")),
        (
            "add element inet meshd origin4 { mshother . 10.0.0.1 }".to_owned(),
            "foreign: mshother with 10.0.0.1".to_owned(),
        ),
        ("insert rule inet meshd origin accept".to_owned(), "foreign: {\"rule\"".to_owned()),
        ("flush chain inet meshd guard_out".to_owned(), "missing: {\"rule\"".to_owned()),
        ("add element inet meshd mesh4 { 192.0.2.0/24 }".to_owned(), "foreign: {\"set\"".to_owned()),
        ("delete table inet meshd".to_owned(), "missing: {\"table\"".to_owned()),
    ] {
        said(&host.space, "nft", &change);
        let faults = host.faults();
        assert!(faults.iter().any(|found| found.starts_with(&fault)), "{change}: {faults:?}");
        let admitted = host.firewall.admitted().clone();
        host.firewall =
            host.space.inside(|| Firewall::install(&settings(), admitted)).expect("the table is mended");
        assert_eq!(host.faults(), [""; 0]);
    }
    let mut names = BTreeMap::new();
    for set in ["attached", "origin4", "origin6"] {
        names.insert(set, said(&host.space, "nft", &format!("list set inet meshd {set}")).contains(&link));
    }
    assert!(names.values().all(|is_there| *is_there), "{names:?}");
}

/// Sends a packet of this protocol to the gateway.
fn send_raw(space: &Space, protocol: i32, content: [u8; 40]) {
    space.inside(|| {
        let socket =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))).expect("a raw socket");
        socket.send_to(&content, &SocketAddr::from((GATEWAY4, 0)).into()).expect("the packet is sent");
    });
}

fn node_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => NODE4.into(),
        IpAddr::V6(_) => NODE6.into(),
    }
}

/// A host with an uplink to 192.0.2.2.
fn host_with_neighbour() -> Option<(Host, Space)> {
    let (host, outside) = (Host::new()?, Space::new()?);
    host.space.ip(&format!("link add uplink type veth peer name uplink netns {}", outside.path()));
    for (space, number) in [(&host.space, 1), (&outside, 2)] {
        space.ip(&format!("address add 192.0.2.{number}/24 dev uplink"));
        space.ip("link set uplink up");
    }
    Some((host, outside))
}
