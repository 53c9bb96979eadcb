//! The table of policies: each state of it leads to each other one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use meshd::os::{Allowance, Apart, Direction, FirewallError, Permit, PolicyTable, Ranges, Restriction};
use meshd_api::{PolicyPorts, PolicyProtocol};
use meshd_wire::EndpointId;

use crate::rig::*;

type State = (Apart, BTreeMap<EndpointId, Restriction>);

fn ranges(parts: &[(&str, &[&str])]) -> Ranges {
    let net = |text: &&str| text.parse::<IpNet>().expect("a prefix");
    let parts: Vec<(IpNet, Vec<IpNet>)> =
        parts.iter().map(|(one, except)| (net(one), except.iter().map(net).collect())).collect();
    Ranges::of(parts.iter().map(|(one, except)| (one, except.as_slice())))
}

fn ports(ports: &[(PolicyProtocol, u16, u16)]) -> BTreeSet<PolicyPorts> {
    ports.iter().map(|&(protocol, first, last)| PolicyPorts { protocol, first, last }).collect()
}

/// States with all kinds of rules, and endpoints that share some.
fn states() -> Vec<State> {
    let tcp = PolicyProtocol::Tcp;
    let permits = [
        vec![Permit { peers: None, ports: None }],
        vec![
            Permit {
                peers: Some(ranges(&[("0.0.0.0/0", &["10.0.0.0/8"]), ("::/0", &["8000::/1"])])),
                ports: Some(ports(&[(tcp, 80, 80), (tcp, 0, u16::MAX), (PolicyProtocol::Sctp, 1, 9)])),
            },
            Permit {
                peers: Some(ranges(&[("0.0.0.0/0", &[])])),
                ports: Some(ports(&[(PolicyProtocol::Udp, 53, 53)])),
            },
            Permit { peers: Some(Ranges::default()), ports: Some(BTreeSet::new()) },
        ],
        vec![Permit { peers: Some(ranges(&[("10.1.2.3/32", &[]), ("fd00::7/128", &[])])), ports: None }],
    ];
    let allow = |direction, which: &[usize]| {
        Some(which.iter().map(|n| Arc::new(Allowance::new(direction, &permits[*n]))).collect::<Vec<_>>())
    };
    let (ingress, egress) = (
        |which: &[usize]| allow(Direction::Ingress, which),
        |which: &[usize]| allow(Direction::Egress, which),
    );
    let id = |n: u8| EndpointId([n; 32]);
    let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
    let apart = |pools: &[&str], nodes: &[&str]| Apart {
        own: vec![net("10.91.0.0/16"), net("fd91::/64")],
        nodes: nodes.iter().map(|text| text.parse().expect("an address")).collect(),
        pools: pools.iter().map(|text| net(text)).collect(),
    };
    vec![
        (Apart::default(), BTreeMap::new()),
        (
            Apart::default(),
            BTreeMap::from([(id(1), Restriction { ingress: ingress(&[]), egress: egress(&[]) })]),
        ),
        (
            apart(&["10.91.128.0/20"], &["10.91.0.1", "fd91::1"]),
            BTreeMap::from([
                (id(1), Restriction { ingress: ingress(&[0]), egress: None }),
                (id(2), Restriction { ingress: ingress(&[1, 2]), egress: egress(&[1]) }),
                (id(3), Restriction { ingress: ingress(&[1, 2]), egress: egress(&[2]) }),
            ]),
        ),
        (
            apart(&["10.91.128.0/20", "10.91.144.0/20", "fd91:0:0:0:1::/80"], &["10.91.0.1", "10.91.0.2"]),
            BTreeMap::from([
                (id(2), Restriction { ingress: ingress(&[1]), egress: egress(&[]) }),
                (id(3), Restriction { ingress: ingress(&[1, 2]), egress: None }),
            ]),
        ),
    ]
}

#[test]
fn a_change_leads_to_what_would_have_been_written_at_once() {
    let Some(space) = member() else { return };
    space.inside(|| {
        for (n, (apart, restricted)) in states().iter().enumerate() {
            for (m, (later_apart, later)) in states().iter().enumerate() {
                let mut table = PolicyTable::install(apart, restricted).expect("it is installed");
                assert_eq!(table.faults().expect("it is read"), Vec::<String>::new(), "state {n}");
                table.change(later_apart, later).unwrap_or_else(|error| panic!("from {n} to {m}: {error}"));
                assert_eq!(table.faults().expect("it is read"), Vec::<String>::new(), "from {n} to {m}");
            }
        }
        PolicyTable::uninstall().expect("it is removed");
        PolicyTable::uninstall().expect("it is removed again");
    });
}

#[test]
fn what_others_change_is_found() {
    let Some(space) = member() else { return };
    space.inside(|| {
        let (apart, restricted) = &states()[2];
        for line in [
            "delete table inet meshd_policy",
            "flush table inet meshd_policy",
            "flush set inet meshd_policy restricted",
            "flush map inet meshd_policy from4",
            "add element inet meshd_policy nodes4 { 10.91.0.9 }",
            "add rule inet meshd_policy leaving accept",
            "add chain inet meshd_policy other",
        ] {
            let table = PolicyTable::install(apart, restricted).expect("it is installed");
            said(&space, "nft", line);
            assert!(!table.faults().expect("it is read").is_empty(), "{line}");
        }
    });
}

#[test]
fn more_than_fits_is_refused_and_leaves_what_was() {
    let Some(space) = member() else { return };
    space.inside(|| {
        let (apart, restricted) = &states()[2];
        let mut table = PolicyTable::install(apart, restricted).expect("it is installed");
        let nodes =
            (0..300_000u32).map(|n| std::net::IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
        let refused = table.change(&Apart { nodes, ..apart.clone() }, restricted).expect_err("too many");
        assert!(matches!(refused, FirewallError::TooMany { .. }), "{refused}");
        assert_eq!(table.faults().expect("it is read"), Vec::<String>::new());
    });
}
