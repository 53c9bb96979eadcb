//! What died, was lost or left behind is found, and what is done about it.

use std::time::{Duration, Instant};

use meshd::endpoints::{Entry, GRACE, LIVING_ORPHAN_GRACE, ORPHAN_GRACE, Reason, Suspects, Verdict};
use meshd::os::{container_link, host_link};
use meshd_api::Namespace;

use crate::node::*;
use crate::rig::*;

#[test]
fn the_death_of_a_namespace_is_found_and_its_endpoint_released_after_the_grace() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    let entries = [a.entry(), b.entry()];
    for entry in &entries {
        node.attach(entry).expect("the endpoint is attached");
    }
    let (mut suspects, start) = (Suspects::default(), Instant::now());
    assert_eq!(node.verdicts(&entries, &mut suspects, start), []);
    let id = a.id();
    drop(a);
    wait_for("the pair to be gone", || node.survey(&[]).pairs.len() == 1);
    let (soon, late) = (start + GRACE / 2, start + GRACE / 2 + GRACE);
    assert_eq!(node.verdicts(&entries, &mut suspects, soon), []);
    let release = [Verdict::Release { id, reason: Reason::NamespaceGone }];
    assert_eq!(node.verdicts(&entries, &mut suspects, late), release);
    // Another file may be at the path by now, or another namespace.
    for path in ["/proc/self/status".to_owned(), b.space.path()] {
        let seen = entries[0].namespace.clone().expect("it has one");
        let gone = Entry { namespace: Some(Namespace { path, ..seen }), ..entries[0].clone() };
        assert_eq!(node.verdicts(&[gone, entries[1].clone()], &mut suspects, late), release);
    }
    node.detach(&entries[0]).expect("what is left is detached");
    assert_eq!(node.verdicts(&entries[1..], &mut suspects, late), []);
}

#[test]
fn a_link_that_is_deleted_under_a_living_namespace_breaks_its_endpoint() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let entries = [a.entry()];
    node.attach(&entries[0]).expect("the endpoint is attached");
    a.space.ip(&format!("link delete {IFNAME}"));
    let mut suspects = Suspects::default();
    let now = Instant::now();
    for later in [Duration::ZERO, 10 * GRACE] {
        assert_eq!(node.verdicts(&entries, &mut suspects, now + later), [Verdict::Break { id: a.id() }]);
    }
}

#[test]
fn a_link_that_its_runtime_does_not_have_is_released_after_the_grace() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let entries = [Entry { namespace: None, ..a.entry() }];
    node.attach(&entries[0]).expect("the endpoint is attached");
    let (mut suspects, start) = (Suspects::default(), Instant::now());
    assert_eq!(node.verdicts(&entries, &mut suspects, start), []);
    a.take(&node.space);
    assert_eq!(node.verdicts(&entries, &mut suspects, start + 10 * GRACE), []);
    let id = a.id();
    let late = start + 20 * GRACE;
    // Given back, as libnetwork does when a container stops.
    a.space.ip("link set mesh0 down");
    a.space.ip(&format!("link set mesh0 name {} netns {}", container_link(id), node.space.path()));
    assert_eq!(node.verdicts(&entries, &mut suspects, late), []);
    let release = Verdict::Release { id, reason: Reason::LinkNotTaken };
    assert_eq!(node.verdicts(&entries, &mut suspects, late + GRACE), [release]);
    a.take(&node.space);
    assert_eq!(node.verdicts(&entries, &mut suspects, late + GRACE), []);
    drop(a);
    wait_for("the pair to be gone", || node.survey(&[]).pairs.is_empty());
    assert_eq!(node.verdicts(&entries, &mut suspects, late + 2 * GRACE), []);
    let release = Verdict::Release { id, reason: Reason::LinkGone };
    assert_eq!(node.verdicts(&entries, &mut suspects, late + 3 * GRACE), [release]);
}

#[test]
fn a_lost_route_is_found_and_wired_again() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    let entries = [a.entry(), b.entry()];
    for entry in &entries {
        node.attach(entry).expect("the endpoint is attached");
    }
    node.space.ip(&format!("link set {} down", host_link(a.id())));
    let (mut suspects, now) = (Suspects::default(), Instant::now());
    assert_eq!(node.verdicts(&entries, &mut suspects, now), [Verdict::Rewire { id: a.id() }]);
    node.attach(&entries[0]).expect("the endpoint is wired again");
    assert_eq!(node.verdicts(&entries, &mut suspects, now), []);
    node.assert_reached(&a, &b);
}

#[test]
fn a_route_of_somebody_else_is_no_address_of_an_endpoint() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    node.attach(&a.entry()).expect("the endpoint is attached");
    let link = host_link(a.id());
    let own = || a.addresses.map(|address| (link.clone(), address)).into();
    assert_eq!(node.survey(&[]).routes, own());
    for foreign in ["route add 10.99.0.0/24", "-6 route add fd99::/64", "route add broadcast 10.99.1.1/32"] {
        node.space.ip(&format!("{foreign} dev {link}"));
    }
    assert_eq!(node.survey(&[]).routes, own());
}

#[test]
fn a_pair_that_nobody_knows_is_removed_after_a_while() {
    let Some(node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let before = snapshot(&node.space);
    node.attach(&a.entry()).expect("the endpoint is attached");
    let (mut suspects, start) = (Suspects::default(), Instant::now());
    assert_eq!(node.verdicts(&[], &mut suspects, start), []);
    let removal = Verdict::RemovePair { owner: a.owner.clone() };
    assert_eq!(node.verdicts(&[], &mut suspects, start + ORPHAN_GRACE), [], "somebody lives behind it");
    assert_eq!(node.verdicts(&[], &mut suspects, start + LIVING_ORPHAN_GRACE), [removal]);
    node.space.inside(|| node.wiring.remove(a.id())).expect("the pair is removed");
    assert_eq!(node.verdicts(&[], &mut suspects, start + LIVING_ORPHAN_GRACE), []);
    assert_eq!(node.filter_faults(), [""; 0]);
    assert_eq!(snapshot(&node.space), before);
}

#[test]
fn a_packet_filter_that_somebody_changed_is_found_and_mended() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    node.attach_all([&a, &b]);
    for change in ["flush set inet meshd attached", "delete table inet meshd", "flush ruleset"] {
        said(&node.space, "nft", change);
        assert!(!node.filter_faults().is_empty(), "{change}");
        node.space.inside(|| node.wiring.repair_firewall()).expect("the table is mended");
        assert_eq!(node.filter_faults(), [""; 0]);
        node.assert_reached(&a, &b);
    }
}
