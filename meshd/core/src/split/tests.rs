use proptest::prelude::*;

use super::*;
use crate::fixture::{ACK, CWR, FIN, PSH, Recipe, SYN, is_valid, noise};

/// All packets that a path of `mtu` gets. Each is destroyed once it is taken, as after sealing nobody needs it.
fn split(vnet: &VnetHeader, packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, OverMtu> {
    let mut packet = packet.to_vec();
    let mut splitter = parse(vnet, &packet).expect("a packet").splitter(mtu)?;
    let (count, len_max) = (splitter.segments(), splitter.len_max());
    let mut segments = Vec::new();
    while let Some(segment) = splitter.next(&mut packet) {
        segments.push(segment.to_vec());
        segment.fill(0xee);
    }
    assert_eq!((splitter.segments(), splitter.len_max()), (count, len_max), "they tell what was promised");
    assert_eq!(segments.len(), count);
    assert_eq!(segments.iter().map(Vec::len).max(), Some(len_max));
    assert!(segments.iter().all(|segment| segment.len() <= mtu));
    Ok(segments)
}

/// The segments as tun-rs cuts them.
fn oracle(recipe: &Recipe, size: u16) -> Vec<Vec<u8>> {
    let mut packet = recipe.unfinished();
    let mut header = [0; crate::vnet::LEN];
    recipe.vnet(size).write(&mut header);
    let header = tun_rs::VirtioNetHdr::decode(&header).expect("a header");
    let count = recipe.payload.len().div_ceil(size.into());
    let mut segments = vec![vec![0; packet.len()]; count];
    let mut lens = vec![0; count];
    let cut = tun_rs::gso_split(&mut packet, header, &mut segments, &mut lens, 0, recipe.is_v6);
    assert_eq!(cut.expect("segments"), count);
    segments.iter().zip(lens).map(|(segment, len)| segment[..len].to_vec()).collect()
}

/// Zero and 0xffff are one checksum to TCP.
fn with_one_zero(mut segment: Vec<u8>, recipe: &Recipe) -> Vec<u8> {
    let at = recipe.upper_at() + tcp::CHECKSUM_AT;
    if recipe.is_tcp && segment[at..at + 2] == [0, 0] {
        segment[at..at + 2].fill(0xff);
    }
    segment
}

/// Payload of all segments, whose TCP sequence numbers must follow each other.
fn stream(recipe: &Recipe, segments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for segment in segments {
        assert!(is_valid(segment));
        if recipe.is_tcp {
            let sequence = segment[recipe.upper_at() + 4..].first_chunk().unwrap();
            assert_eq!(u32::from_be_bytes(*sequence), recipe.sequence.wrapping_add(payload.len() as u32));
        }
        payload.extend(&segment[recipe.header_len()..]);
    }
    payload
}

fn flags(segments: &[Vec<u8>]) -> Vec<u8> {
    segments.iter().map(|segment| segment[20 + tcp::FLAGS_AT]).collect()
}

fn recipes() -> impl Strategy<Value = Recipe> {
    (any::<(bool, bool, u32, u8, u16)>(), 0usize..=10, 1usize..12_000).prop_map(
        |((is_v6, is_tcp, sequence, flags, ip_id), options, len)| {
            let recipe = if is_tcp {
                Recipe::tcp(is_v6, sequence, noise(len))
            } else {
                Recipe::udp(is_v6, noise(len))
            };
            let options = if is_tcp { noise(options * 4) } else { Vec::new() };
            Recipe { flags: flags & !SYN, ip_id, options, ..recipe }
        },
    )
}

proptest! {
    #[test]
    fn segments_are_those_of_tun_rs(recipe in recipes(), size in 1u16..3000) {
        prop_assume!(recipe.payload.len().div_ceil(size.into()) <= SEGMENTS_MAX);
        let segments = split(&recipe.vnet(size), &recipe.unfinished(), 65_535).unwrap();
        let expected: Vec<_> =
            oracle(&recipe, size).into_iter().map(|segment| with_one_zero(segment, &recipe)).collect();
        prop_assert_eq!(segments, expected);
    }

    #[test]
    fn a_narrow_path_gets_the_same_stream(recipe in recipes(), size in 100u16..3000, mtu in 200usize..1500) {
        let split = split(&recipe.vnet(size), &recipe.unfinished(), mtu);
        let len_max = recipe.header_len() + recipe.payload.len().min(size.into());
        match split {
            Ok(segments) => prop_assert_eq!(stream(&recipe, &segments), recipe.payload),
            Err(over) => {
                prop_assert_eq!(over, OverMtu { mtu });
                prop_assert!(!recipe.is_tcp && len_max > mtu);
            }
        }
    }

    #[test]
    fn any_bytes_are_cut_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        first in prop::sample::select(vec![0x45u8, 0x46, 0x60]),
        (protocol, kind, needs_csum) in (prop::sample::select(vec![6u8, 17]), 0usize..4, any::<bool>()),
        numbers in any::<[u16; 2]>(),
        places in (0u16..64, 0u16..32),
        mtu in 0usize..1500,
    ) {
        let mut packet = bytes;
        let len = packet.len() as u16;
        if let Some(header) = packet.first_chunk_mut::<40>() {
            header[0] = first;
            if first == 0x60 {
                header[4..6].copy_from_slice(&(len - 40).to_be_bytes());
                header[6] = protocol;
            } else {
                header[2..4].copy_from_slice(&len.to_be_bytes());
                header[6..8].fill(0);
                header[9] = protocol;
            }
        }
        let vnet = VnetHeader {
            needs_csum,
            gso: [Gso::None, Gso::TcpV4 { ecn: true }, Gso::TcpV6 { ecn: false }, Gso::UdpL4][kind],
            hdr_len: numbers[0],
            gso_size: numbers[1],
            csum_start: places.0,
            csum_offset: places.1,
        };
        if let Ok(mut splitter) = parse(&vnet, &packet).map_err(drop).and_then(|packet| packet.splitter(mtu).map_err(drop)) {
            let mut given = 0;
            while let Some(segment) = splitter.next(&mut packet) {
                prop_assert!(segment.len() <= mtu);
                given += 1;
            }
            prop_assert_eq!(given, splitter.segments());
            // Another packet than the parsed one gives nothing useful, and no panic.
            if let Ok(mut splitter) = parse(&vnet, &packet).map_err(drop).and_then(|packet| packet.splitter(mtu).map_err(drop)) {
                while splitter.next(&mut [0; 30]).is_some() {}
            }
        }
    }
}

