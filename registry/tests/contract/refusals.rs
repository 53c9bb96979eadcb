//! What a registry does not do, and how it says so.

use etcd_client::{Txn, TxnOp};
use meshd_registry::{CallError, Event, Page, Rev};

use super::backend::{Backend, PREFIX, key, soon};

pub async fn large_values_pass_and_too_large_ones_are_refused(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let value = vec![7u8; 64 << 10];
    registry.put(key("large"), value.clone(), None).await.expect("64 KiB fit");
    assert_eq!(registry.get(key("large")).await.expect("get").expect("key").value, value);
    let mut raw = backend.raw().await;
    let puts: Vec<TxnOp> = (0..16).map(|index| TxnOp::put(key(index), vec![7u8; 64 << 10], None)).collect();
    raw.txn(Txn::new().and_then(puts)).await.expect("a transaction of 1 MiB fits");
    for bytes in [2 << 20, 5 << 20] {
        let refused = registry.put(key("huge"), vec![7u8; bytes], None).await;
        assert!(matches!(refused, Err(CallError::TooLarge { .. })), "{bytes}: {refused:?}");
    }
    assert_eq!(registry.get(key("huge")).await.expect("get"), None);
    let many: Vec<TxnOp> = (0..129).map(|index| TxnOp::put(key(index), "", None)).collect();
    assert!(raw.txn(Txn::new().and_then(many)).await.is_err(), "129 operations are too many");
    let listed = registry.list_all(PREFIX).await.expect("large values come in smaller pages");
    assert_eq!(listed.entries.len(), 17);
}

pub async fn a_put_with_an_unknown_lease_is_refused(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let lease = registry.lease(std::time::Duration::from_secs(60)).await.expect("lease");
    let id = lease.id();
    lease.revoke().await.expect("revoke");
    let refused = registry.put(key("a"), "1", Some(id)).await;
    assert!(matches!(refused, Err(CallError::LeaseGone { .. })), "{refused:?}");
    assert_eq!(registry.get(key("a")).await.expect("get"), None);
}

pub async fn a_foreign_prefix_is_refused(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    registry.put(key("own"), "1", None).await.expect("own prefix");
    let denied = [
        registry.put("/foreign/a", "1", None).await.err(),
        registry.get("/foreign/a").await.err(),
        registry.delete("/foreign/a").await.err(),
        registry.list("/", Page::first()).await.err(),
        registry.list("", Page::first()).await.err(),
        registry.cas("/foreign/a", meshd_registry::Expect::Absent, Some("1".into()), None).await.err(),
    ];
    for error in denied {
        assert!(matches!(error, Some(CallError::Denied { .. })), "{error:?}");
    }
    // A range that begins inside and ends outside is refused as a whole.
    let mut raw = backend.raw().await;
    let beyond = etcd_client::GetOptions::new().with_from_key();
    assert!(raw.get(PREFIX, Some(beyond)).await.is_err());
    let mixed = [TxnOp::put(key("mixed"), "1", None), TxnOp::put("/foreign/a", "1", None)];
    assert!(raw.txn(Txn::new().and_then(mixed)).await.is_err());
    assert_eq!(registry.get(key("mixed")).await.expect("get"), None, "nothing of a refused transaction");
    let mut watch = registry.watch("/foreign/", Rev::new(1));
    let event = soon("the refusal", watch.next()).await;
    assert!(matches!(event, Some(Event::Disconnected { .. })), "{event:?}");
}
