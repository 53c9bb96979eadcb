//! The engine's thread's work in virtual time, and a far end that is an engine alone.

mod callers;
mod epochs;
mod talk;
mod waiting;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use meshd_core::rotation::{Epoch, Use};
use meshd_tunnel::{EngineConfig, LocalKey, OVERHEAD, Suite, Tai64n, TunnelSpec};
use meshd_wire::{NodeId, OrgId};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::super::DataPlaneConfig;
use super::super::keys::{OwnKey, PeerKey, PeerKeys, key_id};
use super::super::outbound::stage;
use super::super::peer::{Peer, Reach, Way};
use super::*;
use crate::io::{Switches, Waker};

const NOW: Duration = Duration::from_secs(1000);
const MTU: u16 = 1420;
const S: fn(u64) -> Duration = Duration::from_secs;
/// The key that plain WireGuard peers know.
const EXTERNAL: [u8; 32] = [0xee; 32];
const NODE: NodeId = NodeId([2; 32]);
/// The first peer that is made.
const ID: PeerId = PeerId(0);

#[test]
fn a_peer_that_jumps_about_is_told_and_measured_once_in_a_while() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    assert_eq!(near.told(), [Event::PeerUp { node: NODE, endpoint: place(1) }]);
    assert_eq!(near.probed(), [place(1)], "a path is measured once when a session begins");

    for step in 1..=1000 {
        let now = NOW + Duration::from_millis(step.into());
        near.tunnels.heard(ID, place(2 + step % 2), now);
        near.tunnels.meet_deadlines(now);
        assert_eq!(near.endpoint(), place(2 + step % 2), "packets follow the peer at once");
    }
    assert_eq!(near.told(), [Event::PathChanged { node: NODE, endpoint: place(3) }]);
    assert_eq!(near.probed(), [place(3)]);

    near.tunnels.meet_deadlines(NOW + S(6));
    assert_eq!(
        near.told(),
        [Event::PathChanged { node: NODE, endpoint: place(2) }],
        "where it is in the end"
    );
    assert_eq!(near.probed(), [place(2)]);
    near.tunnels.heard(ID, place(4), NOW + S(30));
    near.tunnels.meet_deadlines(NOW + S(30));
    assert_eq!(near.told(), [Event::PathChanged { node: NODE, endpoint: place(4) }], "at once again");
    assert_eq!(near.probed(), [place(4)]);
}

#[test]
fn data_tells_more_of_a_peers_place_than_the_handshake_before_it() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    assert!(near.peer().note_heard(place(3), NOW + S(1)), "the engine's thread must look");
    let tunnel = near.tunnel();
    near.tunnels.established(tunnel, place(2), NOW + S(1));
    assert_eq!(near.endpoint(), place(3));
    assert_eq!(near.peer().take_heard_from(), None, "nothing older is left to be believed");
    near.tunnels.established(tunnel, place(2), NOW + S(2));
    assert_eq!(near.endpoint(), place(2));
    assert_eq!(near.peer().take_heard_from(), None);
}

#[test]
fn a_peer_is_absent_when_it_is_given_up_and_its_session_too_old() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    let tunnel = near.tunnel();
    near.peer().staged().push(b"waits", &shared.0.staged_total);
    near.tunnels.gave_up(tunnel, NOW + S(100));
    assert_eq!((near.peer().reach(), near.peer().is_up()), (Reach::Hoped, true), "its session may do");

    let given_up = NOW + S(200);
    near.tunnels.gave_up(tunnel, given_up);
    assert_eq!((near.peer().reach(), near.peer().is_up()), (Reach::Absent, false));
    assert_eq!(near.peer().staged().pop(&shared.0.staged_total), None, "nobody wants it hours later");
    near.wire.take();
    near.tunnels.meet_deadlines(given_up + S(31));
    near.tunnels.pump(given_up + S(31));
    assert_eq!(near.called(), [place(1)], "it is called again in a while");
}

#[test]
fn a_place_found_for_a_peer_whose_session_is_too_old_is_called_at_once() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    near.wire.take();
    near.finds(&[place(1), place(2)], NOW + S(100));
    assert!(near.called().is_empty(), "the session may do");
    near.finds(&[place(1), place(3)], NOW + S(200));
    assert_eq!(near.called(), [place(1), place(3)]);
}

#[test]
fn what_is_kept_for_a_peer_that_went_gives_its_room_back() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    let peer = Arc::clone(&near.tunnels.tracked[&ID].peer);
    near.tunnels.set_peers(Vec::new(), NOW);
    // A data thread that has not seen it go.
    stage(&shared.0, &peer, b"late");
    near.tunnels.read_notes(NOW);
    assert_eq!(peer.staged().pop(&shared.0.staged_total), None);
}