#[test]
fn fin_and_push_are_for_the_last_segment_and_cwr_for_the_first() {
    let recipe = Recipe { flags: ACK | FIN | PSH | CWR, ..Recipe::tcp(false, u32::MAX - 1500, noise(4000)) };
    let segments = split(&recipe.vnet(1400), &recipe.unfinished(), 1500).unwrap();
    assert_eq!(flags(&segments), [ACK | CWR, ACK, ACK | FIN | PSH]);
    assert_eq!(stream(&recipe, &segments), recipe.payload);
}

#[test]
fn identifications_follow_each_other_and_wrap() {
    let recipe = Recipe { ip_id: 0xffff, ..Recipe::udp(false, noise(3000)) };
    let segments = split(&recipe.vnet(1400), &recipe.unfinished(), 1500).unwrap();
    let ids: Vec<_> = segments.iter().map(|segment| [segment[4], segment[5]]).collect();
    assert_eq!(ids, [[0xff, 0xff], [0, 0], [0, 1]]);
}

#[test]
fn mistake03_a_segment_size_over_the_payload_makes_one_segment_of_its_own_length() {
    for recipe in [Recipe::tcp(false, 1, noise(300)), Recipe::udp(true, noise(300))] {
        let packet = recipe.unfinished();
        let outgoing = parse(&recipe.vnet(1400), &packet).unwrap();
        assert_eq!((outgoing.segments, outgoing.segment_len_max), (1, packet.len()));
        assert_eq!(split(&recipe.vnet(1400), &packet, 1420).unwrap(), [recipe.packet()]);
    }
}

