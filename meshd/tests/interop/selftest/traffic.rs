//! Traffic of every kind, size and family, while nothing else changes.

use std::time::Duration;

use meshd_tunnel::Suite;

use crate::rig::{
    Chain, Ours, PATIENCE, PORT, Pair, Program, ProgramPeer, Relay, Remote, Side, Talk, Underlay,
    assert_reachable, external, in_both_suites, overlay4, overlay6, peer, ping, stream_while, tcp, wait_for,
};

/// Bytes of a transfer: some thousand segments.
const TRANSFER_LEN: usize = 4 << 20;

in_both_suites!(
    everything_arrives_over_an_ipv4_underlay_at_the_least_mtu,
    everything_arrives_over_an_ipv4_underlay,
    everything_arrives_over_an_ipv6_underlay,
    everything_arrives_over_an_ipv4_underlay_of_jumbo_frames,
    everything_arrives_over_an_ipv6_underlay_of_jumbo_frames,
    everything_arrives_at_the_greatest_mtu,
    the_mtu_may_change_during_a_transfer,
    a_route_with_an_mtu_of_its_own_is_obeyed,
    both_ends_count_the_same,
    many_streams_at_once_arrive_unmixed,
);

fn everything_arrives_over_an_ipv4_underlay_at_the_least_mtu(suite: Suite) {
    everything_arrives(suite, Underlay::V4, 1280, 1500);
}

fn everything_arrives_over_an_ipv4_underlay(suite: Suite) {
    everything_arrives(suite, Underlay::V4, 1420, 1500);
}

fn everything_arrives_over_an_ipv6_underlay(suite: Suite) {
    everything_arrives(suite, Underlay::V6, 1420, 1500);
}

fn everything_arrives_over_an_ipv4_underlay_of_jumbo_frames(suite: Suite) {
    everything_arrives(suite, Underlay::V4, 8920, 9000);
}

fn everything_arrives_over_an_ipv6_underlay_of_jumbo_frames(suite: Suite) {
    everything_arrives(suite, Underlay::V6, 8920, 9000);
}

fn everything_arrives_at_the_greatest_mtu(suite: Suite) {
    everything_arrives(suite, Underlay::V6, 65_440, 65_535);
}

fn the_mtu_may_change_during_a_transfer(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let _planes = connected(&pair, suite, Underlay::V4, 1420);
    let mut round = 0;
    stream_while((&pair.left, overlay4(1)), (&pair.right, overlay4(2)), || {
        round += 1;
        match round {
            50 => pair.left.ip("link set mesh mtu 1280"),
            100 => pair.right.ip("link set mesh mtu 1300"),
            150 => pair.left.ip("link set mesh mtu 1420"),
            200 => pair.right.ip("link set mesh mtu 1420"),
            _ => {}
        }
        round < 250
    });
    ping(&pair.left, overlay4(2), 1420 - 28);
}

fn a_route_with_an_mtu_of_its_own_is_obeyed(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let _planes = connected(&pair, suite, Underlay::V4, 1420);
    pair.left.ip("route add 10.91.0.2/32 dev mesh mtu 1300");
    for len in 1240..=1300 - 28 {
        ping(&pair.left, overlay4(2), len);
    }
    tcp((&pair.left, overlay4(1)), (&pair.right, overlay4(2)), TRANSFER_LEN);
}

fn both_ends_count_the_same(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let (ours, theirs) = connected(&pair, suite, Underlay::V4, 1420);
    let before = (ours.stats(2), theirs.stats(1));
    pair.left.run("ping", "-n -q -c 10 -i 0.01 -W 20 -s 92 10.91.0.2");
    wait_for("the last answer to be counted", || ours.stats(2).rx_packets == before.0.rx_packets + 10);
    let after = (ours.stats(2), theirs.stats(1));
    for (now, then) in [(&after.0, &before.0), (&after.1, &before.1)] {
        assert_eq!((now.rx_packets, now.tx_packets), (then.rx_packets + 10, then.tx_packets + 10));
        assert_eq!((now.rx_bytes, now.tx_bytes), (then.rx_bytes + 1200, then.tx_bytes + 1200));
    }
}

fn many_streams_at_once_arrive_unmixed(suite: Suite) {
    let Some(pair) = Pair::new() else { return };
    let _planes = connected(&pair, suite, Underlay::V4, 1420);
    let (left, right) = (&pair.left, &pair.right);
    std::thread::scope(|scope| {
        for address in [overlay4, overlay6] {
            for _ in 0..4 {
                scope.spawn(move || tcp((left, address(1)), (right, address(2)), TRANSFER_LEN));
                scope.spawn(move || tcp((right, address(2)), (left, address(1)), TRANSFER_LEN));
            }
        }
    });
}

