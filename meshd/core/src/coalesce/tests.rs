use proptest::prelude::*;

use super::*;
use crate::fixture::{ACK, CWR, FIN, PSH, Recipe, SYN, is_valid, noise};
use crate::split;
use crate::vnet::{Gso, VnetHeader};

const ALL: CoalesceSwitches = CoalesceSwitches { tcp: true, udp: true };

/// What the host gets of a burst: vnet header and packet, merged by the gather list.
fn merge(switches: CoalesceSwitches, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let written = merge_by(switches, packets, |coalescer, slab, place| coalescer.push(slab, place).unwrap());
    let followed = merge_by(switches, packets, |coalescer, slab, place| {
        if !coalescer.follow(slab, &place) {
            coalescer.push(slab, place).unwrap();
        }
    });
    assert_eq!(followed, written, "a packet that follows is one that would have been merged");
    written
}

fn merge_by(
    switches: CoalesceSwitches,
    packets: &[Vec<u8>],
    take: impl Fn(&mut Coalescer, &[u8], Range<usize>),
) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut coalescer = Coalescer::new(switches);
    let (mut slab, places) = laid_out(packets);
    for place in places {
        take(&mut coalescer, &slab, place);
    }
    let mut written = Vec::new();
    coalescer.drain(&mut slab, &mut |vnet, slab, ranges| {
        assert!((1..=RANGES_MAX).contains(&ranges.len()));
        let packet: Vec<u8> = ranges.iter().flat_map(|range| slab[range.clone()].to_vec()).collect();
        written.push((VnetHeader::parse(vnet).unwrap(), packet));
    });
    coalescer.drain(&mut slab, &mut |_, _, _| panic!("a packet came twice"));
    written
}

/// Packets as they lie in a receive buffer.
fn laid_out(packets: &[Vec<u8>]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut slab = Vec::new();
    let places = packets.iter().map(|packet| {
        // Between two packets lie the header and the tag of a message.
        slab.extend([0xee; 16]);
        slab.extend(packet);
        slab.len() - packet.len()..slab.len()
    });
    let places = places.collect();
    (slab, places)
}

fn lens(packets: &[Vec<u8>]) -> Vec<usize> {
    merge(ALL, packets).iter().map(|(_, packet)| packet.len()).collect()
}

