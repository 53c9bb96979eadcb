//! Paths that are narrower than the links at their ends, and of which no ICMP tells.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use crate::rig::*;

/// Bytes of one transfer: far more than any buffer on the way holds.
const TRANSFER_LEN: usize = 1 << 20;

#[test]
fn a_path_below_every_overlay_mtu_carries_tcp_and_answers_what_is_too_long() {
    let Some(pair) = Pair::narrow(1280) else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    assert_eq!((a.mtu(), b.mtu()), (1420, 1420));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    // At once, before anything is known of the path.
    for address in [IpAddr::V4(addr4(1)), IpAddr::V6(addr6(1))] {
        assert_transfer(&pair, address);
    }
    wait_for("the path to be measured", || [&a, &b].iter().all(|plane| plane.peers()[0].mtu == Some(1280)));
    for address in [IpAddr::V4(addr4(1)), IpAddr::V6(addr6(1))] {
        assert_transfer(&pair, address);
    }
    for address in [IpAddr::V4(addr4(1)), IpAddr::V6(addr6(1))] {
        assert_too_long(&pair, address, "1280");
    }
}

#[test]
fn a_path_below_every_overlay_mtu_that_swallows_fragments_too_carries_tcp_and_answers_what_can_be_answered() {
    let Some(pair) = Pair::narrow(1280) else { return };
    pair.swallow_fragments();
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    // 60 bytes are the outer headers' and the tunnel's.
    let fits = |mtu: Option<u16>| mtu.is_some_and(|mtu| (1212..=1220).contains(&mtu));
    wait_for("the path to be measured", || [&a, &b].iter().all(|plane| fits(plane.peers()[0].mtu)));
    for address in [IpAddr::V4(addr4(1)), IpAddr::V6(addr6(1))] {
        assert_transfer(&pair, address);
    }
    assert_too_long(&pair, IpAddr::V4(addr4(1)), "12");
    // No IPv6 host would believe less.
    assert_too_long(&pair, IpAddr::V6(addr6(1)), "1280");
    assert!(counter(&a, "too-big") > 0);
}

#[test]
fn a_link_that_becomes_narrow_is_noticed_with_the_first_packet_it_refuses() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    // Until then the path has been measured.
    assert_transfer(&pair, IpAddr::V4(addr4(1)));
    assert_eq!(a.peers()[0].mtu, Some(1420));
    pair.ip(0, "link set uplink mtu 1400");
    let socket = pair.inside(0, || UdpSocket::bind((addr4(0), 0))).unwrap();
    wait_for("the link to be measured", || {
        // Once it is measured, the host knows that the packet is too long.
        let _told = socket.send_to(&[7; 1392], (addr4(1), 7000));
        a.peers()[0].mtu.is_some_and(|mtu| (1332..=1340).contains(&mtu))
    });
    assert!(counter(&a, "udp-send-failed") > 0);
    assert_too_long(&pair, IpAddr::V6(addr6(1)), "13");
    assert_transfer(&pair, IpAddr::V4(addr4(1)));
}

#[test]
fn the_width_of_a_path_is_found_and_used() {
    let Some(pair) = Pair::narrow(1400) else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    // 60 bytes are the outer headers' and the tunnel's.
    let fits = |mtu: Option<u16>| mtu.is_some_and(|mtu| (1332..=1340).contains(&mtu));
    wait_for("the path to be measured", || [&a, &b].iter().all(|plane| fits(plane.peers()[0].mtu)));
    assert_transfer(&pair, IpAddr::V4(addr4(1)));
    for address in [IpAddr::V4(addr4(1)), IpAddr::V6(addr6(1))] {
        assert_too_long(&pair, address, "13");
    }
    assert!(counter(&a, "too-big") > 0);
}

/// Sends a megabyte from one side to the other by TCP.
pub(crate) fn assert_transfer(pair: &Pair, to: IpAddr) {
    let listener = pair.inside(1, || TcpListener::bind((to, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let sent: Vec<u8> = (0..TRANSFER_LEN).map(|at| (at / 7) as u8).collect();
        let mut stream = pair.inside(0, || TcpStream::connect_timeout(&at, PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        assert!(receiver.join().unwrap() == sent, "the transfer to {at} is whole");
    });
}

/// Pings with packets of 1,400 bytes that must not be fragmented, and expects to be told the MTU.
fn assert_too_long(pair: &Pair, target: IpAddr, mtu: &str) {
    let headers_len = if target.is_ipv4() { 28 } else { 48 };
    let text =
        pair.host(0).output("ping", &format!("-n -M do -s {} -c 2 -i 0.2 -W 2 {target}", 1400 - headers_len));
    let told = ["mtu = ", "mtu=", "mtu: "].iter().any(|word| text.contains(&format!("{word}{mtu}")));
    assert!(told, "{text}");
}
