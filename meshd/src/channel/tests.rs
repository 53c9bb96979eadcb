//! Hubs that speak QUIC over loopback: what one holds reaches the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use meshd_trust::SigningKey;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::discovery::keyspace::Slot;

const DEADLINE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// A socket that loses all it is given to send, when it is told to.
#[derive(Debug)]
struct MutableSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    is_mute: AtomicBool,
}

impl AsyncUdpSocket for MutableSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_mute.load(Ordering::Relaxed) { Ok(()) } else { self.socket.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A node without anything but its channels.
struct Node {
    id: NodeId,
    key: meshd_wire::PublicKey,
    at: SocketAddr,
    holdings: Arc<Holdings>,
    meshes: watch::Sender<Arc<Members>>,
    complaints: mpsc::Sender<NodeId>,
    received: mpsc::Receiver<Received>,
    connected: watch::Receiver<usize>,
    admitted: Admission,
    socket: Arc<MutableSocket>,
    _hub: JoinHandle<()>,
}

impl Node {
    fn new(number: u8) -> Self {
        let (id, seed) = (NodeId([number; 32]), [number; 32]);
        let key = RawKey::from_seed(&seed).expect("key");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("socket");
        let at = socket.local_addr().expect("address");
        let socket = TokioRuntime.wrap_udp_socket(socket).expect("socket");
        let muted = Arc::new(MutableSocket { socket, is_mute: AtomicBool::new(false) });
        let admitted = Admission::default();
        let endpoint = hub::endpoint(muted.clone(), &key, admitted.clone()).expect("endpoint");
        let holdings = Arc::new(Holdings::default());
        let (meshes, watched) = watch::channel(Arc::default());
        let (complaints, complained) = mpsc::channel(4);
        let (receiver, received) = mpsc::channel(4);
        let (counter, connected) = watch::channel(0);
        let ends = Ends { members: watched, complaints: complained, received: receiver, connected: counter };
        let hub = tokio::spawn(Hub::new(id, key, endpoint, Arc::clone(&holdings), ends).run());
        let key = SigningKey::from_seed(seed).public();
        Self {
            id,
            key,
            at,
            holdings,
            meshes,
            complaints,
            received,
            connected,
            admitted,
            socket: muted,
            _hub: hub,
        }
    }

    /// Makes these its neighbours.
    fn meet(&self, others: &[&Self]) {
        self.admitted.replace(others.iter().map(|other| other.key).collect::<BTreeSet<_>>());
        let neighbour = |other: &&Self| (other.id, Member { key: other.key, addresses: vec![other.at] });
        self.meshes.send_replace(Arc::new(Members::new(others.iter().map(neighbour).collect())));
    }

    fn hold(&self, records: &[(u8, &str)]) {
        let records = records.iter().map(|(number, value)| (slot(*number), value.as_bytes().to_vec()));
        self.holdings.replace(records.collect());
    }

    async fn hears(&mut self) -> (NodeId, Vec<(Slot, Vec<u8>)>) {
        let received = timeout(DEADLINE, self.received.recv()).await.expect("in time").expect("hub runs");
        (received.from, received.values)
    }

    async fn has_channels(&mut self, count: usize) {
        let connected = self.connected.wait_for(|connected| *connected == count);
        timeout(DEADLINE, connected).await.expect("in time").expect("hub runs");
    }
}

fn slot(number: u8) -> Slot {
    Slot::Peer(NodeId([number; 32]))
}

fn value(number: u8, value: &str) -> (Slot, Vec<u8>) {
    (slot(number), value.as_bytes().to_vec())
}

#[tokio::test]
async fn what_one_end_lacks_comes_from_the_other_and_what_is_new_follows() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.hold(&[(1, "both"), (2, "old"), (3, "of a")]);
    b.hold(&[(1, "both"), (2, "new"), (4, "of b")]);
    a.meet(&[&b]);
    b.meet(&[&a]);
    assert_eq!(a.hears().await, (b.id, vec![value(2, "new"), value(4, "of b")]));
    assert_eq!(b.hears().await, (a.id, vec![value(2, "old"), value(3, "of a")]));
    b.hold(&[(1, "both"), (2, "new"), (4, "newer")]);
    assert_eq!(a.hears().await, (b.id, vec![value(4, "newer")]));
}