/// What a super-packet was merged from, up to the identifications.
fn cut(written: &[(VnetHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (vnet, packet) in written {
        let mut packet = packet.clone();
        let mut splitter = split::parse(vnet, &packet).unwrap().splitter(65_535).unwrap();
        while let Some(segment) = splitter.next(&mut packet) {
            packets.push(segment.to_vec());
        }
    }
    packets
}

/// Segments of one connection, each of the given length.
fn segments(is_v6: bool, lens: &[usize]) -> Vec<Recipe> {
    let mut sequence = u32::MAX - 2000;
    let segment = |len: &usize| {
        let recipe = Recipe::tcp(is_v6, sequence, noise(*len));
        sequence = sequence.wrapping_add(*len as u32);
        recipe
    };
    lens.iter().map(segment).collect()
}

fn packets(recipes: &[Recipe]) -> Vec<Vec<u8>> {
    recipes.iter().map(Recipe::packet).collect()
}

/// Two segments that would merge but for one change to the second.
fn assert_apart(what: &str, change: impl Fn(&mut Recipe)) {
    for is_v6 in [false, true] {
        let mut recipes = segments(is_v6, &[100, 100]);
        assert_eq!(lens(&packets(&recipes)).len(), 1);
        change(&mut recipes[1]);
        let packets = packets(&recipes);
        let written = merge(ALL, &packets);
        assert_eq!(written, packets.map_plain(), "{what}, IPv6 {is_v6}");
    }
}

/// Two packets that would merge but for one change to the bytes of the second.
fn assert_bytes_apart(what: &str, is_v6: bool, change: impl Fn(&mut Vec<u8>)) {
    for recipes in [segments(is_v6, &[100, 100]), vec![Recipe::udp(is_v6, noise(100)); 2]] {
        let mut packets = packets(&recipes);
        assert_eq!(lens(&packets).len(), 1);
        change(&mut packets[1]);
        assert_eq!(merge(ALL, &packets), packets.map_plain(), "{what}, {recipes:?}");
    }
}

trait Plain {
    /// Each as it came, with an empty header.
    fn map_plain(&self) -> Vec<(VnetHeader, Vec<u8>)>;
}

impl Plain for Vec<Vec<u8>> {
    fn map_plain(&self) -> Vec<(VnetHeader, Vec<u8>)> {
        self.iter().map(|packet| (VnetHeader::default(), packet.clone())).collect()
    }
}

#[test]
fn segments_become_one_super_packet_that_the_kernel_can_cut() {
    for is_v6 in [false, true] {
        let recipes = segments(is_v6, &[1000, 1000, 400]);
        let written = merge(ALL, &packets(&recipes));
        let [(vnet, packet)] = &written[..] else { panic!("{} packets", written.len()) };
        let mut whole = Recipe { payload: Vec::new(), ..recipes[0].clone() };
        recipes.iter().for_each(|recipe| whole.payload.extend(&recipe.payload));
        assert_eq!(*vnet, whole.vnet(1000));
        assert_eq!(*packet, whole.unfinished());
    }
}

#[test]
fn datagrams_become_one_super_packet_that_the_kernel_can_cut() {
    for is_v6 in [false, true] {
        let mut whole = Recipe::udp(is_v6, noise(700));
        let packets = packets(&[300, 300, 100].map(|len| Recipe::udp(is_v6, noise(len))));
        whole.payload = [noise(300), noise(300), noise(100)].concat();
        assert_eq!(merge(ALL, &packets), [(whole.vnet(300), whole.unfinished())]);
    }
}

#[test]
fn full_segments_follow_the_one_before_until_something_comes_between() {
    let follow = |packets: &[Vec<u8>], interrupted: usize| -> Vec<bool> {
        let (slab, places) = laid_out(packets);
        let mut coalescer = Coalescer::new(ALL);
        let followed = places.into_iter().enumerate().map(|(at, place)| {
            if at == interrupted {
                coalescer.interrupt();
            }
            let follows = coalescer.follow(&slab, &place);
            if !follows {
                coalescer.push(&slab, place).unwrap();
            }
            follows
        });
        followed.collect()
    };
    for is_v6 in [false, true] {
        let of_tcp = packets(&segments(is_v6, &[500, 500, 500, 500, 100]));
        let of_udp = packets(&[500, 500, 500, 500, 100].map(|len| Recipe::udp(is_v6, noise(len))));
        for packets in [of_tcp, of_udp] {
            assert_eq!(follow(&packets, 0), [false, true, true, true, false]);
            assert_eq!(follow(&packets, 2), [false, true, false, true, false]);
            let mut mixed = packets.clone();
            mixed.insert(2, Recipe { source_port: 9, ..Recipe::udp(!is_v6, noise(500)) }.packet());
            assert_eq!(follow(&mixed, 0), [false, true, false, false, true, false]);
        }
    }
}

#[test]
fn push_does_not_end_a_super_packet_of_one_burst_and_stays() {
    let mut recipes = segments(false, &[500, 500, 500]);
    recipes[0].flags = ACK | PSH;
    let written = merge(ALL, &packets(&recipes));
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].1[33], ACK | PSH);
    recipes[0].flags = ACK;
    assert_eq!(merge(ALL, &packets(&recipes))[0].1[33], ACK);
}

#[test]
fn push_of_a_later_segment_stays_too() {
    let mut recipes = segments(true, &[500, 500, 500]);
    recipes[1].flags = ACK | PSH;
    let written = merge(ALL, &packets(&recipes));
    assert_eq!((written.len(), written[0].1[53]), (1, ACK | PSH));
}

#[test]
fn a_shorter_segment_ends_a_super_packet() {
    assert_eq!(lens(&packets(&segments(false, &[500, 400, 400, 400]))), [52 + 900, 52 + 800]);
}

#[test]
fn nothing_longer_follows() {
    assert_eq!(lens(&packets(&segments(false, &[400, 500, 500]))), [52 + 400, 52 + 1000]);
    let udp = packets(&[100, 200, 200].map(|len| Recipe::udp(true, noise(len))));
    assert_eq!(lens(&udp), [48 + 100, 48 + 400]);
}

