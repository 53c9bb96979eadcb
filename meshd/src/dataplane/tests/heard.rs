//! What a receiving thread tells the timers, and what it lets go before it waits.

use std::sync::Arc;

use super::super::inbound::Inbound;
use super::super::outbound::Burst;
use super::super::probe::Probe;
use super::fakes::{FakeDevice, packet};
use super::{INDEX, NOW, Node, OTHER, OWN};

#[test]
fn what_its_sender_takes_for_data_is_data_whatever_becomes_of_it() {
    let message = Probe { search: 1, len: 1280 }.answer();
    let cases = [
        (packet(OTHER, OWN, b"for the host"), true),
        (packet(OWN, OWN, b"from somebody else"), true),
        (packet(OTHER, OTHER, b"for nobody here"), true),
        (b"no packet at all".to_vec(), true),
        (message.to_vec(), false),
        (Vec::new(), false),
    ];
    for (plaintext, is_data) in cases {
        let node = Node::new();
        node.arrives(node.sealed(&plaintext));
        node.receives_all(&FakeDevice::reading(Vec::new()));
        let receiving = node.shared.sessions.find(INDEX).unwrap();
        let since = receiving.session.activity().data_received_unanswered_since();
        assert_eq!(since.is_some(), is_data, "{}", String::from_utf8_lossy(&plaintext));
    }
}

#[test]
fn a_thread_that_waits_holds_no_session() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let mut inbound = Inbound::new(&node.shared, &device, &*node.socket);
    node.arrives(node.sealed(&packet(OTHER, OWN, b"the last for long")));
    assert_eq!(inbound.burst(NOW), Burst::Drained);
    let receiving = node.shared.sessions.find(INDEX).unwrap();
    node.shared.sessions.remove(INDEX);
    assert_eq!(Arc::strong_count(&receiving), 1, "its keys end with it");
}
