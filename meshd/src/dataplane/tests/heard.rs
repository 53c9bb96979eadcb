//! What a receiving thread tells others, and what it lets go before it waits.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use meshd_tunnel::PeerId;

use super::super::inbound::Inbound;
use super::super::outbound::Burst;
use super::super::probe::Probe;
use super::super::train::Refused;
use super::fakes::{FakeDevice, FakeSocket, packet};
use super::{INDEX, NOW, Node, OTHER, OWN};
use crate::io::{DatagramSocket, ReceiveMeta};

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

#[test]
fn a_link_that_refuses_what_goes_on_to_another_is_told_of() {
    const LEN: usize = 1008;
    let node = Node::new();
    let phone = Ipv4Addr::new(10, 91, 0, 3);
    let _onward = node.add_external(phone);
    node.arrives(node.sealed(&packet(OTHER, phone, &[0; LEN - 28])));
    let device = FakeDevice::reading(Vec::new());
    let socket = Narrow(Arc::clone(&node.socket));
    Inbound::new(&node.shared, &device, &socket).burst(NOW);
    assert_eq!(node.shared.notes.take_refused(), Some(Refused { peer: PeerId(1), len: LEN as u16 }));
    assert_eq!(node.drops(), [("udp-send-failed", 1)]);
}

/// A socket whose link takes nothing as long as a packet.
struct Narrow(Arc<FakeSocket>);

impl DatagramSocket for Narrow {
    fn send(&self, _: &[u8], _: usize, _: SocketAddr, _: u8) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
    }

    fn receive(&self, slab: &mut [u8], metas: &mut [ReceiveMeta]) -> io::Result<usize> {
        self.0.receive(slab, metas)
    }
}
