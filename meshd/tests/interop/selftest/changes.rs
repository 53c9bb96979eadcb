//! Peers, keys, addresses and devices that change while the tunnel is in use.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use meshd::dataplane::{PeerConfig, PeerKeys};
use meshd_tunnel::Suite;

use crate::rig::{
    Chain, Inbox, Ours, PATIENCE, PORT, Pair, Program, ProgramPeer, Relay, Remote, Scripted, Side, Talk,
    Underlay, assert_reachable, external, in_both_suites, key, overlay4, overlay6, peer, public,
    stream_while, tcp, udp4, v4, wait_for,
};

/// An address that wanders from peer to peer.
const WANDERER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 50);

in_both_suites!(
    nothing_leaves_for_a_removed_peer_and_nothing_of_it_enters,
    a_device_that_goes_down_and_up_carries_traffic_again,
    an_underlay_that_goes_down_and_up_carries_traffic_again,
);

#[test]
fn a_peer_that_changes_its_port_is_followed() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    ours.set_peers(&[external(2, &[])]);
    let remote = Remote::of(1).at(Underlay::V4.endpoint(1));
    let program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[remote]);
    let mut talk = Talk::new((&pair.right, overlay4(2)), (&pair.left, overlay4(1)));
    talk.wait("the program to call");
    for port in [4000, 4001, PORT] {
        program.wg_set(&format!("listen-port {port}"));
        talk.wait("an answer at the new port");
        assert_eq!(ours.stats(2).endpoint.map(|endpoint| endpoint.port()), Some(port));
    }
}

#[test]
fn a_peer_that_changes_its_address_and_family_is_followed() {
    let Some(pair) = Pair::new() else { return };
    pair.right.ip("address add 192.168.77.20/24 dev uplink");
    let ours = Ours::start(&pair.left, 1);
    ours.set_peers(&[external(2, &[])]);
    let mut scripted = Scripted::new(&pair.right, 2);
    scripted.call();
    let inbox = Inbox::open(&pair.left, overlay4(1));
    let homes = ["192.168.77.2:9002", "192.168.77.20:9001", "[2001:db8:77::2]:9003", "192.168.77.2:9002"];
    for (at, home) in homes.into_iter().enumerate() {
        scripted.move_to(&pair.right, home.parse().unwrap());
        let hello = [u8::try_from(at).expect("few homes")];
        let sealed = scripted.seal(&udp4(v4(overlay4(2)), v4(overlay4(1)), inbox.port(), &hello));
        scripted.send(&sealed);
        assert_eq!(inbox.receive(), hello);
        wait_for("the new home to be known", || ours.stats(2).endpoint == Some(home.parse().unwrap()));
        // What we send goes where it was heard last.
        inbox.send(b"answer", overlay4(2));
        assert!(scripted.receive(PATIENCE).expect("an answer at the new place").ends_with(b"answer"));
    }
}

#[test]
fn a_program_follows_us_when_we_move() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[Remote::of(1)]);
    ours.set_peers(&[external(2, &[Underlay::V4.endpoint(2)])]);
    let mut talk = Talk::new((&pair.left, overlay4(1)), (&pair.right, overlay4(2)));
    talk.wait("the tunnel to carry traffic");
    for home in ["192.168.77.100", "192.168.77.101"] {
        // The last address that was added goes first, so that there is never none.
        pair.left.ip("address flush dev uplink scope global");
        pair.left.ip(&format!("address add {home}/24 dev uplink"));
        talk.wait("an answer at the new address");
        assert_eq!(program.show("endpoints"), format!("{home}:{PORT}"));
    }
}

#[test]
fn an_address_moves_from_one_peer_to_another() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let owning = |host: u8, owns: bool| {
        let mut config = external(host, &[]);
        config.addrs.extend(owns.then_some(IpNet::from(IpAddr::V4(WANDERER))));
        config
    };
    ours.set_peers(&[owning(2, true), owning(3, false)]);
    let mut second = Scripted::new(&pair.right, 2);
    let mut third = Scripted::new(&pair.right, 3);
    second.call();
    third.call();
    ours.wait_up(2);
    ours.wait_up(3);
    let inbox = Inbox::open(&pair.left, overlay4(1));
    let from_wanderer = udp4(WANDERER, v4(overlay4(1)), inbox.port(), b"it is me");

    inbox.send(b"to the second", WANDERER.into());
    assert!(second.receive(PATIENCE).expect("it owns the address").ends_with(b"to the second"));
    for owner in [3, 2, 3] {
        ours.set_peers(&[owning(2, owner == 2), owning(3, owner == 3)]);
        let (new, old) = if owner == 2 { (&mut second, &mut third) } else { (&mut third, &mut second) };
        let drops = ours.count();
        let forged = old.seal(&from_wanderer);
        old.send(&forged);
        drops.wait("bad-source", 1);
        let honest = new.seal(&from_wanderer);
        new.send(&honest);
        assert_eq!(inbox.receive(), b"it is me");
        inbox.send(b"to the new owner", WANDERER.into());
        assert!(new.receive(PATIENCE).expect("it owns the address now").ends_with(b"to the new owner"));
    }
    assert!(ours.stats(2).up && ours.stats(3).up);
}