#[test]
fn what_waited_and_is_too_long_for_the_path_by_now_is_not_sent() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    let narrow = near.peer().way().as_ref().map(|way| Way {
        session: Arc::clone(&way.session),
        endpoint: way.endpoint,
        mtu: 1300,
        fragments: false,
    });
    near.peer().set_way(narrow);
    near.wire.take();
    for len in [1301, 1300] {
        near.peer().staged().push(&vec![0; len], &shared.0.staged_total);
    }
    near.tunnels.flush_staged(ID, NOW);
    let sent: Vec<usize> = near.wire.take().into_iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(sent, [1300 + OVERHEAD]);
}

#[test]
fn what_this_node_has_stays_when_peers_change_and_the_other_way_round() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    let owners = || {
        let snapshot = shared.0.snapshot.load_full();
        let all = ["10.91.0.1", "10.91.0.2", "10.91.128.5"].map(|addr| addr.parse().expect("an address"));
        let owners = all.map(|addr| snapshot.routes.owner(addr).map(|owner| owner.peer().is_some()));
        (owners, snapshot.generation)
    };
    let (this, peer) = (Some(false), Some(true));
    let (at_first, first) = owners();
    assert_eq!(at_first, [this, peer, peer]);
    near.tunnels.set_own(vec!["10.91.128.5/32".parse().expect("a prefix")]);
    let (with_own, second) = owners();
    assert_eq!(with_own, [this, peer, this]);
    assert!(second > first, "threads forget what they remember");
    assert!(near.peer().is_up(), "its tunnel stays");

    near.tunnels.set_own(vec!["10.91.128.5/32".parse().expect("a prefix")]);
    assert_eq!(owners(), ([this, peer, this], second), "nothing changed");
    near.finds(&[place(1)], NOW);
    assert_eq!(owners().0, [this, peer, this]);
    near.tunnels.set_own(Vec::new());
    assert_eq!(owners().0, [this, peer, peer]);
    near.tunnels.set_own(vec!["10.91.128.5/32".parse().expect("a prefix")]);
    near.tunnels.set_peers(Vec::new(), NOW);
    assert_eq!(owners().0, [this, None, this]);
}

/// The node under test, with one peer.
struct Near<'a> {
    tunnels: Tunnels<'a>,
    wire: Arc<Wire>,
    events: mpsc::Receiver<Event>,
    peer_key: PeerKey,
    far: Engine,
}

impl<'a> Near<'a> {
    fn shared() -> (Shared, Arc<Wire>) {
        let wire = Arc::new(Wire::default());
        (Self::shared_on(wire.clone(), wire.clone()), wire)
    }

    fn shared_on(data: Arc<dyn DatagramSocket>, control: Arc<dyn DatagramSocket>) -> Shared {
        let config = DataPlaneConfig {
            device: String::new(),
            mtu: None,
            udp_port: 0,
            keys: OwnKeys::single(Epoch(1), local_key([1; 32]), local_key(EXTERNAL)),
            addr4: (Ipv4Addr::new(10, 91, 0, 1), 16),
            addr6: (Ipv6Addr::LOCALHOST, 128),
            mesh_prefixes: Vec::new(),
            shards: None,
            switches: Switches::detect(),
            clock_floor: Tai64n::from_unix(Duration::ZERO),
        };
        Shared::new(&config, (MTU, true), (data, control), Waker::new().expect("a waker"))
    }

    /// A node that has just started and knows of nobody.
    fn new((shared, wire): &'a (Shared, Arc<Wire>), secret: u8, far_secret: u8) -> Self {
        let ((engine, key), (mut far, far_key)) = (engine(secret), engine(far_secret));
        let peer_key = PeerKey { epoch: Epoch(1), public: far_key.public() };
        let spec = TunnelSpec {
            key: key_id(Epoch(1)),
            peer: ID,
            peer_key: key.public(),
            my_epoch: 1,
            peer_epoch: 1,
            suite: Suite::Aes,
            psk: None,
            keepalive: None,
        };
        far.add(NOW, spec).expect("a tunnel");
        let (_, commands) = sync_channel(1);
        let keys = OwnKeys::single(Epoch(1), key, local_key(EXTERNAL));
        let tunnels = Tunnels::new(shared, engine, keys, commands);
        Self { tunnels, wire: Arc::clone(wire), events: shared.events.subscribe(), peer_key, far }
    }

