//! Which claims are put into a registry, and which are left alone or cleared away.

use meshd_registry::server::{Authorise, ClientKey, Denied, EmbeddedServer, Limits, Op};
use meshd_wire::record::Endpoint;

use super::*;
use crate::mesh::fixture::Meadow;

struct Everybody;

impl Authorise for Everybody {
    fn allows(&self, _: &ClientKey, _: Op<'_>) -> Result<(), Denied> {
        Ok(())
    }
}

/// A registry, and a node of the meadow that uses it.
struct Rig {
    meadow: Meadow,
    keyspace: Keyspace,
    registry: Registry,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server =
            EmbeddedServer::open(dir.path().join("registry"), Limits::default()).await.expect("opens");
        let endpoint = server.local(ClientKey(Some([1; 32])), Arc::new(Everybody));
        let registry = Registry::connect(vec![endpoint]).await.expect("connects");
        let meadow = Meadow::new();
        Self { keyspace: Keyspace::new(&meadow.mesh), meadow, registry, _dir: dir }
    }

    /// A claim of a node on one address, and its place.
    fn claim(&self, node: u8, addr: &str, withdrawn: bool) -> (Slot, Vec<u8>) {
        let claim = Endpoint { withdrawn, ..self.meadow.claim(node, 1, &[&format!("{addr}/32")]) };
        (Slot::Address(addr.parse().expect("an address")), self.meadow.signed(node, &claim))
    }

    async fn put(&self, (slot, value): &(Slot, Vec<u8>)) {
        self.registry.put(self.keyspace.key(*slot), value.clone(), None).await.expect("put");
    }

    async fn value(&self, slot: Slot) -> Option<Vec<u8>> {
        let there = self.registry.get(self.keyspace.key(slot)).await.expect("get");
        there.map(|there| there.value.to_vec())
    }

    /// Waits until a value stands, or nothing.
    async fn stands(&self, slot: Slot, value: Option<&[u8]>) {
        while self.value(slot).await.as_deref() != value {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Node 1, which publishes something.
    fn start(&self, published: Published) -> (watch::Sender<Arc<Published>>, Discovery) {
        let (publish, published) = watch::channel(Arc::new(published));
        let (findings, mut inbox) = mpsc::channel(16);
        tokio::spawn(async move { while inbox.recv().await.is_some() {} });
        let (registry, keyspace) = (self.registry.clone(), self.keyspace.clone());
        (publish, Discovery::start(0, self.meadow.node(1), registry, keyspace, published, findings))
    }
}

fn published(entries: &[&(Slot, Vec<u8>)]) -> Published {
    entries.iter().map(|(slot, value)| (*slot, (value.as_slice().into(), Life::Slow))).collect()
}

#[tokio::test]
async fn a_claim_is_put_where_no_other_node_has_a_live_one() {
    let rig = Rig::new().await;
    let live = rig.claim(2, "10.91.128.5", false);
    let over = rig.claim(2, "10.91.128.6", true);
    rig.put(&live).await;
    rig.put(&over).await;
    let own = ["10.91.128.5", "10.91.128.6", "10.91.128.7"].map(|addr| rig.claim(1, addr, false));
    let (publish, _discovery) = rig.start(published(&own.each_ref()));
    // They are put in this order.
    rig.stands(own[1].0, Some(&own[1].1)).await;
    rig.stands(own[2].0, Some(&own[2].1)).await;
    assert_eq!(rig.value(live.0).await, Some(live.1), "it was there before");

    let gone = rig.claim(1, "10.91.128.7", true);
    publish.send_replace(Arc::new(published(&[&own[0], &own[1], &gone])));
    rig.stands(gone.0, Some(&gone.1)).await;
}

#[tokio::test]
async fn paths_that_stand_are_put_again_by_a_new_session_whose_lease_keeps_them() {
    let rig = Rig::new().await;
    let slot = Slot::Paths(rig.meadow.node(1));
    let value: Arc<[u8]> = b"paths".as_slice().into();
    let revision =
        async || rig.registry.get(rig.keyspace.key(slot)).await.expect("get").map(|there| there.modified);
    let (publish, discovery) = rig.start(Published::from([(slot, (Arc::clone(&value), Life::Fast))]));
    rig.stands(slot, Some(&value)).await;
    let first = revision().await;
    drop((publish, discovery));
    let (_publish, _discovery) = rig.start(Published::from([(slot, (Arc::clone(&value), Life::Fast))]));
    while revision().await == first {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(rig.value(slot).await.as_deref(), Some(&*value));
}

#[tokio::test]
async fn each_run_of_a_node_has_the_leases_of_the_run_before() {
    let rig = Rig::new().await;
    let node = rig.meadow.node(1);
    let slots = [(Slot::Peer(node), Life::Slow), (Slot::Paths(node), Life::Fast)];
    let mut leases = std::collections::BTreeSet::new();
    for run in ["first", "second", "third"] {
        let value: Arc<[u8]> = run.as_bytes().into();
        let published = slots.map(|(slot, life)| (slot, (Arc::clone(&value), life)));
        let (_publish, _discovery) = rig.start(Published::from(published));
        for (slot, life) in slots {
            rig.stands(slot, Some(&value)).await;
            let there = rig.registry.get(rig.keyspace.key(slot)).await.expect("get").expect("it stands");
            leases.insert((life == Life::Fast, there.lease.expect("it has a lease")));
        }
    }
    assert_eq!(leases.len(), 2, "one for each life: {leases:?}");
}

#[tokio::test]
async fn claims_of_this_node_that_are_over_are_cleared_away() {
    let rig = Rig::new().await;
    let resting = rig.claim(1, "10.91.128.4", true);
    let over = rig.claim(1, "10.91.128.9", true);
    let of_another = rig.claim(2, "10.91.128.6", true);
    let unknown = rig.claim(1, "10.91.128.7", false);
    for entry in [&resting, &over, &of_another, &unknown] {
        rig.put(entry).await;
    }
    let (_publish, _discovery) = rig.start(published(&[&resting]));
    // They are cleared away in the order of their keys, and this is the last one.
    rig.stands(over.0, None).await;
    for (slot, value) in [resting, of_another, unknown] {
        assert_eq!(rig.value(slot).await, Some(value), "{slot:?}");
    }
}

#[test]
fn a_burst_of_foreign_writes_does_not_put_off_the_next_repair() {
    let (mut repair, start) = (Repair::default(), Instant::now());
    assert_eq!(repair.due(start), start);
    let later = start + Duration::from_millis(1);
    for _ in 0..1000 {
        assert_eq!(repair.due(later), start + REPAIR_EVERY);
    }
    let much_later = start + 10 * REPAIR_EVERY;
    assert_eq!(repair.due(much_later), much_later);
}
