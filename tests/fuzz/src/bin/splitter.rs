//! Packets of the host: whatever is cut comes out as packets that the path carries, with the same content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_core::IpPacket;
use meshd_core::checksum::Sum;
use meshd_core::split::{self, Outgoing};
use meshd_core::vnet::{self, Gso, VnetHeader};
use meshd_fuzz::seed;

/// The path's MTU stands before what the device gave.
const MTU_LEN: usize = 2;

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((mtu, read)) = bytes.split_first_chunk::<MTU_LEN>() else { return };
    let Some((header, packet)) = read.split_at_checked(vnet::LEN) else { return };
    let Ok(header) = VnetHeader::parse(header) else { return };
    let Ok(outgoing) = split::parse(&header, packet) else { return };
    let mtu = usize::from(u16::from_be_bytes(*mtu));
    let Ok(mut splitter) = outgoing.splitter(mtu) else { return };
    assert!(splitter.len_max() <= mtu);
    let original = IpPacket::parse(packet).expect("it was parsed before");
    let (mut rest, mut count) = (packet.to_vec(), 0);
    let mut content = Vec::new();
    while let Some(segment) = splitter.next(&mut rest) {
        assert!(segment.len() <= splitter.len_max());
        let parsed = IpPacket::parse(segment).expect("a segment is a packet");
        assert_eq!(parsed.bytes().len(), segment.len());
        assert_eq!((parsed.source(), parsed.destination()), (original.source(), original.destination()));
        if splitter.segments() > 1 {
            content.extend_from_slice(segment_content(&outgoing, &header, &parsed));
        }
        count += 1;
        // Sealed: nobody may need it again.
        segment.fill(0xee);
    }
    assert_eq!(count, splitter.segments());
    if count > 1 {
        assert!(original.payload().ends_with(&content));
        assert!(original.payload().len() - content.len() <= 60, "the upper layer's header is not that long");
    }
}

/// What a segment carries, its checksum proven.
fn segment_content<'p>(outgoing: &Outgoing, header: &VnetHeader, segment: &IpPacket<'p>) -> &'p [u8] {
    let len = u16::try_from(segment.payload().len()).expect("a short packet");
    let pseudo = match (outgoing.source, outgoing.destination) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
            Sum::pseudo_v4(source, destination, len, segment.protocol())
        }
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
            Sum::pseudo_v6(source, destination, len, segment.protocol())
        }
        _ => panic!("mixed families"),
    };
    // A wrong checksum of a single packet stays wrong.
    if header.needs_csum {
        assert_eq!(pseudo.with(segment.payload()).finish(), [0, 0]);
    }
    let header_len = match segment.protocol() {
        6 => usize::from(segment.payload()[12] >> 4) * 4,
        _ => 8,
    };
    &segment.payload()[header_len..]
}

fn seeds() -> Vec<Vec<u8>> {
    let tcp = |flags: u8| {
        [[0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0].as_slice(), &[7; 100]]
            .concat()
    };
    let udp = [[0x0f, 0xa0, 0, 53, 0, 108, 0, 0].as_slice(), &[7; 100]].concat();
    let mut seeds = Vec::new();
    for (upper, protocol, csum_offset) in [(tcp(0x19), 6, 16), (tcp(0x02), 6, 16), (udp, 17, 6)] {
        for is_v6 in [false, true] {
            let kinds = [
                Gso::None,
                if protocol == 17 {
                    Gso::UdpL4
                } else if is_v6 {
                    Gso::TcpV6 { ecn: false }
                } else {
                    Gso::TcpV4 { ecn: false }
                },
            ];
            for gso in kinds {
                let csum_start = if is_v6 { 40 } else { 20 };
                let header =
                    VnetHeader { needs_csum: true, gso, hdr_len: 0, gso_size: 40, csum_start, csum_offset };
                for mtu in [90u16, 1420] {
                    let mut seed = mtu.to_be_bytes().to_vec();
                    let mut encoded = [0; vnet::LEN];
                    header.write(&mut encoded);
                    seed.extend(encoded);
                    seed.extend(packet(is_v6, protocol, &upper));
                    seeds.push(seed);
                }
            }
        }
    }
    seeds
}

fn packet(is_v6: bool, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let len = u8::try_from(upper.len()).expect("a short packet");
    let mut packet = if is_v6 {
        [[0x60, 0, 0, 0, 0, len, protocol, 64].as_slice(), &[0xfd; 16], &[0xfc; 16]].concat()
    } else {
        vec![0x45, 0, 0, len + 20, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
    };
    packet.extend(upper);
    packet
}
