//! A daemon that was killed while it did something, and started again.

use std::collections::BTreeSet;

use meshd::endpoints::{Entry, Stage};
use meshd::os::{Admission, Firewall, Veth, VethPlace};

use crate::node::*;
use crate::rig::*;

/// Steps of [`Endpoint::do_steps`].
const STEPS: usize = 5;
/// Steps of [`Endpoint::undo_steps`].
const UNDO_STEPS: usize = 3;

#[test]
fn a_crash_at_any_step_of_attaching_is_finished_or_undone() {
    let Some(mut node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    node.attach(&b.entry()).expect("the endpoint is attached");
    let attached_b = Entry { stage: Stage::Attached, ..b.entry() };
    let before = (snapshot(&node.space), snapshot(&a.space));
    let entry = Entry { stage: Stage::Wiring, ..a.entry() };
    for steps in 0..=STEPS {
        for is_finished in [true, false] {
            node.space.inside(|| a.do_steps(steps));
            node.restart(&[attached_b.clone(), entry.clone()]);
            if is_finished {
                node.attach(&entry).unwrap_or_else(|error| panic!("after {steps} steps: {error:?}"));
                node.assert_reached(&a, &b);
                assert_eq!(node.faults(&entry), [""; 0], "after {steps} steps");
            }
            node.detach(&entry).unwrap_or_else(|error| panic!("after {steps} steps: {error:?}"));
            assert_eq!((snapshot(&node.space), snapshot(&a.space)), before, "after {steps} steps");
            assert_eq!(node.filter_faults(), [""; 0]);
        }
    }
}

#[test]
fn a_crash_at_any_step_of_detaching_is_finished() {
    let Some(mut node) = Node::new() else { return };
    let a = Endpoint::new(1);
    let before = (snapshot(&node.space), snapshot(&a.space));
    let entry = Entry { stage: Stage::Releasing, ..a.entry() };
    for steps in 0..=UNDO_STEPS {
        node.attach(&entry).expect("the endpoint is attached");
        node.space.inside(|| a.undo_steps(steps));
        node.restart(std::slice::from_ref(&entry));
        node.detach(&entry).unwrap_or_else(|error| panic!("after {steps} steps: {error:?}"));
        assert_eq!((snapshot(&node.space), snapshot(&a.space)), before, "after {steps} steps");
        assert_eq!(node.filter_faults(), [""; 0]);
    }
}

#[test]
fn a_restart_keeps_who_is_attached_and_isolates_who_is_not() {
    let Some(mut node) = Node::new() else { return };
    let [a, b, half] = [1, 2, 3].map(Endpoint::new);
    let entries = [&a, &b, &half].map(|endpoint| {
        node.attach(&endpoint.entry()).expect("the endpoint is attached");
        endpoint.entry()
    });
    let [_, _, half_entry] = &entries;
    node.restart(&[
        entries[0].clone(),
        entries[1].clone(),
        Entry { stage: Stage::Wiring, ..half_entry.clone() },
    ]);
    node.assert_reached(&a, &b);
    let listener = listen(&a.space, a.addresses[0]);
    let drops = || node.space.inside(Firewall::drops).expect("the table is read")["unattached"];
    let before = drops();
    send(&half.space, half.addresses[0], a.addresses[0], "half");
    wait_for("the packet to be dropped", || drops() > before);
    assert!(is_silent(&listener));
}

impl Endpoint {
    /// What a daemon that was killed after so many steps has done.
    fn do_steps(&self, steps: usize) {
        let (namespace, routes, prefixes) = (self.namespace(), self.routes(), every_prefix());
        let end = self.host_end(&routes);
        let act: [&dyn Fn(); STEPS] = [
            &|| {
                let place = VethPlace::Inside { namespace: &namespace, ifname: IFNAME };
                self.create(place).expect("the pair is made");
            },
            &|| end.set_up().expect("the host end is set up"),
            &|| self.container_end(&prefixes).set_up(&namespace).expect("the endpoint's end is set up"),
            &|| end.route().expect("the endpoint is routed"),
            &|| {
                let admission = Admission { addresses: BTreeSet::from(self.addresses), has_egress: false };
                let admitted = [(self.id(), admission)].into();
                Firewall::install(&settings(), admitted).expect("the endpoint is admitted");
            },
        ];
        act.iter().take(steps).for_each(|act| act());
    }

    /// What a daemon that was killed after so many steps has undone of an endpoint.
    fn undo_steps(&self, steps: usize) {
        let routes = self.routes();
        let act: [&dyn Fn(); UNDO_STEPS] = [
            &|| drop(Firewall::install(&settings(), [].into()).expect("the endpoint is isolated")),
            &|| self.host_end(&routes).unroute().expect("the routes are removed"),
            &|| Veth::remove(self.id()).expect("the pair is removed"),
        ];
        act.iter().take(steps).for_each(|act| act());
    }
}