#[test]
fn mistake08_the_header_length_of_the_kernel_is_not_trusted() {
    for recipe in [
        Recipe::tcp(false, 1, noise(4000)),
        Recipe::tcp(true, 1, noise(4000)),
        Recipe::udp(false, noise(4000)),
    ] {
        let expected = split(&recipe.vnet(1300), &recipe.unfinished(), 1420).unwrap();
        for hdr_len in [0, 14, 20, 54, 200, u16::MAX] {
            let vnet = VnetHeader { hdr_len, ..recipe.vnet(1300) };
            assert_eq!(split(&vnet, &recipe.unfinished(), 1420).unwrap(), expected, "{hdr_len}");
        }
    }
}

#[test]
fn payloads_shorter_than_the_header_need_no_copy() {
    let recipe = Recipe::tcp(true, 9, noise(700));
    for size in [1, 7, 71, 72, 73] {
        let segments = split(&recipe.vnet(size), &recipe.unfinished(), 1420).unwrap();
        assert_eq!(stream(&recipe, &segments), recipe.payload);
    }
}

#[test]
fn an_oversize_single_tcp_packet_is_cut() {
    let recipe = Recipe { flags: ACK | PSH, ..Recipe::tcp(false, 5, noise(1368)) };
    let finished = split(&VnetHeader::default(), &recipe.packet(), 1280).unwrap();
    assert_eq!(finished.len(), 2);
    assert_eq!(flags(&finished), [ACK, ACK | PSH]);
    assert_eq!(stream(&recipe, &finished), recipe.payload);
    assert_eq!(split(&recipe.vnet_single(), &recipe.unfinished(), 1280).unwrap(), finished);
}

#[test]
fn a_wrong_checksum_is_wrong_in_every_cut() {
    let recipe = Recipe::tcp(true, 5, noise(2000));
    let mut packet = recipe.packet();
    packet[1000] ^= 0x40;
    let segments = split(&VnetHeader::default(), &packet, 1280).unwrap();
    assert_eq!(segments.len(), 2);
    assert!(segments.iter().all(|segment| !is_valid(segment)));
}

#[test]
fn what_is_not_tcp_data_is_too_big_for_a_narrow_path() {
    let over = Err(OverMtu { mtu: 1280 });
    let udp = Recipe::udp(false, noise(1400));
    assert_eq!(split(&VnetHeader::default(), &udp.packet(), 1280), over);
    let datagrams = Recipe::udp(true, noise(4000));
    assert_eq!(split(&datagrams.vnet(1300), &datagrams.unfinished(), 1280), over);
    let syn = Recipe { flags: SYN, ..Recipe::tcp(false, 1, noise(1400)) };
    assert_eq!(split(&VnetHeader::default(), &syn.packet(), 1280), over);
    let mut fragment = Recipe::tcp(false, 1, noise(1400)).packet();
    fragment[6] = 0x20;
    assert_eq!(split(&VnetHeader::default(), &fragment, 1280), over);
    // No path is narrower than its headers.
    let tcp = Recipe::tcp(false, 1, noise(1400));
    assert_eq!(split(&tcp.vnet(500), &tcp.unfinished(), 52), Err(OverMtu { mtu: 52 }));
}

#[test]
fn a_single_packet_gets_its_checksum() {
    for recipe in [
        Recipe::tcp(false, 1, noise(33)),
        Recipe::tcp(true, 1, noise(0)),
        Recipe::udp(false, noise(1)),
        Recipe::udp(true, noise(1200)),
    ] {
        assert_eq!(split(&recipe.vnet_single(), &recipe.unfinished(), 1420).unwrap(), [recipe.packet()]);
        assert_eq!(split(&VnetHeader::default(), &recipe.packet(), 1420).unwrap(), [recipe.packet()]);
    }
}

