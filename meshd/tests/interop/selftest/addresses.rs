//! Who owns which address, and addresses that would lead the tunnel into itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use meshd::dataplane::{PeerConfig, PeerKeys};
use meshd_tunnel::Suite;
use meshd_wire::NodeId;

use crate::rig::{
    Inbox, Ours, PATIENCE, PORT, Pair, Program, ProgramPeer, Remote, Scripted, Talk, Underlay,
    assert_reachable, external, in_both_suites, key, overlay4, overlay6, peer, public, tcp, udp4, udp6, v4,
    v6, wait_for,
};

/// Peers of one host, each with four prefixes.
const PEERS: u16 = 300;

in_both_suites!(a_route_that_leads_the_tunnel_into_itself_ends);

#[test]
fn hundreds_of_peers_talk_to_one_host() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let address = |number: u16| Ipv4Addr::from(0x0a5b_0400 + u32::from(number));
    let private = |number: u16| {
        let mut private = [7; 32];
        // The first byte has bits that do not count.
        private[1..3].copy_from_slice(&number.to_le_bytes());
        private
    };
    let configs: Vec<PeerConfig> = (0..PEERS)
        .map(|number| PeerConfig {
            node: NodeId(private(number)),
            name: format!("peer-{number}"),
            keys: PeerKeys::external(public(&private(number))),
            addrs: vec![
                IpNet::from(IpAddr::V4(address(number))),
                format!("10.91.{}.{}/31", 8 + number / 128, number % 128 * 2).parse().unwrap(),
                format!("fd5a:1::4:{number:x}/128").parse().unwrap(),
                format!("fd5a:1:0:{:x}::/64", 16 + number).parse().unwrap(),
            ],
            ..external(2, &[])
        })
        .collect();
    ours.set_peers(&configs);
    let inbox = Inbox::open(&pair.left, overlay4(1));
    let mut peers: Vec<Scripted> = Vec::new();
    for number in 0..PEERS {
        let mut scripted =
            Scripted::with_keys(&pair.right, 10_000 + number, private(number), public(&key(1)), None);
        scripted.call();
        let packet = udp4(address(number), v4(overlay4(1)), inbox.port(), &number.to_le_bytes());
        let sealed = scripted.seal(&packet);
        scripted.send(&sealed);
        assert_eq!(inbox.receive(), number.to_le_bytes());
        peers.push(scripted);
    }
    // Each finds its own answer when all are connected, also at its wider prefixes.
    for (number, scripted) in (0..PEERS).zip(&mut peers) {
        let wide = Ipv4Addr::new(10, 91, (8 + number / 128) as u8, (number % 128 * 2 + 1) as u8);
        for destination in [address(number), wide] {
            inbox.send(&number.to_be_bytes(), destination.into());
            let packet = scripted.receive(PATIENCE).expect("an answer");
            assert_eq!(packet[16..20], destination.octets());
            assert!(packet.ends_with(&number.to_be_bytes()));
        }
    }
    assert_eq!(ours.plane.peers().iter().filter(|stats| stats.up).count(), usize::from(PEERS));
}

#[test]
fn a_peer_may_own_everything_that_nobody_else_owns() {
    let Some(pair) = Pair::new() else { return };
    let everything = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let (outside4, outside6): (IpAddr, IpAddr) =
        ("198.51.100.5".parse().unwrap(), "2001:db8:5::5".parse().unwrap());
    for outside in [outside4, outside6] {
        pair.right.ip(&format!("address add {outside} dev lo nodad"));
    }
    pair.left.ip("route add blackhole 198.51.100.0/24 metric 1000");
    let ours = Ours::start(&pair.left, 1);
    pair.left.ip("route add 198.51.100.0/24 dev mesh src 10.91.0.1");
    pair.left.ip("route add 2001:db8:5::/64 dev mesh src fd5a:1::1");
    let _program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[Remote::of(1)]);
    let gateway = external(2, &[Underlay::V4.endpoint(2)]);
    let gateway = PeerConfig { addrs: [gateway.addrs.clone(), everything.to_vec()].concat(), ..gateway };
    ours.set_peers(&[gateway, external(3, &[])]);
    for (near, far) in [(overlay4 as fn(u8) -> _, outside4), (overlay6, outside6)] {
        assert_reachable((&pair.left, near(1)), (&pair.right, far));
        tcp((&pair.left, near(1)), (&pair.right, far), 1 << 20);
    }
    // The tunnel's own datagrams still take the underlay, and host 3 is still nobody's but its own.
    assert_eq!(ours.stats(2).endpoint, Some(Underlay::V4.endpoint(2)));
    pair.right.ip(&format!("address add {} dev lo", overlay4(3)));
    let drops = ours.count();
    Talk::new((&pair.right, overlay4(3)), (&pair.left, overlay4(1))).ask();
    drops.wait("bad-source", 1);
}