#[test]
fn a_gap_or_a_step_back_begins_anew() {
    assert_apart("a gap", |recipe| recipe.sequence = recipe.sequence.wrapping_add(1));
    assert_apart("a step back", |recipe| recipe.sequence = recipe.sequence.wrapping_sub(100));
}

#[test]
fn only_plain_data_is_merged() {
    for flags in [FIN, SYN, CWR, 0x04, 0x20, 0x40] {
        assert_apart("a flag", |recipe| recipe.flags |= flags);
    }
    assert_apart("no acknowledgement", |recipe| recipe.flags = PSH);
    assert_apart("no payload", |recipe| recipe.payload.clear());
}

#[test]
fn other_connections_stay_apart() {
    assert_apart("another port", |recipe| recipe.source_port += 1);
    assert_apart("other options", |recipe| recipe.options[7] += 1);
    assert_apart("more options", |recipe| recipe.options.extend([1, 1, 1, 1]));
    assert_apart("fewer options", |recipe| recipe.options.clear());
    assert_apart("another protocol", |recipe| {
        *recipe = Recipe::udp(recipe.is_v6, noise(100));
    });
}

#[test]
fn mistake09_packets_that_differ_in_what_a_super_packet_says_once_stay_apart() {
    let at_ip4 = [("tos", 1), ("ttl", 8), ("source", 13), ("destination", 18)];
    for (what, at) in at_ip4 {
        assert_bytes_apart(what, false, |packet| packet[at] ^= 1);
    }
    assert_bytes_apart("don't fragment", false, |packet| packet[6] ^= 0x40);
    assert_bytes_apart("more fragments", false, |packet| packet[6] |= 0x20);
    assert_bytes_apart("a later fragment", false, |packet| packet[7] = 1);
    assert_bytes_apart("the reserved flag", false, |packet| packet[6] |= 0x80);
    assert_bytes_apart("ipv4 options", false, |packet| {
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 0]);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
    });
    let at_ip6 =
        [("traffic class", 0), ("flow label", 3), ("hop limit", 7), ("source", 9), ("destination", 30)];
    for (what, at) in at_ip6 {
        assert_bytes_apart(what, true, |packet| packet[at] ^= 1);
    }
    assert_bytes_apart("extension headers", true, |packet| {
        let next = packet[6];
        packet[6] = 60;
        packet.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
        let len = packet.len() as u16 - 40;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
    });
    for is_v6 in [false, true] {
        assert_bytes_apart("a length that is not the buffer's", is_v6, |packet| packet.push(0));
    }
    let tcp = |at: usize| {
        let mut packets = packets(&segments(false, &[100, 100]));
        packets[1][20 + at] ^= 1;
        assert_eq!(merge(ALL, &packets), packets.map_plain(), "byte {at} of the TCP header");
    };
    // Acknowledgement, reserved bits, window.
    [8, 11, 12, 14, 15].into_iter().for_each(tcp);
}

/// Packets of which both or only one are not what they should be, though they agree in what is compared.
#[test]
fn packets_that_are_odd_alike_stay_apart() {
    let all = |change: &dyn Fn(&mut Vec<u8>)| {
        for recipes in [segments(false, &[100, 100]), vec![Recipe::udp(false, noise(100)); 2]] {
            let mut packets = packets(&recipes);
            packets.iter_mut().for_each(change);
            assert_eq!(merge(ALL, &packets), packets.map_plain(), "{recipes:?}");
        }
    };
    all(&|packet| packet[6] |= 0x20);
    all(&|packet| packet[6] |= 0x80);
    all(&|packet| packet[7] = 1);
    let tcp = |at: usize, value: u8| {
        let mut packets = packets(&segments(false, &[100, 100]));
        packets.iter_mut().for_each(|packet| packet[at] = value);
        assert_eq!(merge(ALL, &packets), packets.map_plain(), "byte {at}");
    };
    // A flag beside the header's length.
    tcp(32, 0x81);
}