#[test]
fn a_datagram_never_gets_the_checksum_that_means_none() {
    let mut recipe = Recipe::udp(false, vec![0, 0]);
    // The payload that makes the sum all ones.
    let checksum: [u8; 2] = recipe.packet()[26..28].try_into().unwrap();
    recipe.payload = checksum.to_vec();
    let packet = &split(&recipe.vnet_single(), &recipe.unfinished(), 1420).unwrap()[0];
    assert_eq!(packet[26..28], [0xff, 0xff]);
    let mut two = recipe.clone();
    two.payload.extend(checksum);
    for segment in split(&two.vnet(2), &two.unfinished(), 1420).unwrap() {
        assert_eq!(segment[26..28], [0xff, 0xff]);
    }
}

#[test]
fn the_checksum_of_a_packet_inside_a_packet_is_finished() {
    let inner = Recipe::tcp(false, 1, noise(100));
    let outer = Recipe::udp(false, inner.unfinished());
    let vnet = VnetHeader { csum_start: 28 + 20, csum_offset: 16, ..outer.vnet_single() };
    let segments = split(&vnet, &outer.packet(), 1420).unwrap();
    assert_eq!(segments[0][28..], inner.packet());
}

#[test]
fn a_syn_announces_no_more_than_the_path_carries() {
    for (is_v6, mss_max) in [(false, 1240u16), (true, 1220)] {
        let mut syn = Recipe { flags: SYN, ..Recipe::tcp(is_v6, 1, Vec::new()) };
        syn.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 7];
        for (vnet, packet) in [(VnetHeader::default(), syn.packet()), (syn.vnet_single(), syn.unfinished())] {
            let packet = &split(&vnet, &packet, 1280).unwrap()[0];
            assert_eq!(packet[syn.upper_at() + 22..][..2], mss_max.to_be_bytes());
            assert!(is_valid(packet));
        }
    }
}

#[test]
fn extension_headers_are_in_every_segment() {
    let recipe = Recipe::tcp(true, 1, noise(3000));
    let mut packet = recipe.unfinished();
    // Destination options of eight bytes: padding.
    packet.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
    packet[6] = 60;
    let payload_len = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
    let vnet = VnetHeader { csum_start: 48, ..recipe.vnet(1300) };
    let segments = split(&vnet, &packet, 1420).unwrap();
    assert_eq!(segments.len(), 3);
    assert!(segments.iter().all(|segment| is_valid(segment)));
    let payload: Vec<u8> = segments.iter().flat_map(|segment| segment[80..].to_vec()).collect();
    assert_eq!(payload, recipe.payload);
}

#[test]
fn a_vnet_header_that_contradicts_the_packet_is_refused() {
    let tcp = Recipe::tcp(false, 1, noise(3000));
    let refused = |vnet: VnetHeader| parse(&vnet, &tcp.unfinished()).unwrap_err();
    let honest = tcp.vnet(1300);
    assert_eq!(refused(VnetHeader { gso: Gso::TcpV6 { ecn: false }, ..honest }), BadPacket::Kind);
    assert_eq!(refused(VnetHeader { gso: Gso::UdpL4, ..honest }), BadPacket::Kind);
    assert_eq!(refused(VnetHeader { needs_csum: false, ..honest }), BadPacket::Checksum);
    assert_eq!(refused(VnetHeader { csum_offset: 6, ..honest }), BadPacket::Checksum);
    assert_eq!(refused(VnetHeader { csum_start: 24, ..honest }), BadPacket::Checksum);
    assert_eq!(refused(VnetHeader { csum_start: 10, gso: Gso::None, ..honest }), BadPacket::Checksum);
    assert_eq!(refused(VnetHeader { csum_start: 3050, gso: Gso::None, ..honest }), BadPacket::Checksum);
    assert_eq!(refused(VnetHeader { gso_size: 1, ..honest }), BadPacket::Limits);
    assert!(matches!(parse(&honest, &[]), Err(BadPacket::Ip(_))));
}

