//! An underlay whose packets are smaller than either end believes, and that says nothing about it.

use std::net::IpAddr;

use meshd_tunnel::Suite;

use crate::rig::{
    Chain, Ours, PATIENCE, Relay, Side, Space, Talk, in_both_suites, overlay4, overlay6, peer, tcp, wait_for,
};

in_both_suites!(transfers_and_pings_end_where_the_underlay_swallows_large_packets);

fn transfers_and_pings_end_where_the_underlay_swallows_large_packets(suite: Suite) {
    let Some(chain) = Chain::new() else { return };
    chain.route();
    black_hole(&chain);
    let (ours, theirs) = (Ours::start_mtu(&chain.left, 1, 1420), Ours::start_mtu(&chain.right, 2, 1420));
    theirs.set_peers(&[peer(suite, 1, &[])]);
    ours.set_peers(&[peer(suite, 2, &[Relay::end(Side::Right)])]);
    let ends = ((&chain.left, overlay4(1)), (&chain.right, overlay4(2)));
    Talk::new(ends.0, ends.1).wait("small packets to pass");
    for (from, to) in [(ends.0, ends.1), (ends.1, ends.0)] {
        tcp(from, to, 1 << 20);
    }
    let sixes = ((&chain.left, overlay6(1)), (&chain.right, overlay6(2)));
    for (from, to) in [(sixes.0, sixes.1), (sixes.1, sixes.0)] {
        tcp(from, to, 1 << 20);
    }
    for (from, to) in [(&chain.left, overlay4(2)), (&chain.right, overlay4(1))] {
        wait_for("an answer to a large ping", || large_ping_is_answered(from, to));
    }
    // What fits is never hurt by what did not.
    let mut talk = Talk::new(ends.0, ends.1);
    for len in [8, 500, 1000, 1100] {
        assert!(talk.round(len, PATIENCE), "{len} bytes fit");
    }
}

/// Lets packets of at most 1280 bytes pass between the ends, and no word about the others.
fn black_hole(chain: &Chain) {
    for (space, device) in [(&chain.middle, "to-right"), (&chain.right, "uplink")] {
        space.ip(&format!("link set {device} mtu 1280"));
    }
    chain.middle.run("nft", "add table inet hole");
    chain.middle.run("nft", "add chain inet hole out { type filter hook output priority 0 ; }");
    chain.middle.run("nft", "add rule inet hole out icmp type destination-unreachable drop");
    chain.middle.run("nft", "add rule inet hole out icmpv6 type packet-too-big drop");
}

/// Whether a ping of 1400 bytes that must not be cut arrives, or its sender is told that it is too big.
fn large_ping_is_answered(from: &Space, to: IpAddr) -> bool {
    let said = from.output("ping", &format!("-n -c 1 -W 1 -M do -s {} {to}", 1400 - 28));
    said.contains("1 received") || said.contains("mtu")
}
