//! Whole endpoints: attached, checked and detached, once, twice, and when a step fails.

use meshd::endpoints::{Entry, Rulebook, Stage, Wired, Wiring, WiringError};
use meshd::os::{
    ContainerEndError, LinkEndError, NamespaceError, RouteError, VethError, container_link,
    enable_forwarding, forget_connections, host_link, host_mac,
};
use meshd_api::{Attachment, Namespace};

use crate::node::*;
use crate::rig::*;

#[test]
fn an_endpoint_with_a_namespace_gets_everything_inside() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    let wired = node.attach(&a.entry()).expect("the endpoint is attached");
    node.attach(&b.entry()).expect("the endpoint is attached");
    let made =
        Wired { host_link: host_link(a.id()), host_mac: host_mac(a.id()), container_link: IFNAME.to_owned() };
    assert_eq!(wired, made);
    let routes = said(&a.space, "ip", "route");
    assert!(routes.contains("default via 169.254.1.1 dev eth0"), "{routes}");
    let routes = said(&a.space, "ip", "-6 route");
    assert!(routes.contains("default via fe80::1 dev eth0"), "{routes}");
    node.assert_reached(&a, &b);
    for endpoint in [&a, &b] {
        assert_eq!(node.faults(&endpoint.entry()), [""; 0]);
    }
}

#[test]
fn a_link_to_hand_over_waits_on_the_host_and_works_once_it_is_taken() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    let entry = Entry { namespace: None, ..a.entry() };
    let wired = node.attach(&entry).expect("the endpoint is attached");
    assert_eq!(wired.container_link, container_link(a.id()));
    let made = said(&node.space, "ip", &format!("-d link show {}", wired.container_link));
    assert!(made.contains(&format!("mtu {MTU}")) && made.contains(&entry.mac.to_string()), "{made}");
    assert!(!said(&node.space, "ip", "address").contains(&a.addresses[0].to_string()));

    a.take(&node.space);
    node.attach(&b.entry()).expect("the endpoint is attached");
    node.assert_reached(&a, &b);
    assert_eq!(node.faults(&entry), [""; 0]);

    assert_eq!(node.attach(&entry).expect("the endpoint is found"), wired);
    node.assert_reached(&a, &b);
    node.detach(&entry).expect("the endpoint is detached");
    assert!(!said(&a.space, "ip", "link").contains("mesh0"));
}

#[test]
fn only_what_an_endpoint_gets_leads_to_the_mesh() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let routes = vec!["10.91.0.0/16".parse().expect("a prefix"), "fd91::/48".parse().expect("a prefix")];
    let entry = Entry { addresses: vec![a.addresses[0]], routes, ..a.entry() };
    node.attach(&entry).expect("the endpoint is attached");
    let routes = said(&a.space, "ip", "route");
    assert!(routes.contains("10.91.0.0/16 via 169.254.1.1 dev eth0"), "{routes}");
    assert!(!routes.contains("default"), "{routes}");
    assert!(!said(&a.space, "ip", "-6 route").contains("fd91"));
    assert_reached((&a.space, a.addresses[0]), (&node.space, NODE4.into()));
    assert_eq!(node.faults(&entry), [""; 0]);
}