#[tokio::test]
async fn news_passes_from_neighbour_to_neighbour_and_not_back() {
    let (a, mut b, mut c) = (Node::new(1), Node::new(2), Node::new(3));
    a.meet(&[&b]);
    b.meet(&[&a, &c]);
    c.meet(&[&b]);
    b.has_channels(2).await;
    a.hold(&[(7, "news")]);
    assert_eq!(b.hears().await, (a.id, vec![value(7, "news")]));
    b.hold(&[(7, "news")]);
    assert_eq!(c.hears().await, (b.id, vec![value(7, "news")]));
    c.hold(&[(7, "news"), (8, "more")]);
    assert_eq!(b.hears().await, (c.id, vec![value(8, "more")]), "the news itself does not come back");
}

#[tokio::test]
async fn a_caller_that_is_no_member_is_not_let_in() {
    let (mut a, mut b, stranger) = (Node::new(1), Node::new(2), Node::new(3));
    a.hold(&[(1, "secret")]);
    a.meet(&[&b]);
    b.meet(&[&a]);
    let mut stranger = stranger;
    stranger.meet(&[&a]);
    assert_eq!(b.hears().await, (a.id, vec![value(1, "secret")]));
    a.has_channels(1).await;
    assert!(timeout(2 * SECOND, stranger.received.recv()).await.is_err(), "a stranger hears nothing");
    assert_eq!(*a.connected.borrow(), 1);
}

#[tokio::test]
async fn who_is_a_member_no_more_loses_its_channel() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.meet(&[&b]);
    b.meet(&[&a]);
    a.has_channels(1).await;
    b.has_channels(1).await;
    a.meet(&[]);
    a.has_channels(0).await;
    b.has_channels(0).await;
}

#[tokio::test]
async fn a_neighbour_that_was_complained_of_is_shunned() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.meet(&[&b]);
    b.meet(&[&a]);
    a.has_channels(1).await;
    a.complaints.send(b.id).await.expect("hub runs");
    a.has_channels(0).await;
    b.has_channels(0).await;
    b.hold(&[(1, "again")]);
    assert!(timeout(3 * SECOND, a.received.recv()).await.is_err(), "it is not listened to");
}

#[tokio::test]
async fn a_neighbour_that_starts_again_gets_a_new_channel_at_once() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    a.meet(&[&b]);
    b.meet(&[&a]);
    a.has_channels(1).await;
    // Killed: nobody says farewell.
    b.socket.is_mute.store(true, Ordering::Relaxed);
    let mut again = Node::new(2);
    again.meet(&[&a]);
    a.hold(&[(1, "news")]);
    assert_eq!(again.hears().await, (a.id, vec![value(1, "news")]));
}

#[tokio::test]
async fn who_calls_a_node_that_does_not_let_it_in_calls_ever_more_seldom() {
    let (a, b) = (Node::new(1), Node::new(2));
    // b knows a, and a does not know b.
    b.meet(&[&a]);
    let mut connected = b.connected.clone();
    let mut calls = 0;
    let end = tokio::time::Instant::now() + 8 * SECOND;
    while let Ok(Ok(())) = tokio::time::timeout_at(end, connected.changed()).await {
        calls += u32::from(*connected.borrow_and_update() == 1);
    }
    // After 1 s, and then 1, 2, 4 s later with some jitter.
    assert!((1..=4).contains(&calls), "{calls} calls in 8 s");
}

#[tokio::test]
async fn a_claim_of_an_address_does_not_travel() {
    let (a, mut b) = (Node::new(1), Node::new(2));
    let claim = (Slot::Address([10, 91, 0, 5].into()), b"claim".to_vec());
    a.holdings.replace([claim, value(1, "keys")].into_iter().collect());
    a.meet(&[&b]);
    b.meet(&[&a]);
    assert_eq!(b.hears().await, (a.id, vec![value(1, "keys")]));
}

#[tokio::test]
async fn more_than_one_frame_holds_is_exchanged_whole() {
    let (a, mut b) = (Node::new(1), Node::new(2));
    let long = "x".repeat(1000);
    let records: Vec<(Slot, Vec<u8>)> = (0..3000_u16)
        .map(|number| {
            let mut id = [9; 32];
            id[..2].copy_from_slice(&number.to_be_bytes());
            (Slot::Peer(NodeId(id)), format!("{number} {long}").into_bytes())
        })
        .collect();
    a.holdings.replace(records.iter().cloned().collect());
    a.meet(&[&b]);
    b.meet(&[&a]);
    let mut heard = BTreeMap::new();
    while heard.len() < records.len() {
        heard.extend(b.hears().await.1);
    }
    assert_eq!(heard.into_iter().collect::<Vec<_>>(), records);
}
