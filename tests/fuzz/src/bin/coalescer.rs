//! Packets of peers: each leaves once and in its flow's order, and a super-packet is cut into what it was merged from.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use meshd_core::coalesce::{CoalesceSwitches, Coalescer};
use meshd_core::split;
use meshd_core::vnet::VnetHeader;
use meshd_fuzz::seed;

/// What an input says of one packet: kind, length, and where it is edited by what.
const STEP_LEN: usize = 4;
const LONGEST: usize = 65_535;
const IS_V6: u8 = 1;
const IS_UDP: u8 = 2;
const HAS_PUSH: u8 = 4;
const IS_RETRANSMITTED: u8 = 8;

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let (steps, raw) = bytes.as_chunks::<STEP_LEN>();
    let mut sequences = [u32::MAX - 300; 2];
    let mut packets: Vec<Vec<u8>> = steps.iter().map(|step| packet(*step, &mut sequences)).collect();
    packets.push(raw.to_vec());

    let mut slab = Vec::new();
    let mut places: Vec<Range<usize>> = Vec::new();
    let mut coalescer = Coalescer::new(CoalesceSwitches { tcp: true, udp: true });
    for packet in &packets {
        places.push(slab.len()..slab.len() + packet.len());
        slab.extend(packet);
    }
    let mut take =
        |place: &Range<usize>| coalescer.follow(&slab, place) || coalescer.push(&slab, place.clone()).is_ok();
    let taken = places.iter().take_while(|place| take(place)).count();
    let mut seen = vec![false; taken];
    coalescer.drain(&mut slab, &mut |header, slab, ranges| {
        let header = VnetHeader::parse(header).expect("a header");
        // A packet is known by its end, as all but the first have lost their headers.
        let members: Vec<usize> = ranges.iter().map(|range| member(&places[..taken], &seen, range)).collect();
        assert!(members.is_sorted());
        members.iter().for_each(|member| seen[*member] = true);
        if let [only] = members[..] {
            assert_eq!(header, VnetHeader::default());
            assert_eq!(slab[ranges[0].clone()], packets[only]);
            return;
        }
        let mut merged: Vec<u8> = ranges.iter().flat_map(|range| &slab[range.clone()]).copied().collect();
        let outgoing = split::parse(&header, &merged).expect("a super-packet");
        assert_eq!(outgoing.segments, members.len());
        let mut splitter = outgoing.splitter(LONGEST).expect("it fits");
        for member in members {
            let segment = splitter.next(&mut merged).expect("a segment");
            assert_eq!(plain(segment), plain(&packets[member]));
        }
    });
    assert!(seen.iter().all(|seen| *seen), "a packet was lost");
}

/// The packet whose end a range is; among empty ones the first that was not seen.
fn member(places: &[Range<usize>], seen: &[bool], range: &Range<usize>) -> usize {
    let is_end = |place: &Range<usize>| place.start <= range.start && place.end == range.end;
    let candidates = || places.iter().enumerate().filter(|(_, place)| is_end(place)).map(|(at, _)| at);
    candidates().find(|at| !seen[*at]).expect("a packet that came and has not left")
}

/// A packet without what merging and cutting change: identification, PSH, and checksums.
fn plain(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let at = if packet[0] == 0x45 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
        20
    } else {
        40
    };
    let (protocol, checksum_at) = if packet[if at == 20 { 9 } else { 6 }] == 6 { (6, 16) } else { (17, 6) };
    if protocol == 6 {
        packet[at + 13] &= !8;
        packet[at + 18..at + 20].fill(0);
    }
    packet[at + checksum_at..at + checksum_at + 2].fill(0);
    packet
}

fn packet([kind, len, at, edit]: [u8; STEP_LEN], sequences: &mut [u32; 2]) -> Vec<u8> {
    let payload = vec![kind ^ len; len.into()];
    let upper = if kind & IS_UDP != 0 {
        let len = u16::from(len) + 8;
        [&[0x0f, 0xa0, 0, 53], len.to_be_bytes().as_slice(), &[1, 1], &payload].concat()
    } else {
        let sequence = &mut sequences[usize::from(kind & IS_V6)];
        let flags = if kind & HAS_PUSH != 0 { 0x18 } else { 0x10 };
        let tcp = [
            [0x0f, 0xa0, 0, 80].as_slice(),
            &sequence.to_be_bytes(),
            &[0, 0, 0, 2, 0x50, flags, 1, 0, 1, 1, 0, 0],
        ];
        if kind & IS_RETRANSMITTED == 0 {
            *sequence = sequence.wrapping_add(len.into());
        }
        [tcp.concat(), payload].concat()
    };
    let protocol = if kind & IS_UDP != 0 { 17 } else { 6 };
    let upper_len = upper.len() as u16;
    let mut packet = if kind & IS_V6 != 0 {
        let len = upper_len.to_be_bytes();
        [[0x60, 0, 0, 0, len[0], len[1], protocol, 64].as_slice(), &[0xfd; 16], &[0xfc; 16], &upper].concat()
    } else {
        let len = (upper_len + 20).to_be_bytes();
        let ip = [0x45, 0, len[0], len[1], 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&ip, upper.as_slice()].concat()
    };
    if let Some(byte) = packet.get_mut(usize::from(at)) {
        *byte ^= edit;
    }
    packet
}

fn seeds() -> Vec<Vec<u8>> {
    let kinds = [0, IS_V6, IS_UDP, IS_UDP | IS_V6, HAS_PUSH];
    let mut seeds: Vec<Vec<u8>> =
        kinds.map(|kind| [[kind, 200, 0, 0].repeat(6), vec![kind, 90, 0, 0]].concat()).to_vec();
    seeds.push(kinds.iter().cycle().take(30).flat_map(|kind| [*kind, 100, 0, 0]).collect());
    // A changed time to live, flag and length.
    for at in [8, 33, 3] {
        seeds.push([[0, 200, 0, 0].repeat(3), vec![0, 200, at, 1], [0, 200, 0, 0].repeat(2)].concat());
    }
    seeds.push([[IS_RETRANSMITTED, 100, 0, 0].repeat(3), [0, 0, 0, 0].repeat(2)].concat());
    seeds
}
