//! What this node has for its endpoints.

use ipnet::IpNet;

use super::*;

const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 91, 128, 5);
/// In the block of this node, without an endpoint.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 91, 128, 6);

impl Node {
    /// Has prefixes for its endpoints; the peer has those of its own, and its address.
    fn having(own: &[&str], of_peer: &[&str]) -> Self {
        let node = Self::new();
        let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let old = node.shared.snapshot.load_full();
        let mut routes = node.shared.own_routes(&nets(own));
        for net in nets(of_peer).into_iter().chain([IpNet::from(std::net::IpAddr::V4(OTHER))]) {
            routes.claim(net, Owner::Peer(Arc::clone(&node.peer)));
        }
        let snapshot = Snapshot { generation: old.generation + 1, routes, by_node: old.by_node.clone() };
        node.shared.snapshot.store(Arc::new(snapshot));
        node
    }

    /// Sends a packet as the host or an endpoint would.
    fn sends(&self, packet: Vec<u8>) -> FakeDevice {
        let device = FakeDevice::reading([vec![0; meshd_core::vnet::LEN], packet].concat());
        device.left.store(1, Ordering::Relaxed);
        Outbound::new(&self.shared, &device, &self.socket, None).burst(NOW);
        device
    }

    /// Receives a packet from the peer.
    fn hears(&self, packet: &[u8]) -> FakeDevice {
        let device = FakeDevice::reading(Vec::new());
        self.arrives(self.sealed(packet));
        self.receives_all(&device);
        device
    }
}

fn written(device: &FakeDevice) -> usize {
    device.written.load(Ordering::Relaxed)
}

#[test]
fn an_endpoint_sends_to_peers_and_hears_from_them() {
    for own in ["10.91.128.5/32", "10.91.128.0/26"] {
        let node = Node::having(&[own], &[]);
        node.sends(packet(ENDPOINT, OTHER, b"hello"));
        let mut sent = node.socket.last.lock().unwrap().clone();
        let opened = node.far_rx.open(&mut sent).unwrap();
        assert_eq!(sent[opened.plaintext][12..20], [ENDPOINT.octets(), OTHER.octets()].concat());

        let answer = packet(OTHER, ENDPOINT, b"hello");
        assert_eq!(written(&node.hears(&answer)), answer.len(), "{own}");
        assert_eq!(node.drops(), []);
    }
}

#[test]
fn what_comes_for_an_address_without_an_endpoint_is_dropped() {
    let node = Node::having(&["10.91.128.5/32"], &[]);
    assert_eq!(written(&node.hears(&packet(OTHER, NOBODY, b"hello"))), 0);
    assert_eq!(node.drops(), [("bad-destination", 1)]);
}

#[test]
fn nobody_else_speaks_for_an_endpoint_however_much_it_claims() {
    for of_peer in [&[][..], &["10.91.0.0/16"], &["10.91.128.5/32"]] {
        let node = Node::having(&["10.91.128.5/32"], of_peer);
        for forged in [ENDPOINT, OWN] {
            assert_eq!(written(&node.hears(&packet(forged, OWN, b"it is me"))), 0);
        }
        assert_eq!(node.drops(), [("bad-source", 2)], "{of_peer:?}");
    }
}

#[test]
fn who_sends_to_an_own_address_that_nobody_has_is_told() {
    for own in [&[][..], &["10.91.128.5/32"], &["10.91.128.0/26"]] {
        let node = Node::having(own, &[]);
        let told = node.sends(packet(OWN, NOBODY, b"hello"));
        assert_eq!(node.drops(), [("no-peer", 1)], "{own:?}");
        assert_eq!(written(&told), 20 + 8 + 33, "{own:?}");
        assert_eq!(node.socket.calls.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn an_address_that_a_peer_has_in_an_own_block_is_the_peers() {
    let node = Node::having(&["10.91.128.0/26"], &["10.91.128.6/32"]);
    node.sends(packet(ENDPOINT, NOBODY, b"hello"));
    assert_eq!(node.socket.calls.load(Ordering::Relaxed), 1);
    let answer = packet(NOBODY, ENDPOINT, b"hello");
    assert_eq!(written(&node.hears(&answer)), answer.len());
    assert_eq!(node.drops(), []);
}
