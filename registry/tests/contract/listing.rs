//! Lists, page by page.

use etcd_client::{Client, Txn, TxnOp};
use meshd_registry::{Page, Registry, Versioned};

use super::backend::{Backend, key};

const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 600;
const PUTS_PER_TXN: usize = 100;

pub async fn a_listing_shows_one_revision_while_others_write(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    let mut raw = backend.raw().await;
    fill(&mut raw, KEYS).await;
    let mut pages = 0;
    let mut entries: Vec<Versioned> = Vec::new();
    let mut page = Some(Page::first());
    let mut rev = None;
    while let Some(this) = page {
        let listed = registry.list(key(""), this).await.expect("list");
        assert_eq!(*rev.get_or_insert(listed.rev), listed.rev);
        entries.extend(listed.entries);
        page = listed.next;
        pages += 1;
        if pages == 5 {
            backend.disturb().await;
        }
        write_around(&registry, pages).await;
    }
    assert!(pages > 10, "the list came in {pages} pages");
    let expected: Vec<String> = (0..KEYS).map(name).collect();
    let listed: Vec<&[u8]> = entries.iter().map(|entry| entry.key.as_ref()).collect();
    assert_eq!(listed, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
    assert!(entries.iter().all(|entry| entry.value.len() == VALUE_BYTES), "no value of a later revision");

    let now = registry.list_all(key("")).await.expect("list");
    assert_eq!(now.entries.len(), KEYS, "one key came and one went with each page");
    assert!(Some(now.rev) > rev);
}

pub async fn small_pages_join_without_gap_or_double(backend: &mut impl Backend) {
    let registry = backend.registry().await;
    for index in 0..7 {
        registry.put(name(index), "v", None).await.expect("put");
    }
    for keys_max in 1..9 {
        let mut names = Vec::new();
        let mut page = Some(Page::first().keys_max(keys_max));
        while let Some(this) = page {
            let listed = registry.list(key(""), this).await.expect("list");
            assert!(listed.entries.len() <= keys_max);
            names.extend(listed.entries.into_iter().map(|entry| entry.key));
            page = listed.next;
        }
        assert_eq!(names, (0..7).map(name).collect::<Vec<_>>(), "pages of {keys_max}");
    }
    let nothing = registry.list(key("nothing/"), Page::first()).await.expect("list");
    assert!(nothing.entries.is_empty() && nothing.next.is_none());
}

/// Changes, adds and removes keys on both sides of the page border.
async fn write_around(registry: &Registry, round: usize) {
    registry.put(name(round), "changed", None).await.expect("put");
    registry.put(name(KEYS - round), "changed", None).await.expect("put");
    registry.put(key(format_args!("00000-{round}")), "new", None).await.expect("put");
    registry.delete(name(KEYS / 2 + round)).await.expect("delete");
}

fn name(index: usize) -> String {
    key(format_args!("{index:06}"))
}

async fn fill(raw: &mut Client, keys: usize) {
    let value = vec![b'v'; VALUE_BYTES];
    for first in (0..keys).step_by(PUTS_PER_TXN) {
        let puts: Vec<TxnOp> =
            (first..first + PUTS_PER_TXN).map(|index| TxnOp::put(name(index), value.clone(), None)).collect();
        raw.txn(Txn::new().and_then(puts)).await.expect("txn");
    }
}
