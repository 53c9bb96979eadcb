//! What is decided about packets: how they are cut and merged, whose they are, whether they pass.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use meshd_core::RouteTable;
use meshd_core::coalesce::{CoalesceSwitches, Coalescer};
use meshd_core::flow::{Direction, Flow, FlowCache, FlowTable, Verdict};
use meshd_core::split::{self, Outgoing};
use meshd_core::vnet::{self, Gso, VnetHeader};

use crate::measured::measured;
use crate::session::{PACKET_LEN, TRAIN};
use crate::{Case, NONE};

const NOW: Duration = Duration::from_secs(1_000);
const HERE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
const HEADERS_LEN: usize = 40;
/// Payload of a packet that fills the tunnel's MTU.
const SEGMENT_LEN: usize = PACKET_LEN - HEADERS_LEN;
/// Hosts in the table of routes.
const HOSTS: u32 = 10_000;

pub const CASES: [Case; 7] = [
    Case { name: "parse", units: 1, unit: "super-packet", limit: 600, run: parse, pause: NONE },
    Case { name: "split-train", units: 45, unit: "segment", limit: 430, run: split_train, pause: NONE },
    Case { name: "coalesce-train", units: 45, unit: "segment", limit: 220, run: coalesce_train, pause: NONE },
    Case { name: "route-hit", units: 64, unit: "lookup", limit: 120, run: route_hit, pause: NONE },
    Case { name: "route-again", units: 64, unit: "lookup", limit: 40, run: route_again, pause: NONE },
    Case { name: "flow-again", units: 64, unit: "verdict", limit: 40, run: flow_again, pause: NONE },
    Case { name: "flow-known", units: 64, unit: "verdict", limit: 200, run: flow_known, pause: NONE },
];

/// A TCP super-packet behind its vnet header, as the kernel leaves it: the checksum sums only the pseudo header.
fn super_packet() -> ([u8; vnet::LEN], Vec<u8>) {
    let len = HEADERS_LEN + TRAIN * SEGMENT_LEN;
    let mut packet = vec![0x5a; len];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&HERE.octets());
    packet[16..20].copy_from_slice(&THERE.octets());
    packet[20..40].copy_from_slice(&[
        0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 2, 0, 0x12, 0x34, 0, 0,
    ]);
    let mut header = [0; vnet::LEN];
    VnetHeader {
        needs_csum: true,
        gso: Gso::TcpV4 { ecn: false },
        hdr_len: 0,
        gso_size: SEGMENT_LEN as u16,
        csum_start: 20,
        csum_offset: 16,
    }
    .write(&mut header);
    (header, packet)
}

fn parsed(header: &[u8], packet: &[u8]) -> Outgoing {
    let vnet = VnetHeader::parse(header).expect("a header");
    split::parse(&vnet, packet).expect("a packet")
}

fn parse() {
    let (header, packet) = super_packet();
    let outgoing = measured(|| parsed(&header, &packet));
    assert_eq!(outgoing.segments, TRAIN);
}

fn split_train() {
    let (header, mut packet) = super_packet();
    let outgoing = parsed(&header, &packet);
    let segments = measured(|| {
        let mut splitter = outgoing.splitter(PACKET_LEN).expect("fits");
        let mut segments = 0;
        while let Some(segment) = splitter.next(&mut packet) {
            segments += black_box(segment).len() / PACKET_LEN;
        }
        segments
    });
    assert_eq!(segments, TRAIN);
}

/// Segments of one super-packet as they lie in a receive buffer once they are opened.
fn slab() -> (Vec<u8>, Vec<Range<usize>>) {
    let (header, mut packet) = super_packet();
    let mut splitter = parsed(&header, &packet).splitter(PACKET_LEN).expect("fits");
    let (mut slab, mut ranges) = (Vec::new(), Vec::new());
    while let Some(segment) = splitter.next(&mut packet) {
        slab.resize(slab.len() + meshd_tunnel::OVERHEAD, 0);
        ranges.push(slab.len()..slab.len() + segment.len());
        slab.extend_from_slice(segment);
    }
    (slab, ranges)
}

fn coalesce_train() {
    let (mut slab, ranges) = slab();
    let mut coalescer = Coalescer::new(CoalesceSwitches { tcp: true, udp: true });
    let mut writes = 0;
    measured(|| {
        for range in &ranges {
            if !coalescer.follow(&slab, range) {
                coalescer.push(&slab, range.clone()).expect("room");
            }
        }
        coalescer.drain(&mut slab, &mut |_, _, parts| writes += black_box(parts).len() / TRAIN);
    });
    assert_eq!(writes, 1);
}

fn routes() -> RouteTable<u32> {
    let mut routes = RouteTable::default();
    for host in 0..HOSTS {
        assert!(routes.claim(IpAddr::from(address(host)).into(), host));
    }
    routes
}

fn address(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(HERE) + host)
}

fn route_hit() {
    let routes = routes();
    let hosts: Vec<u32> = (0..64).map(|at| at * 151 % HOSTS).collect();
    let found = measured(|| {
        hosts.iter().filter(|host| routes.owner(IpAddr::from(address(**host))) == Some(*host)).count()
    });
    assert_eq!(found, hosts.len());
}

fn route_again() {
    let routes = routes();
    let mut lookups = routes.lookups();
    lookups.owner(THERE.into());
    measured(|| {
        for _ in 0..64 {
            black_box(lookups.owner(black_box(THERE.into())));
        }
    });
}

/// A cache that knows some flows, and these.
fn flows(count: u16) -> (FlowCache, Vec<Flow>) {
    let (header, packet) = super_packet();
    let known = parsed(&header, &packet).flow;
    let mut cache = FlowCache::new(7, Arc::new(FlowTable::new(7)));
    let flows: Vec<Flow> = (0..count)
        .map(|port| Flow {
            key: meshd_core::flow::FlowKey { source_port: 1024 + port, ..known },
            direction: Direction::Out,
            peer: 1,
            fragment: None,
        })
        .collect();
    for flow in &flows {
        assert_eq!(cache.verdict(flow, NOW, 1, |_| Verdict::Allow), Verdict::Allow);
    }
    (cache, flows)
}

fn flow_again() {
    let (mut cache, flows) = flows(1);
    measured(|| {
        for _ in 0..64 {
            black_box(cache.verdict(black_box(&flows[0]), NOW, 1, |_| Verdict::Allow));
        }
    });
}

fn flow_known() {
    let (mut cache, flows) = flows(64);
    measured(|| {
        for flow in &flows {
            black_box(cache.verdict(flow, NOW, 1, |_| Verdict::Allow));
        }
    });
}
