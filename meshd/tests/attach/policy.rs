//! The table of policies: each state of it leads to each other one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use ipnet::IpNet;
use meshd::endpoints::{Compiled, Entry, Rulebook, Ruled, Stage, WiringError, judge_policies};
use meshd::os::{
    Allowance, Apart, Direction, FirewallError, Permit, PolicyTable, Ranges, Restriction, host_link,
};
use meshd_api::{
    EndpointPolicy, Labels, PolicyPeer, PolicyPorts, PolicyProtocol, PolicyRule, SetPoliciesRequest,
};
use meshd_wire::EndpointId;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::node::*;
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
            "add chain inet meshd_policy leaving { policy drop ; }",
            "add table inet meshd_policy { flags dormant ; }",
            "replace rule inet meshd_policy leaving handle RULE accept",
        ] {
            let mut table = PolicyTable::install(apart, restricted).expect("it is installed");
            assert_eq!(table.faults().expect("it is read"), Vec::<String>::new());
            let listed = said(&space, "nft", "-a list chain inet meshd_policy leaving");
            let rule = listed
                .lines()
                .find(|line| line.contains("vmap"))
                .and_then(|line| line.split(' ').next_back());
            let line = &line.replace("RULE", rule.expect("a rule"));
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

#[test]
fn an_error_passes_with_its_connection_and_not_when_that_is_cut() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    host.attach(&a);
    host.attach(&b);
    let port = 7000;
    let peers = || Some(ranges(&[("10.91.128.1/32", &[]), ("fd91:0:0:1::1/128", &[])]));
    let may = |permits: &[Permit]| {
        let allowance = Allowance::new(Direction::Ingress, permits);
        BTreeMap::from([(b.id(), Restriction { ingress: Some(vec![Arc::new(allowance)]), egress: None })])
    };
    let open = may(&[Permit { peers: peers(), ports: Some(ports(&[(PolicyProtocol::Udp, port, port)])) }]);
    let other = may(&[Permit { peers: peers(), ports: Some(ports(&[(PolicyProtocol::Udp, 9, 9)])) }]);
    let mut table =
        host.space.inside(|| PolicyTable::install(&Apart::default(), &open)).expect("it is installed");
    for family in 0..2 {
        let (at_a, at_b) = (a.addresses[family], SocketAddr::new(b.addresses[family], port));
        let asker = socket(&a.space, SocketAddr::new(at_a, 0));
        asker.connect(at_b).expect("a way there");
        asker.send(b"nobody hears it").expect("it is sent");
        assert_eq!(refusal(&asker), ErrorKind::ConnectionRefused, "what is refused says so");
        let answerer = socket(&b.space, at_b);
        let own = asker.local_addr().expect("an address");
        answerer.connect(own).expect("a way back");
        asker.send(b"ask").expect("it is sent");
        assert_eq!(received(&answerer).0, "ask");
        answerer.send(b"answer").expect("it is sent");
        assert_eq!(received(&asker).0, "answer");
        // To and from the link that is restricted.
        let forgeries = [(&a, at_b, own, &answerer), (&b, own, at_b, &asker)];
        for (from, source, target, hearer) in forgeries {
            forge_refusal(&from.space, source, target);
            assert_eq!(refusal(hearer), ErrorKind::ConnectionRefused, "{source} is told of {target}");
        }
        let mut change = |restricted| {
            let changed = host.space.inside(|| table.change(&Apart::default(), restricted));
            changed.expect("it is changed");
        };
        change(&other);
        for (from, source, target, hearer) in forgeries {
            let dropped = || host.space.inside(PolicyTable::drops).expect("the table is read")["denied"];
            let before = dropped();
            forge_refusal(&from.space, source, target);
            wait_for("the error to be dropped", || dropped() > before);
            assert!(hearer.take_error().expect("it is asked").is_none(), "{source} is told of {target}");
        }
        change(&open);
    }
}