#[test]
fn a_step_that_fails_leaves_nothing_and_is_named() {
    let Some(node) = Node::new() else { return };
    let (a, other) = (Endpoint::new(1), Endpoint::new(2));
    node.attach(&other.entry()).expect("the endpoint is attached");
    // One that was attached before would stay, isolated.
    let entry = Entry { stage: Stage::Wiring, ..a.entry() };
    let fails = |entry: &Entry, is_it: &dyn Fn(&WiringError) -> bool| {
        let before = (snapshot(&node.space), snapshot(&a.space), node.filter_faults());
        let error = node.attach(entry).expect_err("a step fails");
        assert!(is_it(&error), "{error:?}");
        assert_eq!((snapshot(&node.space), snapshot(&a.space), node.filter_faults()), before, "{error:?}");
    };

    let seen = entry.namespace.clone().expect("it has one");
    let wrong = |namespace: Namespace| Entry { namespace: Some(namespace), ..entry.clone() };
    fails(&wrong(Namespace { ino: seen.ino + 1, ..seen.clone() }), &|error| {
        matches!(error, WiringError::Namespace(NamespaceError::Other { .. }))
    });
    fails(&wrong(Namespace { path: "/run/netns/nobody-made-this".into(), ..seen }), &|error| {
        matches!(error, WiringError::Namespace(NamespaceError::Open { .. }))
    });
    let attachment = Attachment { runtime: "No Runtime".into(), ..entry.attachment.clone() };
    fails(&Entry { attachment, ..entry.clone() }, &|error| matches!(error, WiringError::Owner(_)));

    a.space.ip("link add eth0 type veth");
    fails(&entry, &|error| matches!(error, WiringError::Pair(VethError::IfnameTaken { .. })));
    a.space.ip("link delete eth0");

    node.space.ip(&format!("link add {} type veth", host_link(a.id())));
    fails(&entry, &|error| matches!(error, WiringError::Pair(VethError::Foreign { .. })));
    node.space.ip(&format!("link delete {}", host_link(a.id())));

    a.space.ip("link add own0 type veth");
    a.space.ip("link set own0 up");
    a.space.ip("route add default dev own0");
    fails(&entry, &|error| {
        let WiringError::ContainerEnd(ContainerEndError::Link(LinkEndError::Route { source, .. })) = error
        else {
            return false;
        };
        matches!(source, RouteError::Taken { holder, .. } if holder == "own0")
    });
    a.space.ip("link delete own0");

    let taken = Entry { addresses: other.addresses.into(), ..entry.clone() };
    fails(&taken, &|error| matches!(error, WiringError::Route(LinkEndError::Route { .. })));

    said(&node.space, "nft", "delete table inet meshd");
    fails(&entry, &|error| matches!(error, WiringError::Firewall(_)));
    node.space.inside(|| node.wiring.repair_firewall()).expect("the table is mended");
    node.attach(&entry).expect("the endpoint is attached after all");
    node.assert_reached(&a, &other);
}

#[test]
fn a_step_that_fails_takes_nothing_from_an_endpoint_that_was_attached() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    node.attach_all([&a, &b]);
    let seen = a.entry().namespace.expect("it has one");
    let lost = Entry { namespace: Some(Namespace { ino: seen.ino + 1, ..seen }), ..a.entry() };
    node.attach(&lost).expect_err("the namespace is another one");
    node.assert_reached(&a, &b);
    assert_eq!(node.faults(&a.entry()), [""; 0]);
}

#[test]
fn attaching_twice_is_attaching_once() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let wired = node.attach(&a.entry()).expect("the endpoint is attached");
    wait_for("the link to be up", || node.survey(&[]).pairs[&a.id()].is_up);
    let before = (snapshot(&node.space), snapshot(&a.space));
    assert_eq!(node.attach(&a.entry()).expect("the endpoint is attached"), wired);
    assert_eq!((snapshot(&node.space), snapshot(&a.space)), before);
    assert_eq!(node.filter_faults(), [""; 0]);
}

#[test]
fn endpoints_that_are_cut_off_are_isolated_until_they_are_attached_again() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    node.attach_all([&a, &b]);
    node.assert_reached(&a, &b);
    let inside = said(&a.space, "ip", "-o address");
    node.wiring.set_cut_off(true);
    node.space.inside(|| node.wiring.cut_off()).expect("the endpoints are cut off");
    let survey = node.survey(&[]);
    assert!(survey.pairs.len() == 2 && survey.pairs.values().all(|pair| !pair.is_up), "{:?}", survey.pairs);
    assert_eq!(survey.routes.len(), 0, "{:?}", survey.routes);
    assert_eq!(survey.filter_faults, [""; 0]);
    for endpoint in [&a, &b] {
        let faults = node.faults(&endpoint.entry());
        assert!(faults.contains(&format!("missing: {} in attached", host_link(endpoint.id()))), "{faults:?}");
    }
    assert_eq!(said(&a.space, "ip", "-o address"), inside, "the container has what it had");
    node.wiring.set_cut_off(false);
    node.attach_all([&a, &b]);
    node.assert_reached(&a, &b);
}

