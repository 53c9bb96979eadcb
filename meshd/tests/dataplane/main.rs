//! Two data planes in two network namespaces. Needs root and /dev/net/tun.

mod mistakes;
mod paths;
mod rig;
mod tunnels;

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use meshd::dataplane::{DataPlane, DataPlaneConfig, DataPlaneError, Event, PeerConfig, PingError};

use rig::*;

#[test]
fn two_nodes_reach_each_other_over_both_families() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    let mut events = a.events();
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);

    wait_for("the tunnel to come up without traffic", || a.peers()[0].up && b.peers()[0].up);
    assert!(matches!(events.try_recv(), Ok(Event::PeerUp { node, .. }) if node == node_id(1)));
    for (from, to) in [(0, 1), (1, 0)] {
        assert_datagram_arrives(&pair, from, IpAddr::V4(addr4(from)), IpAddr::V4(addr4(to)), to);
        assert_datagram_arrives(&pair, from, IpAddr::V6(addr6(from)), IpAddr::V6(addr6(to)), to);
    }
    for (plane, other) in [(&a, 1), (&b, 0)] {
        let reply = block_on(plane.ping(&node_id(other), 1000)).unwrap();
        assert_eq!(reply.path, SocketAddr::new(underlay4(other), PORT));
        assert_eq!(reply.address, IpAddr::V4(addr4(other)));
    }
    assert_eq!(block_on(a.ping(&node_id(9), 8)), Err(PingError::UnknownPeer));
    let stats = &a.peers()[0];
    assert!(stats.last_handshake.is_some());
    assert!(stats.tx_packets >= 3 && stats.rx_packets >= 3, "{stats:?}");
    assert_eq!(a.mtu(), 1420);
}

#[test]
fn an_address_nobody_owns_is_answered_as_unreachable() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    a.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(1) }]);
    for address in [
        IpAddr::V4(Ipv4Addr::new(10, 91, 7, 7)),
        IpAddr::V6("fd5a:1::7:7".parse().unwrap()),
        IpAddr::V4(addr4(1)),
        IpAddr::V6(addr6(1)),
    ] {
        let refusal = || {
            let connected =
                pair.inside(0, || TcpStream::connect_timeout(&SocketAddr::new(address, 80), PATIENCE));
            connected.expect_err("nobody listens there")
        };
        // Now and then the kernel closes a socket whose error it does not tell; the next socket's it does.
        let is_told = |error: &Error| error.to_string() != "no error set after POLLHUP";
        let error = Some(refusal()).filter(is_told).unwrap_or_else(refusal);
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{address}: {error}");
    }
    assert!(counter(&a, "no-peer") >= 2);
    assert!(counter(&a, "no-path") >= 2);
    assert_eq!(block_on(a.ping(&node_id(1), 8)), Err(PingError::Unreachable));
}

#[test]
fn a_source_address_of_somebody_else_is_dropped_and_counted() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    pair.ip(0, "address add 10.91.0.99/32 dev mesh-a");
    let socket = pair.inside(0, || UdpSocket::bind("10.91.0.99:0")).unwrap();
    let listener = pair.inside(1, || UdpSocket::bind((addr4(1), 7000))).unwrap();
    socket.send_to(b"forged", (addr4(1), 7000)).unwrap();
    wait_for("the drop to be counted", || counter(&b, "bad-source") == 1);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn garbage_is_counted_and_harms_nothing() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    let socket = pair.inside(0, || UdpSocket::bind((underlay4(0), 0))).unwrap();
    let target = SocketAddr::new(underlay4(1), PORT);
    let datagrams: [(&str, &[u8]); 5] = [
        ("too-short", b""),
        ("too-short", &[4, 0, 0, 0]),
        ("not-tunnel", &[9; 200]),
        ("bad-handshake", &{
            let mut initiation = [7; 148];
            initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
            initiation
        }),
        ("unknown-index", &{
            let mut data = [0xee; 96];
            data[..4].copy_from_slice(&[4, 0, 0, 0]);
            data[8..16].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
            data
        }),
    ];
    for (reason, datagram) in datagrams {
        let before = counter(&b, reason);
        socket.send_to(datagram, target).unwrap();
        wait_for(reason, || counter(&b, reason) > before);
    }
    assert!(block_on(a.ping(&node_id(1), 8)).is_ok());
}

#[test]
fn a_restarted_node_is_reached_again() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    drop(b);

    let b = pair.start(1);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come back", || b.peers()[0].up);
    assert!(block_on(a.ping(&node_id(1), 8)).is_ok());
}

#[test]
fn a_removed_peer_is_cut_off_at_once() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let mut events = b.events();

    b.set_peers(Vec::new());
    assert_eq!(events.try_recv(), Ok(Event::PeerDown { node: node_id(0) }));
    let socket = pair.inside(0, || UdpSocket::bind((addr4(0), 0))).unwrap();
    socket.send_to(b"late", (addr4(1), 7000)).unwrap();
    wait_for("the late packet to be refused", || counter(&b, "unknown-index") >= 1);
}