#[test]
fn a_segment_ends_where_its_headers_say_even_if_the_next_begins_elsewhere() {
    let assert_apart = |is_v6: bool, step: u32, change: &dyn Fn(usize, &mut Vec<u8>)| {
        let mut recipes = segments(is_v6, &[100, 100]);
        recipes[1].sequence = recipes[0].sequence.wrapping_add(step);
        let mut packets = packets(&recipes);
        packets.iter_mut().enumerate().for_each(|(at, packet)| change(at, packet));
        assert_eq!(merge(ALL, &packets), packets.map_plain(), "IPv6 {is_v6}, a step of {step}");
    };
    for is_v6 in [false, true] {
        // Padding that would become payload.
        assert_apart(is_v6, 101, &|at, packet| packet.resize(packet.len() + 1 - at, 0));
        // A TCP header of 16 bytes.
        assert_apart(is_v6, 116, &|_, packet| packet[if is_v6 { 52 } else { 32 }] = 0x40);
    }
}

#[test]
fn lengths_that_contradict_each_other_keep_packets_apart() {
    for is_v6 in [false, true] {
        for recipes in [segments(is_v6, &[100, 100]), vec![Recipe::udp(is_v6, noise(100)); 2]] {
            for changed in [0, 1] {
                let longer = |packet: &mut Vec<u8>| packet.push(0);
                let shorter = |packet: &mut Vec<u8>| packet.truncate(packet.len() - 1);
                for change in [longer, shorter] {
                    let mut packets = packets(&recipes);
                    change(&mut packets[changed]);
                    assert_eq!(merge(ALL, &packets), packets.map_plain(), "{changed} of {recipes:?}");
                }
            }
        }
        for changed in [0, 1] {
            let mut packets = packets(&vec![Recipe::udp(is_v6, noise(100)); 2]);
            let length_at = if is_v6 { 45 } else { 25 };
            packets[changed][length_at] -= 1;
            assert_eq!(merge(ALL, &packets), packets.map_plain(), "the length of datagram {changed}");
        }
    }
}

#[test]
fn the_longest_packet_there_is_may_be_a_super_packet() {
    for (last, count) in [(1027, 1), (1028, 2)] {
        let mut lens_of_udp = vec![1040; RANGES_MAX - 1];
        lens_of_udp.push(last);
        let packets: Vec<_> =
            lens_of_udp.iter().map(|len| Recipe::udp(false, noise(*len)).packet()).collect();
        let written = lens(&packets);
        assert_eq!(
            (written.len(), written[0]),
            (count, if count == 1 { LEN_MAX } else { LEN_MAX - last + 1 })
        );
    }
}

#[test]
fn the_oldest_flow_makes_room_for_another() {
    let of_flow = |flow: usize, segment: usize| {
        let recipe = segments(false, &[100, 100]).swap_remove(segment);
        Recipe { source_port: 4000 + flow as u16, ..recipe }.packet()
    };
    let mut burst: Vec<_> = (0..=OPEN_MAX).map(|flow| of_flow(flow, 0)).collect();
    burst.extend((1..=OPEN_MAX).map(|flow| of_flow(flow, 1)));
    burst.push(of_flow(0, 1));
    let mut expected = vec![152];
    expected.extend([252; OPEN_MAX]);
    expected.push(152);
    assert_eq!(lens(&burst), expected);
}

#[test]
fn a_datagram_without_a_checksum_gets_none() {
    let mut packets = packets(&vec![Recipe::udp(false, noise(100)); 3]);
    packets[1][26..28].fill(0);
    assert_eq!(merge(ALL, &packets), packets.map_plain());
}

#[test]
fn mistake02_a_super_packet_is_no_longer_than_a_packet_can_be() {
    for is_v6 in [false, true] {
        let recipes = segments(is_v6, &[1448; 50]);
        let lens = lens(&packets(&recipes));
        let header_len = recipes[0].header_len();
        assert_eq!(lens, [header_len + 45 * 1448, header_len + 5 * 1448]);
    }
    let small = lens(&packets(&segments(false, &[10; 100])));
    assert_eq!(small, [52 + RANGES_MAX * 10, 52 + (100 - RANGES_MAX) * 10]);
}

#[test]
fn whatever_of_a_flow_does_not_merge_closes_it() {
    let mut recipes = segments(false, &[100, 100, 100, 100]);
    recipes[2].payload.clear();
    recipes[3].sequence = recipes[2].sequence;
    assert_eq!(lens(&packets(&recipes)), [252, 52, 152]);
    // An IPv4 packet with options may be of any flow between the two.
    let mut between = packets(&segments(false, &[100, 100, 100]));
    between[1][0] = 0x46;
    between[2] = packets(&segments(false, &[100, 100]))[1].clone();
    assert_eq!(lens(&between), [152, 152, 152]);
}

