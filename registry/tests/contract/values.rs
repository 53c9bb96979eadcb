//! Single keys, compare-and-swap, transactions.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, DeleteOptions, Txn, TxnOp, TxnOpResponse};
use meshd_registry::{CasOutcome, Expect, Rev};
use tokio::task::JoinSet;

use super::backend::{Backend, PREFIX, key};

pub async fn values_are_put_read_and_deleted(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    assert_eq!(registry.get(key("a")).await.expect("absent key is no error"), None);

    let first = registry.put(key("a"), "one", None).await.expect("put");
    backend.disturb().await;
    // A read waits for a new leader; a write that meets the election may be sent twice, and counts below are exact.
    registry.get(key("a")).await.expect("get");
    let second = registry.put(key("a"), "two", None).await.expect("put");
    let read = registry.get(key("a")).await.expect("get").expect("key is there");
    assert_eq!((read.value.as_ref(), read.created, read.modified), (&b"two"[..], first, second));
    assert_eq!((read.key.as_ref(), read.version, read.lease), (key("a").as_bytes(), 2, None));

    registry.delete(key("a")).await.expect("delete");
    assert_eq!(registry.get(key("a")).await.expect("get"), None);
    registry.put(key("a"), "three", None).await.expect("put");
    let again = registry.get(key("a")).await.expect("get").expect("key is there");
    assert_eq!(again.version, 1, "a deleted key begins anew");
    assert_eq!(again.created, again.modified);
}

pub async fn the_revision_grows_by_one_per_change(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let mut raw = backend.raw().await;
    let start = registry.put(key("a"), "1", None).await.expect("put");
    let next = registry.put(key("b"), "1", None).await.expect("put");
    assert_eq!(next, start.next());
    backend.disturb().await;
    // The bare client below does not wait for a new leader, this one does.
    registry.get(key("a")).await.expect("get");

    let ops = [TxnOp::put(key("a"), "2", None), TxnOp::put(key("c"), "2", None)];
    raw.txn(Txn::new().and_then(ops)).await.expect("txn");
    let after_txn = start.next().next();
    for name in ["a", "c"] {
        let read = registry.get(key(name)).await.expect("get").expect("key is there");
        assert_eq!(read.modified, after_txn, "all of a transaction is one revision");
    }

    let absent = registry.delete(key("absent")).await.expect("delete");
    assert_eq!(absent, after_txn, "deleting nothing is no change");
    let all = DeleteOptions::new().with_prefix();
    let deleted = raw.delete(PREFIX, Some(all)).await.expect("delete");
    assert_eq!(deleted.deleted(), 3);
    let end = deleted.header().expect("header").revision();
    assert_eq!(
        end,
        i64::try_from(after_txn.next().number()).expect("small"),
        "also a delete of several keys"
    );
}

pub async fn one_of_racing_clients_creates_a_key(backend: &mut impl Backend) {
    let mut racers = JoinSet::new();
    for racer in 0..16 {
        let registry = backend.registry().await;
        racers.spawn(async move {
            let value = Bytes::from(format!("racer {racer}"));
            registry
                .cas(key("claim"), Expect::Absent, Some(value.clone()), None)
                .await
                .map(|won| (won, value))
        });
    }
    let outcomes: Vec<_> = racers.join_all().await.into_iter().map(|o| o.expect("cas")).collect();
    let won: Vec<&Bytes> = outcomes
        .iter()
        .filter_map(|(outcome, value)| matches!(outcome, CasOutcome::Done(_)).then_some(value))
        .collect();
    assert_eq!(won.len(), 1, "exactly one wins");
    let holders: BTreeSet<Bytes> = outcomes
        .iter()
        .filter_map(|(outcome, _)| match outcome {
            CasOutcome::Conflict(holder) => Some(holder.as_ref().expect("the winner's key").value.clone()),
            CasOutcome::Done(_) => None,
        })
        .collect();
    assert_eq!(holders.into_iter().collect::<Vec<_>>(), [won[0].clone()], "all others learn the winner");
}

pub async fn compare_and_swap_follows_the_revision(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let created = match registry.cas(key("a"), Expect::Absent, Some("1".into()), None).await.expect("cas") {
        CasOutcome::Done(rev) => rev,
        CasOutcome::Conflict(holder) => panic!("key was absent, found {holder:?}"),
    };
    let stale = registry.cas(key("a"), Expect::Rev(Rev::new(1)), Some("x".into()), None).await.expect("cas");
    let CasOutcome::Conflict(Some(holder)) = stale else { panic!("stale revision won: {stale:?}") };
    assert_eq!((holder.value.as_ref(), holder.modified), (&b"1"[..], created));

    let changed = registry.cas(key("a"), Expect::Rev(created), Some("2".into()), None).await.expect("cas");
    let CasOutcome::Done(changed) = changed else { panic!("current revision lost") };
    let kept = registry.cas(key("a"), Expect::Rev(created), None, None).await.expect("cas");
    assert!(matches!(kept, CasOutcome::Conflict(Some(_))), "a stale delete deletes nothing");
    let deleted = registry.cas(key("a"), Expect::Rev(changed), None, None).await.expect("cas");
    assert_eq!(deleted, CasOutcome::Done(changed.next()));
    let gone = registry.cas(key("a"), Expect::Rev(changed), None, None).await.expect("cas");
    assert_eq!(gone, CasOutcome::Conflict(None));
}

pub async fn transactions_run_the_branch_that_fits(backend: &mut impl Backend) {
    let mut raw = backend.raw().await;
    raw.put(key("a"), "m", None).await.expect("put");
    let comparisons = [
        (Compare::value(key("a"), CompareOp::Equal, "m"), true),
        (Compare::value(key("a"), CompareOp::Greater, "a"), true),
        (Compare::value(key("a"), CompareOp::Less, "a"), false),
        (Compare::value(key("absent"), CompareOp::Equal, ""), false),
        (Compare::version(key("a"), CompareOp::NotEqual, 1), false),
        (Compare::version(key("absent"), CompareOp::Equal, 0), true),
        (Compare::create_revision(key("a"), CompareOp::Greater, 1), true),
        (Compare::mod_revision(key("absent"), CompareOp::Equal, 0), true),
    ];
    for (comparison, holds) in comparisons {
        let told = format!("{comparison:?}");
        let txn = Txn::new()
            .when([comparison])
            .and_then([TxnOp::get(key("a"), None)])
            .or_else([TxnOp::get(key("b"), None)]);
        let response = raw.txn(txn).await.expect("txn");
        assert_eq!(response.succeeded(), holds, "{told}");
        let Some(TxnOpResponse::Get(read)) = response.op_responses().into_iter().next() else {
            panic!("no read in {response:?}");
        };
        assert_eq!(read.kvs().len(), usize::from(holds), "{told}");
    }
    let twice = [TxnOp::put(key("a"), "1", None), TxnOp::put(key("a"), "2", None)];
    assert!(raw.txn(Txn::new().and_then(twice)).await.is_err(), "one key twice is refused");
    let read = raw.get(key("a"), None).await.expect("get");
    assert_eq!(read.kvs()[0].value(), b"m", "a refused transaction changes nothing");
}