#[test]
fn a_packet_as_long_as_its_path_takes_passes() {
    let packet = Recipe::udp(false, noise(1000)).packet();
    assert_eq!(split(&VnetHeader::default(), &packet, packet.len()).unwrap(), std::slice::from_ref(&packet));
    assert!(split(&VnetHeader::default(), &packet, packet.len() - 1).is_err());
}

#[test]
fn tcp_with_a_checksum_that_is_not_its_own_is_not_cut() {
    let recipe = Recipe::tcp(false, 1, noise(1400));
    let vnet = VnetHeader { csum_start: 60, csum_offset: 0, ..recipe.vnet_single() };
    assert_eq!(split(&vnet, &recipe.packet(), 1280), Err(OverMtu { mtu: 1280 }));
    let end = recipe.packet().len() as u16;
    for (csum_start, is_inside) in [(end - 2, true), (end - 1, false)] {
        let vnet = VnetHeader { csum_start, csum_offset: 0, ..recipe.vnet_single() };
        assert_eq!(parse(&vnet, &recipe.packet()).is_ok(), is_inside, "{csum_start}");
    }
}

#[test]
fn there_are_as_many_segments_as_the_bound_says_and_no_more() {
    for (len, is_within) in [(SEGMENTS_MAX, true), (SEGMENTS_MAX + 1, false)] {
        let recipe = Recipe::tcp(false, 1, noise(len));
        assert_eq!(parse(&recipe.vnet(1), &recipe.unfinished()).is_ok(), is_within, "as it comes");
        let narrow = recipe.header_len() + 1;
        let cut = split(&recipe.vnet(u16::MAX), &recipe.unfinished(), narrow);
        assert_eq!(cut.map(|segments| segments.len()).ok(), is_within.then_some(len), "for its path");
    }
}

#[test]
fn headers_that_no_template_holds_are_refused() {
    let recipe = Recipe::tcp(true, 1, noise(3000));
    let with_extension = |words: u8| {
        let mut packet = recipe.unfinished();
        let mut extension = vec![6, words - 1];
        extension.resize(usize::from(words) * 8, 0);
        packet.splice(40..40, extension);
        packet[6] = 60;
        let payload_len = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
        let vnet = VnetHeader { csum_start: 40 + u16::from(words) * 8, ..recipe.vnet(1300) };
        (vnet, packet)
    };
    let (vnet, packet) = with_extension(23);
    assert_eq!(split(&vnet, &packet, 1600).unwrap().len(), 3);
    let (vnet, packet) = with_extension(24);
    assert_eq!(parse(&vnet, &packet).unwrap_err(), BadPacket::Limits);
    let single = VnetHeader { gso: Gso::None, ..vnet };
    assert_eq!(split(&single, &packet, 1600), Err(OverMtu { mtu: 1600 }));
}

#[test]
fn a_super_packet_without_its_headers_is_refused() {
    let tcp = Recipe::tcp(false, 1, Vec::new());
    let mut packet = tcp.unfinished();
    for words in [4, 15] {
        packet[32] = words << 4;
        assert_eq!(parse(&tcp.vnet(1300), &packet).unwrap_err(), BadPacket::Kind, "{words} words");
    }
    let udp = Recipe::udp(false, Vec::new());
    let mut packet = udp.unfinished();
    packet.truncate(27);
    packet[3] = 27;
    let vnet = VnetHeader { csum_offset: 5, ..udp.vnet(100) };
    assert_eq!(parse(&vnet, &packet).unwrap_err(), BadPacket::Kind);
}

#[test]
fn the_congestion_mark_is_known_to_the_caller() {
    for (is_v6, at, mark) in [(false, 1, 0b11), (true, 1, 0b11 << 4)] {
        let recipe = Recipe::udp(is_v6, noise(10));
        let mut packet = recipe.packet();
        assert_eq!(parse(&VnetHeader::default(), &packet).unwrap().ecn, 0);
        packet[at] |= mark;
        assert_eq!(parse(&VnetHeader::default(), &packet).unwrap().ecn, 3);
    }
}
