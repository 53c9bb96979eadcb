//! Claims in a real registry, judged by real rosters.

mod crowd;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use meshd_registry::Endpoint as RegistryEndpoint;
use meshd_registry::server::{ClientKey, EmbeddedServer, Limits};
use meshd_trust::Roster;
use meshd_wire::Timestamp;
use meshd_wire::record::Endpoint;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::discovery::{Discovery, Finding, Life, Published};
use crate::endpoints::claims_on;
use crate::mesh::OwnClaims;
use crate::mesh::fixture::Meadow;
use crate::role::registry::{Guard, Holders};

const POOL: &str = "10.91.128.0/20";
/// Longest time until a registry that was away has everything again.
const HEARD_TIME_MAX: Duration = Duration::from_secs(60);

/// A registry that can be closed and opened again, and the meadow it serves.
struct Rig {
    meadow: Meadow,
    guard: Arc<Guard>,
    keyspace: Keyspace,
    server: Arc<Mutex<Option<EmbeddedServer>>>,
    /// Endpoints that were dialled: they serve as long as they are held.
    dialled: Arc<Mutex<Vec<RegistryEndpoint>>>,
    dir: tempfile::TempDir,
}

impl Rig {
    /// A registry that lets in the nodes from 1 on.
    async fn new(nodes: u8) -> Self {
        let meadow = Meadow::new();
        let holders = Holders::default();
        let all = (1..=nodes).map(|node| {
            let membership = meadow.membership(node);
            (membership.secrets.transport().public(), (meadow.node(node), meadow.org))
        });
        holders.replace(all.collect());
        let guard = Arc::new(Guard::new(&meadow.mesh, holders));
        let keyspace = Keyspace::new(&meadow.mesh);
        let dir = tempfile::tempdir().expect("a directory");
        let (server, dialled) = (Arc::default(), Arc::default());
        let rig = Self { meadow, guard, keyspace, server, dialled, dir };
        rig.open().await;
        rig
    }

    async fn open(&self) {
        let server = EmbeddedServer::open(self.dir.path().join("registry"), Limits::default()).await;
        *self.server.lock().expect("held") = Some(server.expect("opens"));
    }

    async fn close(&self) {
        let server = self.server.lock().expect("held").take();
        server.expect("is open").close().await;
        // What they serve ends with them, as with the process of the registry.
        self.dialled.lock().expect("held").clear();
    }

    /// The registry as a node sees it.
    async fn registry(&self, node: u8) -> Registry {
        let key = ClientKey(Some(self.meadow.membership(node).secrets.transport().public().0));
        let (server, guard) = (Arc::clone(&self.server), Arc::clone(&self.guard));
        let dialled = Arc::clone(&self.dialled);
        let endpoint = RegistryEndpoint::channel("registry", move || {
            let open = server.lock().expect("held").as_ref().map(|server| server.local(key, guard.clone()));
            dialled.lock().expect("held").extend(open.clone());
            async move {
                match open {
                    Some(RegistryEndpoint::Channel { dial, .. }) => dial().await,
                    Some(RegistryEndpoint::Etcd { .. }) | None => {
                        Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
                    }
                }
            }
        });
        Registry::connect(vec![endpoint]).await.expect("connects")
    }

    /// A node that knows others already, and asks the registry about the rest.
    async fn host(&self, node: u8, known: impl IntoIterator<Item = u8>) -> Host {
        Host::start(self, node, known, Some(self.registry(node).await), true)
    }

    fn key(&self, net: &str) -> String {
        self.keyspace.key(Slot::of_claim(at(net)))
    }

    /// Puts a claim of a node, signed at a time.
    async fn claimed(&self, node: u8, net: &str, change: impl FnOnce(&mut Endpoint)) -> Vec<u8> {
        let mut claim = self.meadow.claim(node, 1, &[net]);
        change(&mut claim);
        let value = self.meadow.signed(node, &claim);
        self.registry(node).await.put(self.key(net), value.clone(), None).await.expect("put");
        value
    }

    /// Puts certificate and keys of a node.
    async fn introduced(&self, node: u8) {
        let key = self.keyspace.key(Slot::Peer(self.meadow.node(node)));
        self.registry(node).await.put(key, self.meadow.bundle(node), None).await.expect("put");
    }