#[test]
fn a_persistent_keepalive_keeps_an_idle_tunnel_alive() {
    let Some(pair) = Pair::new() else { return };
    let ours = Ours::start(&pair.left, 1);
    ours.set_peers(&[external(2, &[])]);
    let remote = Remote { keepalive: Some(1), ..Remote::of(1).at(Underlay::V4.endpoint(1)) };
    let _program = ProgramPeer::start(&pair.right, Program::WireguardGo, 2, &[remote]);
    ours.wait_up(2);
    // Two in a row: the first may be what confirms the session.
    for _ in 0..2 {
        wait_for("the tunnel to be silent", || silence(&ours) > Duration::from_millis(500));
        wait_for("a keepalive", || silence(&ours) < Duration::from_millis(500));
    }
    assert_eq!(ours.stats(2).rx_packets, 0);
}

#[test]
fn a_peer_behind_nat_is_reached_while_it_keeps_the_way_open() {
    let Some(chain) = Chain::new() else { return };
    chain.route();
    chain.middle.run("nft", "add table ip nat");
    chain.middle.run("nft", "add chain ip nat post { type nat hook postrouting priority 100 ; }");
    chain.middle.run("nft", "add rule ip nat post oifname to-right masquerade");
    // Without the keepalives the middle would forget the peer between two questions.
    for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
        chain.middle.set(&format!("/proc/sys/net/netfilter/{name}"), "2");
    }
    let ours = Ours::start(&chain.right, 1);
    ours.set_peers(&[external(2, &[])]);
    let remote = Remote { keepalive: Some(1), ..Remote::of(1).at(Relay::end(Side::Right)) };
    let _program = ProgramPeer::start(&chain.left, Program::WireguardGo, 2, &[remote]);
    ours.wait_up(2);
    assert_eq!(ours.stats(2).endpoint.map(|endpoint| endpoint.ip()), Some([192, 168, 78, 254].into()));
    let mut talk = Talk::new((&chain.right, overlay4(1)), (&chain.left, overlay4(2)));
    talk.wait("the first answer through the nat");
    for _ in 0..2 {
        // Longer than the middle remembers.
        let heard = std::time::Instant::now();
        wait_for("the middle to forget", || heard.elapsed() > Duration::from_millis(2500));
        assert!(talk.round(64, PATIENCE), "the peer is reached after a pause");
    }
}

fn silence(ours: &Ours) -> Duration {
    ours.stats(2).last_received.expect("it was heard")
}

/// Two hosts with a tunnel that is up.
fn connected(pair: &Pair, suite: Suite, underlay: Underlay, mtu: u16) -> (Ours, Ours) {
    let (ours, theirs) = (Ours::start_mtu(&pair.left, 1, mtu), Ours::start_mtu(&pair.right, 2, mtu));
    // Only one calls: two handshakes at once may cost a datagram.
    theirs.set_peers(&[peer(suite, 1, &[])]);
    ours.set_peers(&[peer(suite, 2, &[underlay.endpoint(2)])]);
    ours.wait_up(2);
    theirs.wait_up(1);
    (ours, theirs)
}

fn everything_arrives(suite: Suite, underlay: Underlay, mtu: u16, link_mtu: u32) {
    let Some(pair) = Pair::new() else { return };
    assert_eq!(underlay.endpoint(1).port(), PORT);
    for space in [&pair.left, &pair.right] {
        space.ip(&format!("link set uplink mtu {link_mtu}"));
    }
    let planes = connected(&pair, suite, underlay, mtu);
    let ends = |host: u8| if host == 1 { &pair.left } else { &pair.right };
    let largest = usize::from(mtu);
    for (from, to) in [(1, 2), (2, 1)] {
        for (address, header_len) in [(overlay4 as fn(u8) -> _, 20), (overlay6, 40)] {
            let (source, destination) = ((ends(from), address(from)), (ends(to), address(to)));
            assert_reachable(source, destination);
            ping(source.0, destination.1, 0);
            ping(source.0, destination.1, largest - header_len - 8);
            let mut talk = Talk::new(source, destination);
            // Every length around the padding, the largest packet, and one that travels in fragments.
            let largest = largest - header_len - 8;
            let fragmented = (2 * largest).min(65_000);
            for len in (8..80).chain([largest - 17, largest - 16, largest - 1, largest, fragmented]) {
                assert!(talk.round(len, PATIENCE), "{len} bytes to {}", destination.1);
            }
            tcp(source, destination, TRANSFER_LEN);
        }
    }
    drop(planes);
}
