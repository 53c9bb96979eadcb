//! Leases and the keys that hang on them.

use std::time::Duration;

use etcd_client::PutOptions;
use meshd_registry::{Event, LeaseId, LeaseLost};

use super::backend::{Backend, PREFIX, key, next_change, soon};

/// Twice the shortest that etcd grants with its usual election times: a busy machine may hold up a renewal.
const TTL: Duration = Duration::from_secs(4);
/// Longer than that, in seconds.
const LONGER_S: i64 = 6;

pub async fn keys_vanish_with_an_expired_lease(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let mut raw = backend.raw().await;
    let lease = raw.lease_grant(2, None).await.expect("grant").id();
    let leased = || Some(PutOptions::new().with_lease(lease));
    let first = raw.put(key("a"), "1", leased()).await.expect("put");
    raw.put(key("b"), "1", leased()).await.expect("put");
    raw.put(key("kept"), "1", leased()).await.expect("put");
    raw.put(key("kept"), "2", None).await.expect("put");
    backend.disturb().await;
    let from = meshd_registry::Rev::new(first.header().expect("header").revision().unsigned_abs() + 4);
    let mut watch = registry.watch(PREFIX, from);
    let mut gone = Vec::new();
    while gone.len() < 2 {
        match next_change(&mut watch).await {
            Event::Delete { key, rev: _ } => gone.push(key),
            other => panic!("unexpected {other:?}"),
        }
    }
    gone.sort();
    assert_eq!(gone, [key("a"), key("b")]);
    assert_eq!(registry.get(key("a")).await.expect("get"), None);
    assert!(registry.get(key("kept")).await.expect("get").is_some(), "a put without lease takes it off");
    assert!(raw.lease_keep_alive(lease).await.is_err(), "keep-alive of a dead lease is answered with zero");
    assert!(raw.lease_time_to_live(lease, None).await.expect("lease").ttl() < 0);
}

pub async fn a_lease_in_use_stays_alive(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let lease = registry.lease(TTL).await.expect("lease");
    registry.put(key("a"), "1", Some(lease.id())).await.expect("put");
    backend.disturb().await;
    // The bare client below does not wait for a new leader, this one does.
    registry.get(key("a")).await.expect("get");
    leases_that_nobody_renews_are_over(backend).await;
    let read = registry.get(key("a")).await.expect("get").expect("key lives with its lease");
    assert_eq!(read.lease, Some(lease.id()));
    assert!(!lease.is_lost());
}

pub async fn a_revoked_lease_takes_its_keys_along(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let lease = registry.lease(Duration::from_secs(60)).await.expect("lease");
    registry.put(key("a"), "1", Some(lease.id())).await.expect("put");
    let last = registry.put(key("b"), "1", Some(lease.id())).await.expect("put");
    let mut watch = registry.watch(PREFIX, last.next());
    lease.revoke().await.expect("revoke");
    let mut revs = Vec::new();
    for _ in 0..2 {
        let Event::Delete { key: _, rev } = next_change(&mut watch).await else { panic!("no delete") };
        revs.push(rev);
    }
    assert_eq!(revs, [last.next(), last.next()], "all keys of a lease go as one revision");
    assert!(registry.list_all(PREFIX).await.expect("list").entries.is_empty());
}

pub async fn a_lease_gone_at_the_registry_is_reported(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let lease = registry.lease(TTL).await.expect("lease");
    registry.put(key("a"), "1", Some(lease.id())).await.expect("put");
    backend.raw().await.lease_revoke(number(lease.id())).await.expect("revoke");
    assert_eq!(soon("the loss", lease.lost()).await, LeaseLost::Gone);
    assert!(lease.is_lost());
}

pub async fn a_lease_goes_on_in_the_next_life_of_its_client(backend: &mut impl Backend) {
    let id = LeaseId::chosen(*b"one life");
    let before = backend.registry().await;
    let lease = before.lease_again(id, TTL).await.expect("lease");
    assert_eq!((lease.id(), lease.ttl()), (id, TTL));
    before.put(key("a"), "1", Some(id)).await.expect("put");
    drop((lease, before));

    let registry = backend.registry().await;
    let lease = registry.lease_again(id, TTL).await.expect("the lease of the life before");
    assert_eq!((lease.id(), lease.ttl()), (id, TTL));
    registry.put(key("b"), "1", Some(id)).await.expect("put");
    backend.disturb().await;
    // The bare client below does not wait for a new leader, this one does.
    registry.get(key("a")).await.expect("get");
    leases_that_nobody_renews_are_over(backend).await;
    for name in ["a", "b"] {
        let read = registry.get(key(name)).await.expect("get").expect("it lives with its lease");
        assert_eq!(read.lease, Some(id), "{name}");
    }
    assert!(!lease.is_lost());
}

pub async fn a_lease_that_is_gone_is_taken_anew_under_its_number(backend: &mut impl Backend) {
    let id = LeaseId::chosen(*b"two live");
    let registry = backend.registry().await;
    for life in ["first", "second"] {
        let lease = registry.lease_again(id, Duration::from_secs(60)).await.expect("lease");
        assert_eq!(lease.id(), id, "{life}");
        assert_eq!(registry.get(key("a")).await.expect("get"), None, "nothing of the life before: {life}");
        registry.put(key("a"), life, Some(id)).await.expect("put");
        drop(lease);
        backend.raw().await.lease_revoke(number(id)).await.expect("it is there");
    }
}

pub async fn racing_clients_share_the_lease_of_one_number(backend: &mut impl Backend) {
    let id = LeaseId::chosen(*b"many who");
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let registry = backend.registry().await;
        racers.spawn(async move { registry.lease_again(id, Duration::from_secs(60)).await });
    }
    while let Some(lease) = soon("a racer", racers.join_next()).await {
        assert_eq!(lease.expect("no panic").expect("lease").id(), id);
    }
}

pub async fn a_number_taken_by_a_stranger_keeps_nobody_out(backend: &mut impl Backend) {
    let id = LeaseId::chosen(*b"stranger");
    let options = etcd_client::LeaseGrantOptions::new().with_id(number(id));
    backend.raw().await.lease_grant(600, Some(options)).await.expect("grant");
    let registry = backend.registry().await;
    let lease = registry.lease_again(id, Duration::from_secs(60)).await.expect("another lease");
    assert_ne!(lease.id(), id, "who took it for another time is a stranger");
    assert_eq!(lease.ttl(), Duration::from_secs(60));
    registry.put(key("a"), "1", Some(lease.id())).await.expect("put");
}

/// Waits for a lease that nobody renews, taken now: by then, one of [`TTL`] had to be renewed, too.
async fn leases_that_nobody_renews_are_over(backend: &mut impl Backend) {
    let mut raw = backend.raw().await;
    let marker = raw.lease_grant(LONGER_S, None).await.expect("grant").id();
    let marked = raw.put(key("marker"), "1", Some(PutOptions::new().with_lease(marker))).await.expect("put");
    let from = marked.header().expect("header").revision().unsigned_abs() + 1;
    let mut watch = backend.registry().await.watch(key("marker"), meshd_registry::Rev::new(from));
    assert!(matches!(next_change(&mut watch).await, Event::Delete { .. }));
}

fn number(id: LeaseId) -> i64 {
    i64::from_str_radix(&id.to_string(), 16).expect("a lease shows as hexadecimal")
}