    async fn record(&self, net: &str) -> Endpoint {
        let there = self.registry(1).await.get(self.key(net)).await.expect("get").expect("a value");
        Envelope::from_bytes(&there.value).expect("an envelope").record().expect("a claim")
    }
}

/// A node: its roster, an event loop that does nothing else, and what claims for it.
struct Host {
    claimant: Claimant,
    addresses: Addresses,
    roster: Arc<Mutex<Roster>>,
    claims: Arc<Mutex<OwnClaims>>,
    task: JoinHandle<()>,
    _discovery: Option<Discovery>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    fn start(
        rig: &Rig,
        node: u8,
        known: impl IntoIterator<Item = u8>,
        registry: Option<Registry>,
        hears: bool,
    ) -> Self {
        let roster = rig.meadow.roster(known.into_iter().chain([node]));
        let signer = ClaimSigner::new(&rig.meadow.membership(node), &roster);
        let (roster, addresses) = (Arc::new(Mutex::new(roster)), Addresses::default());
        let claims = Arc::new(Mutex::new(OwnClaims::new(signer.clone())));
        let (messages, inbox) = mpsc::channel(64);
        let (found, findings) = mpsc::channel(256);
        let (publish, published) = watch::channel(Arc::default());
        let eventloop = Loop {
            node: rig.meadow.node(node),
            keyspace: rig.keyspace.clone(),
            roster: Arc::clone(&roster),
            claims: Arc::clone(&claims),
            addresses: addresses.clone(),
            publish,
        };
        let task = tokio::spawn(eventloop.run(inbox, findings));
        let keyspace = &rig.keyspace;
        let discovery = registry.clone().filter(|_| hears).map(|registry| {
            Discovery::start(0, rig.meadow.node(node), registry, keyspace.clone(), published, found)
        });
        let claimant = Claimant::new(registry, keyspace.clone(), signer, addresses.clone(), messages);
        Self { claimant, addresses, roster, claims, task, _discovery: discovery }
    }

    /// What this node has to say in the registry.
    fn published(&self) -> Published {
        let mut published = Published::new();
        let (roster, claims) = (self.roster.lock().expect("held"), self.claims.lock().expect("held"));
        claims.fill(&mut published, &roster, wall());
        published
    }