#[test]
fn detaching_leaves_nothing_whatever_is_gone_already() {
    let Some(node) = Node::new() else { return };
    let before = snapshot(&node.space);
    let a = Endpoint::new(1);
    let entry = a.entry();
    node.detach(&entry).expect("nothing is there to be detached");
    let inside = snapshot(&a.space);
    node.attach(&entry).expect("the endpoint is attached");
    for _ in 0..2 {
        node.detach(&entry).expect("the endpoint is detached");
        assert_eq!((snapshot(&node.space), snapshot(&a.space)), (before.clone(), inside.clone()));
    }
    node.attach(&entry).expect("the endpoint is attached");
    drop(a);
    wait_for("the pair to be gone", || node.survey(&[]).pairs.is_empty());
    node.detach(&entry).expect("what is left is detached");
    assert_eq!(snapshot(&node.space), before);
    assert_eq!(node.filter_faults(), [""; 0]);
}

#[test]
fn what_is_missing_of_an_endpoint_is_told() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let (entry, link) = (a.entry(), host_link(a.id()));
    let v6 = a.addresses[1];
    let all = node.faults(&entry);
    assert!(all.contains(&format!("link {link} is gone")), "{all:?}");
    assert!(all.contains(&format!("link {IFNAME} is gone")), "{all:?}");
    assert!(all.contains(&format!("missing: {link} in attached")), "{all:?}");

    node.attach(&entry).expect("the endpoint is attached");
    wait_for("the link to be up", || node.survey(&[]).pairs[&a.id()].is_up);
    assert_eq!(node.faults(&entry), [""; 0]);
    node.space.ip(&format!("route del {v6} dev {link}"));
    a.space.ip(&format!("-6 route del default dev {IFNAME}"));
    said(&node.space, "nft", &format!("delete element inet meshd origin6 {{ {link} . {v6} }}"));
    let faults = [
        format!("route to {v6}/128 from {NODE6} on {link} is missing"),
        format!("route to ::/0 via fe80::1 from {v6} on {IFNAME} is missing"),
        format!("missing: {link} with {v6} in origin6"),
    ];
    assert_eq!(node.faults(&entry), faults);

    let seen = entry.namespace.clone().expect("it has one");
    drop(a);
    let all = node.faults(&entry);
    assert!(all.iter().any(|fault| fault.contains(&seen.path)), "{all:?}");
}

#[test]
fn connections_end_with_their_endpoint_and_not_before() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    let (entry, address) = (a.entry(), a.addresses[0]);
    node.attach_all([&a, &b]);
    let tracked =
        || node.space.inside(|| forget_connections(&[address].into())).expect("connections are listed");
    assert_reached((&a.space, address), (&b.space, b.addresses[0]));
    assert!(tracked() > 0);
    assert_reached((&a.space, address), (&b.space, b.addresses[0]));
    node.attach(&entry).expect("the endpoint is attached");
    assert!(tracked() > 0, "an endpoint that is attached keeps its connections");

    assert_reached((&a.space, address), (&b.space, b.addresses[0]));
    node.detach(&entry).expect("the endpoint is detached");
    assert_eq!(tracked(), 0);
    // A packet to the old holder, which comes late.
    node.space.ip(&format!("route add {address}/32 dev meshd0"));
    send(&b.space, b.addresses[0], address, "late");
    node.space.ip(&format!("route del {address}/32 dev meshd0"));
    node.attach(&entry).expect("the endpoint is attached");
    assert_eq!(tracked(), 0);
}

