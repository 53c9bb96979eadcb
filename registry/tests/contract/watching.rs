//! Watches: nothing twice, nothing missing, and what is missed is told.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_client::{Txn, TxnOp, WatchOptions};
use meshd_registry::{Event, Registry, Rev, Versioned, Watch};

use super::backend::{Backend, PREFIX, key, next_change, soon};

pub async fn a_watch_after_a_listing_sees_every_change_once(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    for index in 0..20 {
        registry.put(key(index), "before", None).await.expect("put");
    }
    let listing = registry.list_all(PREFIX).await.expect("list");
    let writer = registry.clone();
    let writing = tokio::spawn(async move {
        for index in 0..100 {
            writer.put(key(index % 10), format!("{index}"), None).await.expect("put");
        }
        writer.delete(key(0)).await.expect("delete")
    });
    let mut watch = registry.watch(PREFIX, listing.rev.next());
    let mut last = listing.rev;
    let mut values = Vec::new();
    let deleted_at = loop {
        match next_change(&mut watch).await {
            Event::Put(entry) => {
                assert!(entry.modified > last, "in order and once");
                last = entry.modified;
                values.push(entry.value);
                if values.len() == 50 {
                    backend.disturb().await;
                }
            }
            Event::Delete { key: gone, rev } => {
                assert_eq!(gone, key(0));
                assert!(rev > last);
                break rev;
            }
            other => panic!("unexpected {other:?}"),
        }
    };
    // A put whose answer was lost is sent again, so that a value may come twice in a row.
    values.dedup();
    assert_eq!(values, (0..100).map(|index| Bytes::from(format!("{index}"))).collect::<Vec<_>>());
    assert_eq!(writing.await.expect("writer"), deleted_at);
}

pub async fn events_of_one_revision_arrive_together(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let start = registry.put(key("start"), "", None).await.expect("put");
    let mut raw = backend.raw().await;
    let options = WatchOptions::new().with_prefix().with_start_revision(wire(start.next()));
    let mut stream = raw.watch(PREFIX, Some(options)).await.expect("watch");
    let created = soon("the watch", stream.message()).await.expect("watch").expect("watch");
    assert!(created.created());
    let ops =
        [TxnOp::put(key("a"), "1", None), TxnOp::put(key("b"), "2", None), TxnOp::delete(key("start"), None)];
    raw.txn(Txn::new().and_then(ops)).await.expect("txn");
    let response = soon("the events", stream.message()).await.expect("watch").expect("watch");
    let keys: Vec<&[u8]> =
        response.events().iter().map(|event| event.kv().expect("event has a key").key()).collect();
    assert_eq!(keys, [key("a"), key("b"), key("start")].iter().map(String::as_bytes).collect::<Vec<_>>());
}

pub async fn a_watch_on_compacted_history_is_told_the_revision(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let (first, last) = write_history(&registry).await;
    let mut raw = backend.raw().await;
    raw.compact(wire(last), None).await.expect("compact");
    let options = WatchOptions::new().with_prefix().with_start_revision(wire(first));
    let mut stream = raw.watch(PREFIX, Some(options)).await.expect("watch");
    let cancelled = loop {
        let response = soon("the cancellation", stream.message()).await.expect("watch").expect("watch");
        assert!(response.events().is_empty(), "no part of a history with a hole");
        if response.canceled() {
            break response;
        }
    };
    assert_eq!(cancelled.compact_revision(), wire(last));
}

pub async fn a_watch_on_compacted_history_lists_again(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let (first, last) = write_history(&registry).await;
    let mut raw = backend.raw().await;
    raw.compact(wire(last), None).await.expect("compact");
    backend.disturb().await;
    let mut watch = registry.watch(PREFIX, first);
    let Event::Resync { rev, entries } = next_change(&mut watch).await else { panic!("no resync") };
    assert!(rev >= last);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].value, "9");
    let next = registry.put(key("a"), "after", None).await.expect("put");
    let Event::Put(entry) = next_change(&mut watch).await else { panic!("no put") };
    assert_eq!((entry.modified, entry.value.as_ref()), (next, &b"after"[..]));
}