    /// Waits until all that stands in the registry.
    async fn is_heard(&self, rig: &Rig) {
        let registry = rig.registry(1).await;
        let end = Instant::now() + HEARD_TIME_MAX;
        loop {
            let listed = registry.list_all(rig.keyspace.prefix()).await.expect("listed").entries;
            let there: BTreeMap<Vec<u8>, Vec<u8>> = listed.iter().map(entry).collect();
            // A withdrawal takes no other node's place.
            let is_missing = |(slot, (value, _)): &(Slot, (Arc<[u8]>, Life))| {
                let there = there.get(rig.keyspace.key(*slot).as_bytes());
                let has_place = there.is_none_or(|there| node_of(there) == node_of(value));
                there.map(Vec::as_slice) != Some(&**value) && (claiming_node(value).is_some() || has_place)
            };
            let missing: Vec<Slot> =
                self.published().into_iter().filter(is_missing).map(|(slot, _)| slot).collect();
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "the registry does not have {missing:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn take(&self, allocation: Allocation) -> Result<IpAddr, TakeError> {
        self.claimant.take(at(POOL), allocation, &[], None, None).await
    }

    async fn want(&self, addr: &str) -> Result<IpAddr, TakeError> {
        let addr = addr.parse().expect("an address");
        self.claimant.take(at(POOL), Allocation::Sequential, &[], Some(addr), None).await
    }
}

struct Loop {
    node: NodeId,
    keyspace: Keyspace,
    roster: Arc<Mutex<Roster>>,
    claims: Arc<Mutex<OwnClaims>>,
    addresses: Addresses,
    publish: watch::Sender<Arc<Published>>,
}

impl Loop {
    async fn run(self, mut inbox: mpsc::Receiver<Message>, mut findings: mpsc::Receiver<(usize, Finding)>) {
        let (mut tick, mut found) = (tokio::time::interval(Duration::from_secs(1)), Vec::new());
        loop {
            let message = tokio::select! {
                _ = tick.tick() => {
                    self.addresses.learn(&self.roster.lock().expect("held"), &self.node, wall());
                    continue;
                }
                1.. = findings.recv_many(&mut found, 256) => {
                    let values = found.drain(..).filter_map(|(_, finding)| match finding {
                        Finding::Values(values) => Some(values),
                        Finding::Connected | Finding::Disconnected { .. } => None,
                    });
                    let values = values.flatten().collect();
                    accept_values(&mut self.roster.lock().expect("held"), &self.keyspace, values);
                    self.publish();
                    continue;
                }
                Some(message) = inbox.recv() => message,
            };
            match message {
                Message::Learn { values, net, reply, .. } => {
                    let mut roster = self.roster.lock().expect("held");
                    accept_values(&mut roster, &self.keyspace, values);
                    let _ = reply.send(claims_on(&roster, &self.node, net, wall()));
                }
                Message::Own { envelope, reply, .. } => {
                    let taken = {
                        let (mut roster, mut claims) =
                            (self.roster.lock().expect("held"), self.claims.lock().expect("held"));
                        claims.take_in(&mut roster, &envelope, wall())
                    };
                    self.publish();
                    let _ = reply.send(taken);
                }
                _ => unreachable!("nobody asks for anything else"),
            }
        }
    }
}

impl Loop {
    fn publish(&self) {
        let mut published = Published::new();
        let (roster, claims) = (self.roster.lock().expect("held"), self.claims.lock().expect("held"));
        claims.fill(&mut published, &roster, wall());
        self.publish.send_if_modified(|held| {
            let differs = **held != published;
            if differs {
                *held = Arc::new(published);
            }
            differs
        });
    }
}

/// Accepts values in the order in which they prove each other, as the real loop does.
fn accept_values(roster: &mut Roster, keyspace: &Keyspace, values: Vec<Entry>) {
    let mut values: Vec<(Slot, Vec<u8>)> =
        values.into_iter().filter_map(|(key, value)| Some((keyspace.slot(&key)?, value))).collect();
    values.sort_by_key(|(slot, _)| *slot);
    for (slot, value) in values {
        // What is refused changes nothing.
        match slot {
            Slot::Peer(_) => drop(roster.accept_bundle(&value, wall())),
            _ => drop(roster.accept(&value, wall())),
        }
    }
}

fn node_of(value: &[u8]) -> NodeId {
    Envelope::from_bytes(value).expect("an envelope").record::<Endpoint>().expect("a claim").node
}

fn at(net: &str) -> IpNet {
    net.parse().unwrap_or_else(|_| net.parse::<IpAddr>().expect("an address or a prefix").into())
}

fn ip(addr: &str) -> IpAddr {
    addr.parse().expect("an address")
}

#[tokio::test]
async fn an_address_is_the_nodes_in_registry_and_roster_when_it_is_taken() {
    let rig = Rig::new(2).await;
    let host = rig.host(1, []).await;
    assert_eq!(host.take(Allocation::Sequential).await.expect("taken"), ip("10.91.128.2"));
    assert_eq!(host.take(Allocation::Sequential).await.expect("taken"), ip("10.91.128.3"));
    let record = rig.record("10.91.128.3").await;
    assert_eq!((record.node, record.withdrawn), (rig.meadow.node(1), false));
    host.is_heard(&rig).await;
    let published = host.published();
    let slots: Vec<Slot> = published.keys().copied().collect();
    assert_eq!(slots, [Slot::of_claim(at("10.91.128.2")), Slot::of_claim(at("10.91.128.3"))]);
    assert!(published.values().all(|(_, life)| *life == Life::Slow));
}

#[tokio::test]
async fn an_address_of_another_node_is_refused_with_its_holder() {
    let rig = Rig::new(2).await;
    rig.claimed(2, "10.91.128.2/32", |_| {}).await;
    let host = rig.host(1, [2]).await;
    let error = host.want("10.91.128.2").await.expect_err("it is taken");
    let TakeError::NoAddress { why: NoAddress::Taken(Holder::Other(holder)), .. } = error else {
        panic!("{error}")
    };
    assert_eq!(holder, rig.meadow.node(2));
    assert_eq!(host.take(Allocation::Sequential).await.expect("the next one"), ip("10.91.128.3"));
    assert_eq!(rig.record("10.91.128.2/32").await.node, rig.meadow.node(2));
}

#[tokio::test]
async fn a_holder_that_is_not_known_yet_is_introduced_before_it_is_judged() {
    let rig = Rig::new(2).await;
    rig.introduced(2).await;
    rig.claimed(2, "10.91.128.2/32", |_| {}).await;
    let host = rig.host(1, []).await;
    assert_eq!(host.take(Allocation::Sequential).await.expect("taken"), ip("10.91.128.3"));
    assert_eq!(rig.record("10.91.128.2/32").await.node, rig.meadow.node(2));
}

#[tokio::test]
async fn what_is_over_or_nobodys_word_is_no_claim() {
    let rig = Rig::new(2).await;
    let day = 86_400;
    rig.claimed(2, "10.91.128.2/32", |claim| claim.issued_at = Timestamp(rig.meadow.now.0 - day - 1)).await;
    rig.claimed(2, "10.91.128.3/32", |claim| {
        (claim.withdrawn, claim.issued_at) = (true, Timestamp(rig.meadow.now.0 - 61));
    })
    .await;
    // A claim in the name of node 3, which no certificate knows.
    let value = rig.meadow.signed(2, &rig.meadow.claim(3, 1, &["10.91.128.4/32"]));
    let raw = rig.server.lock().expect("held").as_ref().expect("open").local(ClientKey::NONE, everybody());
    let raw = Registry::connect(vec![raw]).await.expect("connects");
    raw.put(rig.key("10.91.128.4"), value, None).await.expect("put");
    raw.put(rig.key("10.91.128.5"), "nothing", None).await.expect("put");
    let host = rig.host(1, [2]).await;
    for last in 2..=5 {
        let addr = host.take(Allocation::Sequential).await.expect("taken");
        assert_eq!(addr, ip(&format!("10.91.128.{last}")));
        assert_eq!(rig.record(&addr.to_string()).await.node, rig.meadow.node(1));
    }
}

fn everybody() -> Arc<dyn meshd_registry::server::Authorise> {
    struct Everybody;
    impl meshd_registry::server::Authorise for Everybody {
        fn allows(
            &self,
            _: &ClientKey,
            _: meshd_registry::server::Op<'_>,
        ) -> Result<(), meshd_registry::server::Denied> {
            Ok(())
        }
    }
    Arc::new(Everybody)
}

#[tokio::test]
async fn what_was_given_back_just_now_is_for_who_wants_it_and_for_nobody_else() {
    let rig = Rig::new(2).await;
    for addr in ["10.91.128.2/32", "10.91.128.3/32"] {
        rig.claimed(2, addr, |claim| claim.withdrawn = true).await;
    }
    let host = rig.host(1, [2]).await;
    assert_eq!(host.take(Allocation::Sequential).await.expect("taken"), ip("10.91.128.4"));
    assert_eq!(host.want("10.91.128.3").await.expect("taken"), ip("10.91.128.3"));
}

#[tokio::test]
async fn an_address_in_the_block_of_another_node_is_given_up() {
    let rig = Rig::new(2).await;
    rig.claimed(2, "10.91.128.0/26", |_| {}).await;
    let host = rig.host(1, [2]).await;
    let error = host.want("10.91.128.5").await.expect_err("it is in a block");
    assert!(matches!(error, TakeError::NoAddress { why: NoAddress::Taken(Holder::Other(_)), .. }), "{error}");
    host.is_heard(&rig).await;
    let record = rig.record("10.91.128.5").await;
    assert_eq!((record.node, record.withdrawn), (rig.meadow.node(1), true));
    assert!(!host.addresses.has(at("10.91.128.5")));
    // The whole block is out of the question now.
    assert_eq!(host.take(Allocation::Sequential).await.expect("taken"), ip("10.91.128.64"));
}

#[tokio::test]
async fn who_hears_of_a_block_hears_of_the_addresses_that_were_claimed_before_it() {
    let rig = Rig::new(3).await;
    rig.claimed(2, "10.91.128.5/32", |_| {}).await;
    rig.claimed(3, "10.91.128.0/26", |_| {}).await;
    let deaf = Host::start(&rig, 1, [2, 3], Some(rig.registry(1).await), false);
    deaf.want("10.91.128.7").await.expect_err("it is in a block");
    let roster = deaf.roster.lock().expect("held");
    let holder = roster.endpoint_at(ip("10.91.128.5"), wall()).expect("it is claimed");
    assert_eq!(holder.record().node, rig.meadow.node(2));
}

#[tokio::test]
async fn what_others_have_in_a_block_is_not_given() {
    let rig = Rig::new(2).await;
    rig.claimed(2, "10.91.128.2/32", |_| {}).await;
    rig.claimed(2, "10.91.128.64/26", |_| {}).await;
    let host = rig.host(1, [2]).await;
    assert_eq!(host.take(Allocation::Blocks).await.expect("taken"), ip("10.91.128.3"));
    assert_eq!(host.addresses.blocks(), [at("10.91.128.0/26")]);
    for _ in 4..63 {
        host.take(Allocation::Blocks).await.expect("taken");
    }
    host.claimant.tend(host.addresses.block_changes(wall())).await;
    assert_eq!(host.addresses.blocks(), [at("10.91.128.0/26"), at("10.91.128.128/26")], "ahead of need");
    assert_eq!(rig.record("10.91.128.64/26").await.node, rig.meadow.node(2));
}

#[tokio::test]
async fn a_node_without_a_registry_lives_on_the_blocks_it_has() {
    let rig = Rig::new(1).await;
    let alone = Host::start(&rig, 1, [], None, false);
    for allocation in [Allocation::Blocks, Allocation::Sequential] {
        let error = alone.take(allocation).await.expect_err("nobody to ask");
        assert!(matches!(error, TakeError::NoRegistry { .. }), "{error}");
    }
    alone.addresses.hold(at("10.91.128.64/26"), wall());
    assert_eq!(alone.take(Allocation::Blocks).await.expect("given"), ip("10.91.128.64"));

    let host = rig.host(1, []).await;
    rig.close().await;
    let error = host.take(Allocation::Sequential).await.expect_err("nobody answers");
    assert!(matches!(error, TakeError::NoRegistry { .. }), "{error}");
    rig.open().await;
    assert_eq!(host.take(Allocation::Sequential).await.expect("taken"), ip("10.91.128.2"), "nothing is lost");
}

#[tokio::test]
async fn a_claim_that_the_own_roster_refuses_is_withdrawn() {
    let rig = Rig::new(1).await;
    let host = rig.host(1, []).await;
    // Outside of the organisation's prefix.
    let outside = at("10.92.0.0/20");
    let taken = host.claimant.take(outside, Allocation::Sequential, &[], None, None).await;
    assert!(matches!(taken, Err(TakeError::Refused(Refusal::OutsidePrefix))), "{taken:?}");
    let taken = host.claimant.take(at("10.91.128.0/24"), Allocation::Sequential, &[], None, None).await;
    assert_eq!(taken.expect("another pool"), ip("10.91.128.2"));
    let overlapping = host.claimant.take(at(POOL), Allocation::Sequential, &[], None, None).await;
    assert!(matches!(overlapping, Err(TakeError::NoPool(NoPool::Overlaps(_)))), "{overlapping:?}");
}

#[tokio::test]
async fn both_families_end_in_the_same_counter_and_ranges_hold() {
    let rig = Rig::new(1).await;
    let host = rig.host(1, []).await;
    let mesh6 = meshd_trust::address::mesh_prefix6(&rig.meadow.mesh).0.segments();
    let pool6 = format!("{:x}:{:x}:{:x}:1::10:0/108", mesh6[0], mesh6[1], mesh6[2]);
    let range = [at("10.91.129.0/24")];
    let v4 = host.claimant.take(at(POOL), Allocation::Blocks, &range, None, None).await.expect("taken");
    assert_eq!(v4, ip("10.91.129.0"));
    let step = host.addresses.step(v4);
    let v6 = host.claimant.take(at(&pool6), Allocation::Sequential, &[], None, step).await.expect("taken");
    let IpAddr::V6(v6) = v6 else { panic!("{v6}") };
    assert_eq!(v6.segments()[6..], [0x10, 0x100]);
    assert!(host.addresses.has(IpAddr::from(v6).into()));
}