#[test]
fn what_is_taken_is_named_and_nothing_stays_behind() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    let again = pair.inside(0, || DataPlane::start(pair.config(0))).expect_err("the port is taken");
    assert!(matches!(again, DataPlaneError::Bind(_)), "{again}");
    assert_eq!(again.to_string(), "udp port 51820 is taken by another program");
    let again = pair
        .inside(0, || DataPlane::start(DataPlaneConfig { udp_port: 0, ..pair.config(0) }))
        .expect_err("the name is taken");
    assert_eq!(again.to_string(), "device name mesh-a is taken by another program");

    a.stop();
    pair.inside(0, || {
        assert!(nix::net::if_::if_nametoindex("mesh-a").is_err(), "the device is gone");
    });
    drop(a);
    drop(pair.start(0));
}

#[test]
fn a_route_of_somebody_else_is_never_replaced() {
    let Some(pair) = Pair::new() else { return };
    pair.ip(0, "route add 10.91.0.0/16 via 192.168.77.2");
    let refused = pair.inside(0, || DataPlane::start(pair.config(0))).expect_err("the prefix is routed");
    assert!(matches!(refused, DataPlaneError::Device(_)), "{refused}");
    pair.inside(0, || {
        assert!(nix::net::if_::if_nametoindex("mesh-a").is_err(), "the device is gone");
        let conflict = meshd::os::conflicting_route("10.91.0.0/16".parse().unwrap(), "mesh-a").unwrap();
        assert_eq!(conflict.as_deref(), Some("route 10.91.0.0/16 on uplink"));
    });
}

#[test]
fn a_persistent_device_left_behind_is_replaced() {
    let Some(pair) = Pair::new() else { return };
    pair.ip(0, "tuntap add mesh-a mode tun");
    let a = pair.start(0);
    drop(a);
    pair.inside(0, || {
        assert!(nix::net::if_::if_nametoindex("mesh-a").is_err(), "the device is gone");
    });
}

#[test]
fn the_host_tells_its_candidates_and_conflicts() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    let overlay = prefixes();
    let candidates = pair.inside(0, || meshd::os::local_candidates(&overlay)).unwrap();
    assert_eq!(candidates, vec![underlay4(0), underlay6(0)]);

    let conflict = |prefix: &str, own: &str| {
        pair.inside(0, || meshd::os::conflicting_route(prefix.parse().unwrap(), own)).unwrap()
    };
    assert_eq!(conflict("10.91.0.0/16", "mesh-a"), None);
    assert_eq!(conflict("10.91.0.0/16", "other").as_deref(), Some("route 10.91.0.0/16 on mesh-a"));
    assert_eq!(conflict("192.168.0.0/16", "mesh-a").as_deref(), Some("route 192.168.77.0/24 on uplink"));
    drop(a);
}

#[test]
fn a_device_taken_away_is_reported() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    let mut events = a.events();
    pair.ip(0, "link delete mesh-a");
    wait_for("the loss to be reported", || events.try_recv() == Ok(Event::DeviceLost));
}

#[test]
fn one_side_that_knows_the_way_is_enough() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(0) }]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    assert!(block_on(b.ping(&node_id(0), 8)).is_ok());
}

#[test]
fn a_peer_that_learns_of_us_late_is_reached_when_its_way_becomes_known() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    b.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(0) }]);
    a.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(1) }]);
    assert_eq!(block_on(a.ping(&node_id(1), 8)), Err(PingError::Unreachable));
    a.set_peers(vec![pair.peer(1)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
}

#[test]
fn a_node_that_moves_is_followed() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let mut events = b.events();

    pair.ip(0, "address add 192.168.77.100/24 dev uplink");
    pair.ip(0, "address delete 192.168.77.1/24 dev uplink");
    pair.ip(0, "address replace 192.168.77.100/24 dev uplink");
    a.greet_peers();
    let endpoint: SocketAddr = "192.168.77.100:51820".parse().unwrap();
    let moved = Event::PathChanged { node: node_id(0), endpoint };
    wait_for("the new address to be proven", || events.try_recv() == Ok(moved));
    assert_eq!(b.peers()[0].endpoint, Some(endpoint));
    assert!(block_on(b.ping(&node_id(0), 8)).is_ok());
}

#[test]
fn without_ipv6_in_the_kernel_the_overlay_carries_ipv4() {
    let Some(pair) = Pair::new() else { return };
    pair.host(0).set("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let (a, b) = (pair.start(0), pair.start(1));
    assert!(!a.has_ipv6() && b.has_ipv6());
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    assert_datagram_arrives(&pair, 0, IpAddr::V4(addr4(0)), IpAddr::V4(addr4(1)), 1);
}

#[test]
fn changes_of_addresses_are_noticed() {
    let Some(pair) = Pair::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    let handle = runtime.handle().clone();
    let watch = pair.inside(0, || {
        let _entered = handle.enter();
        meshd::os::AddressWatch::open()
    });
    drop(entered);
    let watch = watch.unwrap();
    pair.ip(0, "address add 192.168.77.200/24 dev uplink");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, watch.changed()).await }).unwrap().unwrap();
}

#[test]
fn datagrams_that_find_the_buffer_full_are_counted() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    // Nobody takes what comes, but the port is still held.
    a.stop();
    assert_eq!(counter(&a, "udp-buffer-full"), 0);
    let sender = pair.inside(1, || UdpSocket::bind((underlay4(1), 0))).unwrap();
    wait_for("a full buffer", || {
        for _ in 0..100 {
            sender.send_to(&[1; 1400], (underlay4(0), PORT)).unwrap();
        }
        counter(&a, "udp-buffer-full") > 0
    });
    assert_eq!(a.trains_refused(), 0);
}
