//! Trains over the loopback link: what the kernel is asked and what a refusal does.

use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{getsockopt, sockopt};

use super::option::Number;
use super::{GroupSocket, SEGMENTS_MAX, TRAIN_LEN_MAX, UdpGroup};
use crate::io::seam::{DatagramSocket, ReceiveMeta};
use crate::io::switches::{KernelVersion, Switches};

const SEGMENT: usize = 1400;

#[test]
fn a_train_goes_whole_and_arrives_whole() {
    let (from, to) = (group(switches()), group(switches()));
    from.shards[0].send(&train(40 * SEGMENT), SEGMENT, at(&to), 0).unwrap();
    let arrived = receive(&to.shards[0]);
    assert_eq!(arrived, [(40 * SEGMENT, SEGMENT)]);
    assert!(to.has_gro && from.has_gso);
}

#[test]
fn a_link_that_refused_trains_gets_datagrams_and_other_links_still_trains() {
    let (from, to) = (group(switches()), group(switches()));
    from.shards[0].refusals.add(at(&to).ip());
    from.shards[0].send(&train(40 * SEGMENT), SEGMENT, at(&to), 0).unwrap();
    assert_eq!(receive(&to.shards[0]), [(SEGMENT, SEGMENT); 40]);
    assert_eq!(from.tally().trains_refused(), 1);

    let other = SocketAddr::new("127.0.0.2".parse().unwrap(), to.port());
    from.shards[0].send(&train(40 * SEGMENT), SEGMENT, other, 0).unwrap();
    assert_eq!(receive(&to.shards[0]), [(40 * SEGMENT, SEGMENT)]);
}

#[test]
fn a_train_that_the_kernel_finds_invalid_goes_singly_this_once() {
    const NO_CHECK: Number = Number(libc::SOL_SOCKET, libc::SO_NO_CHECK);
    let (from, to) = (group(switches()), group(switches()));
    NO_CHECK.set(&from.shards[0], 1).unwrap();
    from.shards[0].send(&train(40 * SEGMENT), SEGMENT, at(&to), 0).unwrap();
    assert_eq!(receive(&to.shards[0]), [(SEGMENT, SEGMENT); 40]);
    NO_CHECK.set(&from.shards[0], 0).unwrap();
    from.shards[0].send(&train(40 * SEGMENT), SEGMENT, at(&to), 0).unwrap();
    assert_eq!(receive(&to.shards[0]), [(40 * SEGMENT, SEGMENT)]);
    assert_eq!(from.tally().trains_refused(), 0);
}

#[test]
fn one_datagram_never_goes_as_a_train() {
    let (from, to) = (group(switches()), group(switches()));
    for len in [1, SEGMENT - 1, SEGMENT] {
        from.shards[0].send(&train(len), SEGMENT, at(&to), 0).unwrap();
        let shard = if len > 4 { &to.shards[0] } else { &to.control };
        assert_eq!(receive(shard), [(len, len)]);
    }
    assert!(!from.shards[0].may_go_whole(SEGMENT, SEGMENT, at(&to)));
    assert!(from.shards[0].may_go_whole(SEGMENT + 1, SEGMENT, at(&to)));
}