#[test]
fn the_host_is_prepared_and_left_as_it_was() {
    let Some(space) = member() else { return };
    // There is no way back from that one.
    space.inside(enable_forwarding).expect("the host forwards");
    let before = snapshot(&space);
    let wiring = space
        .inside(|| Wiring::start(wiring_settings(), &[], &[], Rulebook::default()))
        .expect("wiring starts");
    let node = Node { space, wiring };
    let routes = said(&node.space, "ip", "route") + &said(&node.space, "ip", "-6 route");
    for prefix in ["10.91.0.0/16", "fd91::/48"] {
        assert!(routes.contains(&format!("unreachable {prefix} ")), "{routes}");
    }
    let endpoints = [1, 2].map(Endpoint::new);
    node.attach_all(&endpoints);
    for _ in 0..2 {
        node.space.inside(|| node.wiring.stop()).expect("wiring stops");
        assert_eq!(snapshot(&node.space), before);
    }
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let Some(space) = member() else { return };
    space.inside(enable_forwarding).expect("the host forwards");
    space.ip("-6 route add blackhole fd91::/48 metric 9999");
    let before = snapshot(&space);
    let failed = space
        .inside(|| Wiring::start(wiring_settings(), &[], &[], Rulebook::default()))
        .err()
        .expect("a prefix is taken");
    assert!(matches!(failed, WiringError::Prefix(RouteError::Taken { .. })), "{failed:?}");
    assert_eq!(snapshot(&space), before);
}

#[test]
fn endpoints_are_attached_and_detached_at_once() {
    let Some(node) = Node::new() else { return };
    let before = snapshot(&node.space);
    let endpoints: Vec<Endpoint> = (1..=16).map(Endpoint::new).collect();
    let all = |act: &(dyn Fn(&Endpoint) + Sync)| {
        std::thread::scope(|scope| {
            for endpoint in &endpoints {
                scope.spawn(move || act(endpoint));
            }
        });
    };
    all(&|endpoint| drop(node.attach(&endpoint.entry()).expect("the endpoint is attached")));
    for (here, there) in endpoints.iter().zip(endpoints.iter().cycle().skip(1)) {
        node.assert_reached(here, there);
    }
    assert_eq!(node.filter_faults(), [""; 0]);
    all(&|endpoint| node.detach(&endpoint.entry()).expect("the endpoint is detached"));
    assert_eq!(snapshot(&node.space), before);
}

#[test]
fn who_is_wired_while_all_are_cut_off_is_not_let_in_again() {
    let Some(node) = Node::new() else { return };
    let [a, b] = [1, 2].map(Endpoint::new);
    let entries = [a.entry(), Entry { stage: Stage::Wiring, ..b.entry() }];
    node.attach(&entries[0]).expect("the endpoint is attached");
    node.wiring.set_cut_off(true);
    node.space.inside(|| node.wiring.cut_off()).expect("all are cut off");
    // These were begun before, and come to their end only now.
    for entry in &entries {
        let refused = node.attach(entry).expect_err("it is refused");
        assert!(matches!(refused, WiringError::CutOff), "{refused:?}");
    }
    let survey = node.survey(&entries);
    assert!(survey.routes.is_empty(), "{survey:?}");
    let ids: Vec<_> = survey.pairs.keys().copied().collect();
    assert_eq!(ids, [a.id()], "who lives keeps its link, of who was to come nothing is left");
    assert!(survey.pairs.values().all(|pair| !pair.is_up), "{survey:?}");
    let faults = node.faults(&entries[0]).join("\n");
    assert!(faults.contains("missing: "), "{faults}");

    node.wiring.set_cut_off(false);
    for entry in &entries {
        node.attach(entry).expect("the endpoint is attached");
    }
    node.assert_reached(&a, &b);
}