#[test]
fn who_may_not_be_in_the_mesh_stays_restricted() {
    let Some(mut node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let entries = [a.entry()];
    node.attach(&entries[0]).expect("the endpoint is attached");
    let closed =
        || rulebook(&[EndpointPolicy { select: Labels::new(), ingress: Some(Vec::new()), egress: None }]);
    let is_in = |node: &Node, table: &str, set: &str| {
        said(&node.space, "nft", &format!("list set inet {table} {set}")).contains(&host_link(a.id()))
    };
    for may_be_admitted in [&entries[..], &[]] {
        node.restart_as(&entries, may_be_admitted, closed());
        assert!(is_in(&node, "meshd_policy", "restricted"));
        assert_eq!(is_in(&node, "meshd", "attached"), !may_be_admitted.is_empty());
    }
}

#[test]
fn an_endpoint_with_too_heavy_policies_is_isolated_at_a_start_and_refused_when_it_comes() {
    let Some(mut node) = Node::new() else { return };
    let (light, heavy, late) = (Endpoint::new(1), Endpoint::new(2), Endpoint::new(3));
    let called = |endpoint: &Endpoint, who: &str| Entry {
        labels: Labels::from([("who".to_owned(), who.to_owned())]),
        ..endpoint.entry()
    };
    let entries = [called(&light, "light"), called(&heavy, "heavy")];
    for entry in &entries {
        node.attach(entry).expect("the endpoint is attached");
    }
    // Each is bearable by itself.
    let policy = |who: &str, n: u16| EndpointPolicy {
        select: Labels::from([("who".to_owned(), who.to_owned())]),
        ingress: Some((0..1000).map(|m| rule(&format!("10.{n}.{}.{}/32", m / 256, m % 256))).collect()),
        egress: None,
    };
    let policies: Vec<EndpointPolicy> =
        (0..5).map(|n| policy("heavy", n)).chain([policy("light", 0)]).collect();
    node.restart_as(&entries, &entries, rulebook(&policies));
    let isolated =
        |node: &Node| [&light, &heavy, &late].map(|endpoint| node.wiring.policies().isolates(endpoint.id()));
    assert_eq!(isolated(&node), [false, true, false]);
    assert_eq!(node.filter_faults(), [""; 0]);
    let coming = Entry { stage: Stage::Wiring, ..called(&late, "heavy") };
    let refused = node.attach(&coming).expect_err("it is too heavy");
    assert!(matches!(refused, WiringError::Policies(FirewallError::TooLong { .. })), "{refused:?}");
    node.attach(&Entry { stage: Stage::Wiring, ..called(&late, "light") }).expect("this one is not");
    assert_eq!(isolated(&node), [false, true, false]);
    assert_eq!(node.filter_faults(), [""; 0]);
    node.detach(&entries[1]).expect("it is detached");
    assert_eq!(isolated(&node), [false; 3]);
}

#[test]
fn what_many_policies_say_alike_is_asked_once() {
    let Some(space) = member() else { return };
    space.inside(|| {
        let permit = Permit { peers: Some(ranges(&[("10.1.2.3/32", &[])])), ports: None };
        let one = || Arc::new(Allowance::new(Direction::Ingress, &vec![permit.clone(); 3]));
        let alike = (0..5000).map(|_| one()).collect();
        let restricted =
            BTreeMap::from([(EndpointId([1; 32]), Restriction { ingress: Some(alike), egress: None })]);
        PolicyTable::install(&Apart::default(), &restricted).expect("it is installed");
        let listed = said(&space, "nft", "list table inet meshd_policy");
        assert_eq!(listed.matches("jump allow_").count(), 1, "{listed}");
        assert_eq!(listed.matches("10.1.2.3").count(), 1, "{listed}");
    });
}

#[test]
fn the_heaviest_are_too_heavy_and_what_all_share_weighs_once() {
    let peers = |n: u32, count: u32| {
        let first = 0x0a00_0000 + n * 0x40_0000;
        let nets: Vec<(IpNet, Vec<IpNet>)> = (0..count)
            .map(|m| (IpNet::from(IpAddr::from((first + 2 * m).to_be_bytes())), Vec::new()))
            .collect();
        Some(Ranges::of(nets.iter().map(|(net, except)| (net, except.as_slice()))))
    };
    let allowance = |n, count| {
        Arc::new(Allowance::new(Direction::Ingress, &[Permit { peers: peers(n, count), ports: None }]))
    };
    let shared = allowance(0, 150_000);
    let restricted =
        |allowance: &Arc<Allowance>| Restriction { ingress: Some(vec![Arc::clone(allowance)]), egress: None };
    let id = |n: u8| EndpointId([n; 32]);
    let all = BTreeMap::from([
        (id(1), restricted(&allowance(1, 200_000))),
        (id(2), restricted(&shared)),
        (id(3), restricted(&shared)),
        (id(4), restricted(&allowance(2, 50_000))),
    ]);
    assert_eq!(PolicyTable::too_heavy(&Apart::default(), &all), BTreeSet::from([id(1)]));
}

fn rule(net: &str) -> PolicyRule {
    let peer = PolicyPeer { net: net.to_owned(), except: Vec::new() };
    PolicyRule { peers: Some(vec![peer]), ports: None }
}

/// What holds for the network of all endpoints here.
fn rulebook(policies: &[EndpointPolicy]) -> Rulebook {
    let request = SetPoliciesRequest {
        runtime: "cni".to_owned(),
        network: "pods".to_owned(),
        policies: policies.to_vec(),
    };
    let (key, policies) = judge_policies(request).expect("they make sense");
    let ruled = Ruled { is_policed: false, policies: Compiled::of(&policies) };
    Rulebook { networks: BTreeMap::from([(key, ruled)]), ..Rulebook::default() }
}

/// What a connected socket is told of what it sent.
fn refusal(socket: &UdpSocket) -> ErrorKind {
    socket.recv(&mut [0; 64]).expect_err("nothing is there to be read").kind()
}

/// Says that nobody hears what `source` sent to `target`.
fn forge_refusal(space: &Space, source: SocketAddr, target: SocketAddr) {
    let ports = [source.port().to_be_bytes(), target.port().to_be_bytes(), [0, 8], [0; 2]].concat();
    let (domain, protocol, message) = match (source.ip(), target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = [[0x45, 0, 0, 28], [0; 4], [64, 17, 0, 0], from.octets(), to.octets()].concat();
            let mut message = [vec![3, 3, 0, 0, 0, 0, 0, 0], header, ports].concat();
            let words = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum: u32 = words.sum();
            let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            (Domain::IPV4, Protocol::ICMPV4, message)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = [&[0x60, 0, 0, 0, 0, 8, 17, 64], &from.octets()[..], &to.octets()].concat();
            (Domain::IPV6, Protocol::ICMPV6, [vec![1, 4, 0, 0, 0, 0, 0, 0], header, ports].concat())
        }
        _ => panic!("two families"),
    };
    space.inside(|| {
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
        let to = SockAddr::from(SocketAddr::new(source.ip(), 0));
        socket.send_to(&message, &to).expect("the message is sent");
    });
}