#[test]
fn bug16_the_owner_of_a_wide_prefix_cannot_speak_for_a_narrow_one_of_another() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let mut wide = external(2, &[]);
    wide.addrs.extend(["10.0.0.0/8".parse::<IpNet>().unwrap(), "fd00::/8".parse().unwrap()]);
    ours.set_peers(&[wide, external(3, &[])]);
    let mut second = Scripted::new(&pair.right, 2);
    second.call();
    let (inbox4, inbox6) = (Inbox::open(&pair.left, overlay4(1)), Inbox::open(&pair.left, overlay6(1)));
    let packet4 =
        |source: &str| udp4(source.parse().unwrap(), v4(overlay4(1)), inbox4.port(), source.as_bytes());
    let packet6 =
        |source: &str| udp6(source.parse().unwrap(), v6(overlay6(1)), inbox6.port(), source.as_bytes());
    let drops = ours.count();
    // Another peer's addresses, and our own.
    let forged = [packet4("10.91.0.3"), packet6("fd5a:1::3"), packet4("10.91.0.1"), packet6("fd5a:1::1")];
    for packet in forged {
        let sealed = second.seal(&packet);
        second.send(&sealed);
    }
    drops.wait("bad-source", 4);
    for packet in [packet4("10.91.0.4"), packet6("fd5a:1::4")] {
        let sealed = second.seal(&packet);
        second.send(&sealed);
    }
    assert_eq!((inbox4.receive(), inbox6.receive()), (b"10.91.0.4".to_vec(), b"fd5a:1::4".to_vec()));
}

#[test]
fn our_own_key_is_no_peer() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let _program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[Remote::of(1)]);
    let ourselves = PeerConfig { node: NodeId([99; 32]), ..external(1, &[Underlay::V4.endpoint(1)]) };
    let everywhere = PeerConfig { addrs: vec!["10.91.0.0/16".parse().unwrap()], ..ourselves.clone() };
    for ourselves in [ourselves, everywhere] {
        ours.set_peers(&[ourselves, external(2, &[Underlay::V4.endpoint(2)])]);
        let nodes: Vec<NodeId> = ours.plane.peers().iter().map(|stats| stats.node).collect();
        assert_eq!(nodes, [NodeId(key(2))]);
        Talk::new((&pair.left, overlay4(1)), (&pair.right, overlay4(2))).wait("the other peer to be reached");
    }
}

#[test]
fn an_endpoint_inside_the_overlay_is_never_called() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let inside = [overlay4(3), overlay6(3), "::ffff:10.91.0.3".parse().unwrap()];
    let inside = inside.map(|address: IpAddr| SocketAddr::new(address, PORT));
    ours.set_peers(&[external(2, &inside), external(3, &[])]);
    let mut third = Scripted::new(&pair.right, 3);
    third.call();
    let drops = ours.count();
    let mut talk = Talk::new((&pair.left, overlay4(1)), (&pair.left, overlay4(1)));
    assert!(talk.round(8, PATIENCE), "the host talks to itself without the tunnel");
    let nobody = Inbox::open(&pair.left, overlay4(1));
    nobody.send(b"to nobody", overlay4(2));
    drops.wait("no-path", 1);
    // Nothing went to host 3, whose overlay addresses these are, before what is sent to it now.
    nobody.send(b"to host 3", overlay4(3));
    assert!(third.receive(PATIENCE).expect("it is up").ends_with(b"to host 3"));
}

#[test]
fn a_datagram_from_inside_the_overlay_is_dropped() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    ours.set_peers(&[external(2, &[])]);
    pair.right.ip("address add 10.91.0.2/32 dev lo");
    pair.right.ip("route add 192.168.77.1/32 dev uplink src 10.91.0.2");
    let mut second = Scripted::new(&pair.right, 2);
    second.move_to(&pair.right, SocketAddr::new(overlay4(2), 9002));
    let drops = ours.count();
    for _ in 0..3 {
        let initiation = second.initiation();
        second.send(&initiation);
    }
    drops.wait("overlay-loop", 3);
    assert!(!ours.stats(2).up);
}

fn a_route_that_leads_the_tunnel_into_itself_ends(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let (ours, theirs) = (Ours::start(&pair.left, 1), Ours::start(&pair.right, 2));
    let mut gateway = peer(suite, 2, &[Underlay::V4.endpoint(2)]);
    gateway.addrs.push("192.168.77.2/32".parse().unwrap());
    ours.set_peers(&[gateway]);
    theirs.set_peers(&[peer(suite, 1, &[])]);
    let mut talk = Talk::new((&pair.left, overlay4(1)), (&pair.right, overlay4(2)));
    talk.wait("the tunnel to carry traffic");
    pair.left.ip("route add 192.168.77.2/32 dev mesh");
    assert!(!talk.round(64, Duration::from_millis(50)), "the way leads into the tunnel itself");
    // The loop has to die out by itself: each turn adds 60 bytes, and nothing is sent in fragments.
    let mut last = u64::MAX;
    wait_for("the loop to end", || {
        std::thread::sleep(Duration::from_millis(200));
        let sent = ours.stats(2).tx_packets;
        std::mem::replace(&mut last, sent) == sent
    });
    pair.left.ip("route delete 192.168.77.2/32 dev mesh");
    talk.wait("traffic when the way is right again");
}