pub async fn a_slow_watcher_ends_up_with_the_truth(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let start = registry.put(key("start"), "", None).await.expect("put");
    // Far more than any buffer on the way holds, and nobody reads.
    let mut watch = registry.watch(PREFIX, start.next());
    let mut raw = backend.raw().await;
    for round in 0..60 {
        let value = vec![b'0' + round; 30_000];
        let puts: Vec<TxnOp> = (0..20).map(|index| TxnOp::put(key(index), value.clone(), None)).collect();
        raw.txn(Txn::new().and_then(puts)).await.expect("txn");
    }
    backend.disturb().await;
    let last = registry.put(key("end"), "", None).await.expect("put");
    let mut view = BTreeMap::from([(Bytes::from(key("start")), Rev::ZERO)]);
    follow_until(&mut watch, &mut view, last).await;
    let truth = registry.list_all(PREFIX).await.expect("list");
    let keys: Vec<_> = truth.entries.iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(view.keys().cloned().collect::<Vec<_>>(), keys);
    for Versioned { key, modified, .. } in truth.entries.iter().filter(|entry| entry.modified > start) {
        assert_eq!(view.get(key), Some(modified), "the last version of every key was seen");
    }
}

pub async fn a_watch_from_zero_begins_with_a_listing(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let rev = registry.put(key("a"), "1", None).await.expect("put");
    let mut watch = registry.watch(PREFIX, Rev::ZERO);
    assert_eq!(soon("the connection", watch.next()).await, Some(Event::Connected));
    let Event::Resync { rev: shown, entries } = next_change(&mut watch).await else { panic!("no resync") };
    assert_eq!(shown, rev);
    assert_eq!(entries.len(), 1);
    let next = registry.delete(key("a")).await.expect("delete");
    assert_eq!(next_change(&mut watch).await, Event::Delete { key: key("a").into(), rev: next });
}

pub async fn everything_survives_a_restart(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let mut raw = backend.raw().await;
    let lease = raw.lease_grant(600, None).await.expect("grant").id();
    let leased = etcd_client::PutOptions::new().with_lease(lease);
    raw.put(key("leased"), "l", Some(leased)).await.expect("put");
    let before = registry.put(key("a"), "1", None).await.expect("put");
    let listing = registry.list_all(PREFIX).await.expect("list");
    let mut watch = registry.watch(PREFIX, before);
    let Event::Put(seen) = next_change(&mut watch).await else { panic!("no put") };
    assert_eq!(seen.modified, before);

    backend.restart().await;

    let after = registry.list_all(PREFIX).await.expect("list");
    assert_eq!((after.rev, after.entries), (listing.rev, listing.entries), "data and revision are the same");
    let left = backend.raw().await.lease_time_to_live(lease, None).await.expect("lease");
    assert!(left.ttl() > 0, "the lease lives");
    let next = registry.put(key("b"), "2", None).await.expect("put");
    assert_eq!(next, before.next());
    let event = loop {
        match soon("an event", watch.next()).await.expect("a watch does not end") {
            Event::Connected | Event::Disconnected { .. } => {}
            event => break event,
        }
    };
    let Event::Put(resumed) = event else { panic!("resumed with {event:?}") };
    assert_eq!((resumed.modified, resumed.value.as_ref()), (next, &b"2"[..]), "resumed at the next revision");
}

/// Ten versions of one key.
async fn write_history(registry: &Registry) -> (Rev, Rev) {
    let first = registry.put(key("a"), "0", None).await.expect("put");
    let mut last = first;
    for version in 1..10 {
        last = registry.put(key("a"), format!("{version}"), None).await.expect("put");
    }
    (first, last)
}

/// Keeps a view as a daemon does.
async fn follow_until(watch: &mut Watch, view: &mut BTreeMap<Bytes, Rev>, last: Rev) {
    loop {
        let seen = match next_change(watch).await {
            Event::Put(entry) => {
                let known = view.insert(entry.key, entry.modified);
                assert!(known < Some(entry.modified), "no version twice or late");
                entry.modified
            }
            Event::Delete { key, rev } => {
                view.remove(&key);
                rev
            }
            Event::Resync { rev, entries } => {
                *view = entries.into_iter().map(|entry| (entry.key, entry.modified)).collect();
                rev
            }
            Event::Connected | Event::Disconnected { .. } => continue,
        };
        if seen >= last {
            return;
        }
    }
}

fn wire(rev: Rev) -> i64 {
    i64::try_from(rev.number()).expect("revisions of a test are small")
}