#[test]
fn a_train_the_kernel_would_not_take_is_refused_without_asking_it() {
    let (from, to) = (group(switches()), group(switches()));
    for (len, segment) in [
        (46 * 1452, 1452),
        (64 * 100, 100),
        (SEGMENTS_MAX * 10 + 1, 10),
        (70_000, 70_000),
        (TRAIN_LEN_MAX + 1, 1452),
        (100, 0),
        (0, 100),
    ] {
        let refused = from.shards[0].send(&train_of(len, segment), segment, at(&to), 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{len} {segment}");
        assert_eq!(refused.raw_os_error(), None, "{len} {segment}");
    }
    let short_tail = (45 * 1452 + 96, 1452);
    for (len, segment) in [(45 * 1452, 1452), short_tail, (SEGMENTS_MAX * 100, 100), (TRAIN_LEN_MAX, 1452)] {
        from.shards[0].send(&train_of(len, segment), segment, at(&to), 0).unwrap();
        assert_eq!(receive(&to.shards[0]), [(len, segment)]);
    }
    assert!(receive(&to.shards[0]).is_empty());
}

#[test]
fn equal_tails_are_made_unequal_where_the_kernel_corrupts_them() {
    let affected = Switches { never_gso_equal_tail: true, ..switches() };
    let (from, to) = (group(affected), group(switches()));
    for (datagrams, rest, arrives) in [
        (45, 0, vec![(45 * SEGMENT + 1, SEGMENT)]),
        (44, 7, vec![(44 * SEGMENT + 7, SEGMENT)]),
        (8, 0, vec![(8 * SEGMENT + 1, SEGMENT)]),
        // A sentinel costs more than so few save.
        (7, 0, vec![(SEGMENT, SEGMENT); 7]),
        (1, 0, vec![(SEGMENT, SEGMENT)]),
    ] {
        from.shards[0].send(&train(datagrams * SEGMENT + rest), SEGMENT, at(&to), 0).unwrap();
        assert_eq!(receive(&to.shards[0]), arrives, "{datagrams}");
    }
    // Room for the sentinel is left in the longest trains.
    let segment = TRAIN_LEN_MAX / 9;
    from.shards[0].send(&train_of(9 * segment, segment), segment, at(&to), 0).unwrap();
    assert_eq!(receive(&to.shards[0]), [(9 * segment + 1, segment)]);
    from.shards[0].send(&train_of(SEGMENTS_MAX * 50, 50), 50, at(&to), 0).unwrap();
    assert_eq!(receive(&to.shards[0]), [(SEGMENTS_MAX * 50 + 1, 50)]);
}

#[test]
fn a_segment_far_longer_than_the_train_makes_one_datagram() {
    for never_gso_equal_tail in [false, true] {
        let from = group(Switches { never_gso_equal_tail, ..switches() });
        let to = group(switches());
        from.shards[0].send(&train(100), usize::MAX, at(&to), 0).unwrap();
        assert_eq!(receive(&to.shards[0]), [(100, 100)]);
    }
}

#[test]
fn only_handshakes_have_a_class() {
    let group = group(switches());
    for (socket, class) in [(&group.control, 0x88), (&group.shards[0], 0)] {
        assert_eq!(getsockopt(socket, sockopt::Ipv4Tos).unwrap(), class);
        assert_eq!(getsockopt(socket, sockopt::Ipv6TClass).unwrap(), class);
    }
}

#[test]
fn without_trains_in_the_kernel_everything_still_arrives() {
    let on = switches();
    let whole = vec![(40 * SEGMENT, SEGMENT)];
    let singly = vec![(SEGMENT, SEGMENT); 40];
    for (from, to, arrives) in [
        (Switches { udp_gso: false, ..on }, on, &singly),
        (on, Switches { udp_gro: false, ..on }, &singly),
        (Switches { udp_gso: false, ..on }, Switches { udp_gro: false, ..on }, &singly),
        (on, on, &whole),
    ] {
        let (from, to) = (group(from), group(to));
        from.shards[0].send(&train(40 * SEGMENT), SEGMENT, at(&to), 0).unwrap();
        assert_eq!(&receive(&to.shards[0]), arrives);
    }
}

#[test]
fn congestion_marks_travel_both_ways_in_both_families() {
    let (from, to) = (group(switches()), group(switches()));
    for target in ["127.0.0.1", "::1"] {
        let target = SocketAddr::new(target.parse().unwrap(), to.port());
        for ecn in 0..4 {
            from.shards[0].send(&train(2 * SEGMENT), SEGMENT, target, ecn).unwrap();
            let mut metas = [ReceiveMeta::default(); 1];
            let count = to.shards[0].receive(&mut vec![0; 65_536], &mut metas).unwrap();
            assert_eq!((count, metas[0].ecn), (1, ecn), "{target}");
            assert_eq!(metas[0].source, SocketAddr::new(target.ip(), from.port()));
        }
    }
}

#[test]
fn a_port_belongs_to_one_group() {
    let first = group(switches());
    for shards in [1, 2] {
        let second = UdpGroup::bind(first.port(), shards, switches()).unwrap_err();
        assert!(matches!(second, super::BindError::PortTaken { .. }), "{second}");
    }
    assert!(std::net::UdpSocket::bind(("0.0.0.0", first.port())).is_err());
    let port = first.port();
    drop(first);
    assert_eq!(UdpGroup::bind(port, 4, switches()).unwrap().shards.len(), 4);
}

#[test]
fn a_number_of_shards_that_no_mask_names_is_refused() {
    for shards in [0, 3, 128] {
        assert!(UdpGroup::bind(0, shards, switches()).is_err(), "{shards}");
    }
}

/// All on, also where the running kernel would be spared something.
fn switches() -> Switches {
    Switches { never_gso_equal_tail: false, ..Switches::for_kernel(KernelVersion(6, 12, 0)) }
}

fn group(switches: Switches) -> UdpGroup {
    UdpGroup::bind(0, 1, switches).unwrap()
}

fn at(group: &UdpGroup) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], group.port()))
}

/// Transport data of shard 0 by the first bytes of each datagram; the kernel looks no further.
fn train(len: usize) -> Vec<u8> {
    train_of(len, SEGMENT)
}

fn train_of(len: usize, segment: usize) -> Vec<u8> {
    let byte = |at: usize| match at.checked_rem(segment) {
        Some(0) => 4,
        Some(1..=4) => 0,
        Some(_) | None => at as u8,
    };
    (0..len).map(byte).collect()
}

/// Lengths and strides of what the socket holds. Loopback delivers before the send returns.
fn receive(socket: &GroupSocket) -> Vec<(usize, usize)> {
    let (mut slab, mut metas) = (vec![0; 4 * 65_536], [ReceiveMeta::default(); 4]);
    let mut arrived = Vec::new();
    loop {
        let count = socket.receive(&mut slab, &mut metas).unwrap();
        if count == 0 {
            return arrived;
        }
        assert!(metas.iter().take(count).all(|meta| !meta.truncated));
        arrived.extend(metas.iter().take(count).map(|meta| (meta.len, meta.stride)));
    }
}