#[test]
fn flows_are_merged_beside_each_other_and_keep_their_places() {
    let one = segments(false, &[100, 100]);
    let other = segments(true, &[200, 200]);
    let icmp = {
        let mut packet = Recipe::udp(false, noise(9)).packet();
        packet[9] = 1;
        packet[15] = 77;
        packet
    };
    let mixed = vec![
        one[0].packet(),
        icmp.clone(),
        other[0].packet(),
        one[1].packet(),
        other[1].packet(),
        vec![],
        vec![0x45],
    ];
    assert_eq!(lens(&mixed), [252, icmp.len(), 72 + 400, 0, 1]);
}

#[test]
fn mistake04_a_flow_keeps_its_order_whatever_the_lengths() {
    let lens = [300, 100, 200, 200, 50, 200, 300, 300, 1];
    let datagrams = packets(&lens.map(|len| Recipe::udp(false, noise(len))));
    let left = cut(&merge(ALL, &datagrams));
    assert_eq!(left.iter().map(|packet| packet.len() - 28).collect::<Vec<_>>(), lens);
}

#[test]
fn more_flows_than_may_be_open_lose_nothing() {
    let mut recipes = Vec::new();
    for segment in 0..3 {
        for flow in 0..20 {
            let mut recipe = segments(false, &[100; 3])[segment].clone();
            recipe.source_port += flow;
            recipes.push(recipe);
        }
    }
    let written = merge(ALL, &packets(&recipes));
    let len: usize = written.iter().map(|(_, packet)| packet.len() - 52).sum();
    assert_eq!(len, 20 * 300);
}

#[test]
fn a_switch_keeps_its_kind_apart() {
    let tcp = packets(&segments(false, &[100, 100]));
    let udp = packets(&vec![Recipe::udp(false, noise(100)); 2]);
    assert_eq!(merge(CoalesceSwitches { tcp: false, udp: true }, &tcp), tcp.map_plain());
    assert_eq!(merge(CoalesceSwitches { tcp: true, udp: false }, &udp), udp.map_plain());
    assert_eq!(merge(CoalesceSwitches { tcp: false, udp: true }, &udp).len(), 1);
}

#[test]
fn a_full_burst_says_so_and_a_drained_one_begins_again() {
    let slab = Recipe::udp(false, noise(10)).packet();
    let mut coalescer = Coalescer::new(ALL);
    for _ in 0..2 {
        for _ in 0..PACKETS_MAX {
            coalescer.push(&slab, 0..slab.len()).unwrap();
        }
        assert_eq!(coalescer.push(&slab, 0..slab.len()), Err(Full));
        coalescer.drain(&mut slab.clone(), &mut |_, _, _| {});
    }
}

/// What tun-rs makes of a burst.
fn oracle(packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    const AT: usize = crate::vnet::LEN;
    let buffer = |packet: &Vec<u8>| {
        let mut buffer = Vec::with_capacity(1 << 17);
        buffer.extend([0; AT]);
        buffer.extend(packet);
        buffer
    };
    let mut buffers: Vec<Vec<u8>> = packets.iter().map(buffer).collect();
    let mut written = Vec::new();
    let (mut tcp, mut udp) = Default::default();
    tun_rs::handle_gro(&mut buffers, AT, &mut tcp, &mut udp, true, &mut written).unwrap();
    let parsed = |at: &usize| (VnetHeader::parse(&buffers[*at]).unwrap(), buffers[*at][AT..].to_vec());
    written.iter().map(parsed).collect()
}

/// Flows of TCP and UDP in both versions, and how their packets lie among each other.
fn bursts() -> impl Strategy<Value = Vec<Recipe>> {
    let packet =
        (0usize..4, prop::sample::select(vec![700usize, 700, 700, 300, 0]), prop::bool::weighted(0.1));
    proptest::collection::vec(packet, 1..40).prop_map(|packets| {
        let mut sequences = [1u32, 2, 3, 4];
        let packet = |(flow, len, push): (usize, usize, bool)| {
            let (is_v6, is_tcp) = (flow % 2 == 1, flow < 2);
            if !is_tcp {
                return Recipe::udp(is_v6, noise(len));
            }
            let sequence = sequences[flow];
            sequences[flow] += len as u32;
            Recipe { flags: if push { ACK | PSH } else { ACK }, ..Recipe::tcp(is_v6, sequence, noise(len)) }
        };
        packets.into_iter().map(packet).collect()
    })
}