#[test]
fn a_program_with_a_new_key_is_a_new_peer() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let mut program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[Remote::of(1)]);
    let with_key = |private: &[u8; 32]| PeerConfig {
        keys: PeerKeys::external(public(private)),
        ..external(2, &[Underlay::V4.endpoint(2)])
    };
    for private in [key(2), [44; 32], [45; 32]] {
        program.set_key(private);
        ours.set_peers(&[with_key(&private)]);
        Talk::new((&pair.left, overlay4(1)), (&pair.right, overlay4(2))).wait("traffic with the new key");
    }
}

fn nothing_leaves_for_a_removed_peer_and_nothing_of_it_enters(suite: Suite) {
    let Some(chain) = Chain::new() else { return };
    let relay = Relay::start(&chain);
    let (ours, theirs) = (Ours::start(&chain.left, 1), Ours::start(&chain.right, 2));
    let peers = [peer(suite, 2, &[Relay::seen_from(Side::Left)])];
    ours.set_peers(&peers);
    theirs.set_peers(&[peer(suite, 1, &[])]);
    let ends = ((&chain.left, overlay4(1)), (&chain.right, overlay4(2)));
    let (mut there, mut back) = (Talk::new(ends.0, ends.1), Talk::new(ends.1, ends.0));
    there.wait("the tunnel to carry traffic");

    ours.set_peers(&[]);
    let sent = relay.recorded(Side::Left, 4).len();
    let drops = ours.count();
    for _ in 0..20 {
        assert!(!there.round(64, Duration::from_millis(1)), "nobody is there");
    }
    wait_for("all to be refused", || {
        drops.drops().iter().any(|(name, count)| *name == "no-peer" && *count >= 20)
    });
    let drops = ours.count();
    back.ask();
    drops.wait("unknown-index", 1);
    assert!(back.heard_nothing());
    assert_eq!(relay.recorded(Side::Left, 4).len(), sent, "a datagram left for the removed peer");

    ours.set_peers(&peers);
    Talk::new(ends.0, ends.1).wait("the peer to be welcome again");
    assert!(back.round(64, PATIENCE));
}

#[test]
fn peers_come_and_go_beside_a_transfer_that_loses_nothing() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    let _program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[Remote::of(1)]);
    let lasting = external(2, &[Underlay::V4.endpoint(2)]);
    ours.set_peers(std::slice::from_ref(&lasting));
    ours.wait_up(2);
    let ends = ((&pair.left, overlay4(1)), (&pair.right, overlay4(2)));
    let (mut talk, mut round) = (Talk::new(ends.1, ends.0), 0u8);
    stream_while(ends.0, ends.1, || {
        round += 1;
        let mut peers = vec![lasting.clone()];
        peers.extend((10..10 + round % 50).map(|host| external(host, &[])));
        ours.set_peers(&peers);
        assert!(talk.round(100, PATIENCE), "a datagram was lost");
        round < 200
    });
}

fn a_device_that_goes_down_and_up_carries_traffic_again(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let (ours, theirs) = (Ours::start(&pair.left, 1), Ours::start(&pair.right, 2));
    let mut events = ours.plane.events();
    ours.set_peers(&[peer(suite, 2, &[Underlay::V4.endpoint(2)])]);
    theirs.set_peers(&[peer(suite, 1, &[Underlay::V4.endpoint(1)])]);
    let ends = ((&pair.left, overlay4(1)), (&pair.right, overlay4(2)));
    Talk::new(ends.0, ends.1).wait("the tunnel to carry traffic");
    for _ in 0..3 {
        let mut from_them = Talk::new(ends.1, ends.0);
        pair.left.ip("link set mesh down");
        assert!(!from_them.round(64, Duration::from_millis(50)), "the device is down");
        pair.left.ip("link set mesh up");
        // The kernel forgot them with the device: whoever takes it down brings them back.
        pair.left.ip("route replace 10.91.0.0/16 dev mesh src 10.91.0.1");
        Talk::new(ends.0, ends.1).wait("traffic after the device is up");
        tcp(ends.1, ends.0, 1 << 20);
    }
    while let Ok(event) = events.try_recv() {
        assert_ne!(event, meshd::dataplane::Event::DeviceLost);
    }
}

fn an_underlay_that_goes_down_and_up_carries_traffic_again(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let (ours, theirs) = (Ours::start(&pair.left, 1), Ours::start(&pair.right, 2));
    ours.set_peers(&[peer(suite, 2, &[Underlay::V4.endpoint(2)])]);
    theirs.set_peers(&[peer(suite, 1, &[Underlay::V4.endpoint(1)])]);
    let mut talk = Talk::new((&pair.left, overlay4(1)), (&pair.right, overlay4(2)));
    talk.wait("the tunnel to carry traffic");
    for side in [&pair.left, &pair.right] {
        side.ip("link set uplink down");
        assert!(!talk.round(64, Duration::from_millis(50)), "the underlay is down");
        side.ip("link set uplink up");
        talk.wait("traffic after the underlay is up");
    }
    assert_reachable((&pair.right, overlay6(2)), (&pair.left, overlay6(1)));
}