    /// A node with a session that has just begun.
    fn connected(shared: &'a (Shared, Arc<Wire>)) -> Self {
        let mut near = Self::new(shared, 1, 2);
        near.finds(&[place(1)], NOW);
        near.connects();
        near
    }

    /// Calls the peer, which answers.
    fn connects(&mut self) {
        self.tunnels.call(ID, NOW);
        self.tunnels.pump(NOW);
        let initiation = self.wire.take().pop().expect("an initiation").1;
        self.far.on_control(NOW, Via { path: 0, source: place(0) }, &initiation, 0);
        let response = std::iter::from_fn(|| self.far.poll()).find_map(|action| match action {
            Action::Send { message, .. } => Some(message),
            _ => None,
        });
        let response = response.expect("a response");
        self.tunnels.engine.on_control(NOW, Via { path: 0, source: place(1) }, response.as_ref(), 0);
        self.tunnels.pump(NOW);
        self.tunnels.meet_deadlines(NOW);
    }

    /// The control plane says where the peer may be.
    fn finds(&mut self, candidates: &[SocketAddr], now: Duration) {
        self.finds_with(candidates, PeerKeys { cur: self.peer_key, next: None, prev: None }, now);
    }

    /// The control plane says where the peer may be and what keys it has.
    fn finds_with(&mut self, candidates: &[SocketAddr], keys: PeerKeys, now: Duration) {
        let config = PeerConfig {
            node: NODE,
            org: OrgId([9; 32]),
            name: "far".to_owned(),
            keys,
            addrs: ["10.91.0.2/32", "10.91.128.5/32"].map(|net| net.parse().expect("a prefix")).to_vec(),
            candidates: candidates.to_vec(),
            psk: None,
            suite: Suite::Aes,
            is_external: false,
        };
        self.tunnels.set_peers(vec![config], now);
        self.tunnels.pump(now);
    }

    fn tunnel(&self) -> TunnelId {
        self.tunnels.tracked[&ID].tunnels.called()[0]
    }

    fn peer(&self) -> &Peer {
        &self.tunnels.tracked[&ID].peer
    }

    fn endpoint(&self) -> SocketAddr {
        self.peer().way().as_ref().expect("a way").endpoint
    }

    fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Where initiations went since anybody looked.
    fn called(&self) -> Vec<SocketAddr> {
        self.wire.take().into_iter().filter(|(_, bytes)| bytes[0] == INITIATION).map(|(to, _)| to).collect()
    }

    /// Where probes as long as the device's packets went since anybody looked.
    fn probed(&self) -> Vec<SocketAddr> {
        let probes = self.wire.take().into_iter().filter(|(_, bytes)| bytes.len() > usize::from(MTU));
        probes.map(|(to, _)| to).collect()
    }
}

/// What leaves, with its destination; nothing comes.
#[derive(Default)]
struct Wire {
    sent: Mutex<Vec<(SocketAddr, Vec<u8>)>>,
    /// What others do while a train leaves.
    meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnMut(&[u8]) + Send>;

impl Wire {
    fn take(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_meanwhile(&self, meanwhile: impl FnMut(&[u8]) + Send + 'static) {
        *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(meanwhile));
    }
}

impl DatagramSocket for Wire {
    fn send(&self, train: &[u8], segment: usize, to: SocketAddr, _: u8) -> io::Result<()> {
        let datagrams = train.chunks(segment).map(|datagram| (to, datagram.to_vec()));
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).extend(datagrams);
        if let Some(meanwhile) = &mut *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner) {
            meanwhile(train);
        }
        Ok(())
    }

    fn receive(&self, _: &mut [u8], _: &mut [ReceiveMeta]) -> io::Result<usize> {
        Ok(0)
    }
}

fn place(host: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0xc000_0200 + host), 51820))
}

fn engine(secret: u8) -> (Engine, LocalKey) {
    let settings = EngineConfig {
        shards: 1,
        initiations_per_s_max: 1000,
        queue_depth_loaded: BACKLOG_LOADED,
        started: Duration::ZERO,
        clock_floor: Tai64n::from_unix(S(1_700_000_000)),
    };
    let key = local_key([secret; 32]);
    let mut engine = Engine::new(settings, [secret; 32]);
    engine.add_key(key_id(Epoch(1)), key.clone()).expect("a first key");
    (engine, key)
}

fn local_key(secret: [u8; 32]) -> LocalKey {
    LocalKey::from_bytes(&Zeroizing::new(secret)).expect("a private key")
}