/// Addresses, ports and protocol of the fixtures' flows.
fn flow(packet: &[u8]) -> (bool, u8) {
    if packet[0] == 0x45 { (false, packet[9]) } else { (true, packet[6]) }
}

proptest! {
    #[test]
    fn super_packets_are_those_of_tun_rs(burst in bursts()) {
        // tun-rs ends a super-packet at PSH, and merges into one that an empty segment came after.
        let burst: Vec<_> = burst.into_iter().filter(|recipe| !recipe.payload.is_empty() && recipe.flags == ACK).collect();
        let (written, mut expected) = (merge(ALL, &packets(&burst)), oracle(&packets(&burst)));
        for (vnet, packet) in &mut expected {
            // It lets the kernel finish the checksum of a single packet, which is complete.
            if vnet.gso == Gso::None {
                prop_assert!(is_valid(packet));
                *vnet = VnetHeader::default();
            }
        }
        prop_assert_eq!(written, expected);
    }

    #[test]
    fn a_merged_burst_is_cut_into_itself(burst in bursts()) {
        let written = merge(ALL, &packets(&burst));
        prop_assert!(written.len() <= burst.len());
        let cut = cut(&written);
        for number in 0..4 {
            let (is_v6, protocol) = (number % 2 == 1, if number < 2 { 6 } else { 17 });
            let of_flow = |packets: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
                packets.into_iter().filter(|packet| flow(packet) == (is_v6, protocol)).map(without_detail).collect()
            };
            prop_assert_eq!(of_flow(cut.clone()), of_flow(packets(&burst)));
        }
    }

    #[test]
    fn a_split_super_packet_is_merged_into_itself(
        (is_v6, is_tcp) in any::<(bool, bool)>(),
        len in 2000usize..60_000,
        size in 1000u16..1400,
    ) {
        let whole = if is_tcp { Recipe::tcp(is_v6, 77, noise(len)) } else { Recipe::udp(is_v6, noise(len)) };
        let written = merge(ALL, &cut(&[(whole.vnet(size), whole.unfinished())]));
        prop_assert_eq!(written, [(whole.vnet(size), whole.unfinished())]);
    }

    #[test]
    fn any_bytes_leave_as_they_came(
        bursts in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..90), prop::sample::select(vec![0u8, 0x45, 0x46, 0x60])),
            1..20,
        ),
        copies in 1usize..4,
    ) {
        let mut packets = Vec::new();
        for (mut bytes, first) in bursts {
            let len = bytes.len() as u16;
            if let Some(header) = bytes.first_chunk_mut::<40>() {
                header[0] = first;
                let protocol = if header[1] % 2 == 0 { 6 } else { 17 };
                if first == 0x60 {
                    header[4..6].copy_from_slice(&(len - 40).to_be_bytes());
                    header[6] = protocol;
                } else {
                    header[2..4].copy_from_slice(&len.to_be_bytes());
                    header[6..8].fill(0);
                    header[9] = protocol;
                }
            }
            packets.extend(vec![bytes; copies]);
        }
        let written = merge(ALL, &packets);
        let sum = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).sum::<usize>();
        let written_len: usize = written.iter().map(|(_, packet)| packet.len()).sum();
        prop_assert!(written_len <= sum(&packets));
        for (vnet, packet) in &written {
            prop_assert!(*vnet != VnetHeader::default() || packets.contains(packet));
        }
    }
}

/// Without what merging changes: the identification, PSH, and the checksums above them.
fn without_detail(mut packet: Vec<u8>) -> Vec<u8> {
    assert!(is_valid(&packet));
    let (is_v6, protocol) = flow(&packet);
    let at = if is_v6 { 40 } else { 20 };
    if !is_v6 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    if protocol == 6 {
        packet[at + 13] &= !PSH;
        packet[at + 16..at + 18].fill(0);
    }
    packet
}
