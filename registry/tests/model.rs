//! Random operations on the embedded server end like the same operations on ordered maps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use etcd_client::{Client, Compare, CompareOp, DeleteOptions, Txn, TxnOp};
use meshd_registry::server::{Authorise, ClientKey, Denied, EmbeddedServer, Limits, Op, Quota};
use meshd_registry::{CallError, CasOutcome, Event, Expect, Registry, Rev};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::{collection, proptest};
use tokio::net::TcpListener;

/// Few enough keys that operations meet.
const KEYS: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteFrom(u8),
    CreateOnly(u8, u8),
    ChangeIfCurrent(u8, u8),
    ChangeIfStale(u8),
    Txn(Vec<u8>, Option<u8>),
    Compact(u8),
    Reopen,
}

/// Value, creation, modification, version.
type Row = (Bytes, u64, u64, u64);
type View = BTreeMap<Bytes, Row>;

struct Model {
    rev: u64,
    compacted: u64,
    now: View,
    /// The view after each revision, the first of which is one.
    history: BTreeMap<u64, View>,
}

impl Model {
    fn new() -> Self {
        Self { rev: 1, compacted: 0, now: View::new(), history: BTreeMap::from([(1, View::new())]) }
    }

    fn put(&mut self, key: u8, value: Bytes) {
        let rev = self.rev + 1;
        let (created, version) = self.now.get(&name(key)).map_or((rev, 1), |row| (row.1, row.3 + 1));
        self.now.insert(name(key), (value, created, rev, version));
    }

    fn end_change(&mut self) {
        self.rev += 1;
        self.history.insert(self.rev, self.now.clone());
    }
}

struct AllowAll;

impl Authorise for AllowAll {
    fn allows(&self, _: &ClientKey, _: Op<'_>) -> Result<(), Denied> {
        Ok(())
    }

    fn quota(&self, _: &ClientKey) -> Quota {
        Quota::UNLIMITED
    }
}

/// The server with both kinds of client.
struct Subject {
    server: EmbeddedServer,
    registry: Registry,
    raw: Client,
}

impl Subject {
    async fn open(path: &Path) -> Self {
        let server = EmbeddedServer::open(path, Limits::default()).await.expect("registry opens");
        let local = server.local(ClientKey::NONE, Arc::new(AllowAll));
        let registry = Registry::connect(vec![local]).await.expect("endpoint is valid");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port is free");
        let url = format!("http://{}", listener.local_addr().expect("bound socket has an address"));
        tokio::spawn(server.serve_tcp(listener, Arc::new(AllowAll)));
        let raw = Client::connect([url], None).await.expect("server is there");
        Self { server, registry, raw }
    }

    async fn view(&self) -> (View, u64) {
        let listing = self.registry.list_all("").await.expect("list");
        let row = |e: meshd_registry::Versioned| {
            (e.key, (e.value, e.created.number(), e.modified.number(), e.version))
        };
        (listing.entries.into_iter().map(row).collect(), listing.rev.number())
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, ..Default::default() })]

    #[test]
    fn random_operations_equal_the_model(steps in collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("registry.redb");
    let mut subject = Subject::open(&path).await;
    let mut model = Model::new();
    for step in steps {
        if matches!(step, Step::Reopen) {
            subject.server.close().await;
            subject = Subject::open(&path).await;
        } else {
            apply(step, &mut subject, &mut model).await;
        }
        assert_eq!(subject.view().await, (model.now.clone(), model.rev));
    }
    check_history(&mut subject, &model).await;
    check_events(&subject, &model).await;
}

async fn apply(step: Step, subject: &mut Subject, model: &mut Model) {
    let Subject { server: _, registry, raw } = subject;
    match step {
        Step::Put(key, value) => {
            let rev = registry.put(name(key), text(value), None).await.expect("put");
            model.put(key, text(value));
            model.end_change();
            assert_eq!(rev.number(), model.rev);
        }
        Step::Delete(key) => {
            registry.delete(name(key)).await.expect("delete");
            if model.now.remove(&name(key)).is_some() {
                model.end_change();
            }
        }
        Step::DeleteFrom(key) => {
            let range = DeleteOptions::new().with_from_key();
            let deleted = raw.delete(name(key), Some(range)).await.expect("delete").deleted();
            let gone = model.now.split_off(&name(key));
            assert_eq!(deleted, i64::try_from(gone.len()).expect("small"));
            if !gone.is_empty() {
                model.end_change();
            }
        }
        Step::CreateOnly(key, value) => {
            let outcome =
                registry.cas(name(key), Expect::Absent, Some(text(value)), None).await.expect("cas");
            assert_eq!(matches!(outcome, CasOutcome::Done(_)), !model.now.contains_key(&name(key)));
            if matches!(outcome, CasOutcome::Done(_)) {
                model.put(key, text(value));
                model.end_change();
            }
        }
        Step::ChangeIfCurrent(key, value) => {
            let Some(row) = model.now.get(&name(key)) else { return };
            let expect = Expect::Rev(Rev::new(row.2));
            let outcome = registry.cas(name(key), expect, Some(text(value)), None).await.expect("cas");
            model.put(key, text(value));
            model.end_change();
            assert_eq!(outcome, CasOutcome::Done(Rev::new(model.rev)));
        }
        Step::ChangeIfStale(key) => {
            let expect = Expect::Rev(Rev::new(model.rev + 1));
            let outcome = registry.cas(name(key), expect, None, None).await.expect("cas");
            assert!(matches!(outcome, CasOutcome::Conflict(_)));
        }
        Step::Txn(puts, delete) => txn(puts, delete, raw, model).await,
        Step::Compact(back) => {
            let rev = model.rev.saturating_sub(u64::from(back));
            let outcome = raw.compact(i64::try_from(rev).expect("small"), None).await;
            assert_eq!(outcome.is_ok(), rev > model.compacted);
            model.compacted = model.compacted.max(rev);
        }
        Step::Reopen => {}
    }
}

/// Puts each key once and deletes another, if the first key is absent.
async fn txn(mut puts: Vec<u8>, delete: Option<u8>, raw: &mut Client, model: &mut Model) {
    puts.sort_unstable();
    puts.dedup();
    let delete = delete.filter(|key| !puts.contains(key));
    let condition = Compare::version(name(0), CompareOp::Equal, 0);
    let mut ops: Vec<TxnOp> = puts.iter().map(|key| TxnOp::put(name(*key), text(*key), None)).collect();
    ops.extend(delete.map(|key| TxnOp::delete(name(key), None)));
    let response = raw.txn(Txn::new().when([condition]).and_then(ops)).await.expect("txn");
    assert_eq!(response.succeeded(), !model.now.contains_key(&name(0)));
    if !response.succeeded() {
        return;
    }
    for key in &puts {
        model.put(*key, text(*key));
    }
    let deleted = delete.is_some_and(|key| model.now.remove(&name(key)).is_some());
    if deleted || !puts.is_empty() {
        model.end_change();
    }
}

/// Every kept revision shows what it showed when it was current.
async fn check_history(subject: &mut Subject, model: &Model) {
    for (rev, view) in &model.history {
        let at = i64::try_from(*rev).expect("small");
        let options = etcd_client::GetOptions::new().with_all_keys().with_revision(at);
        let outcome = subject.raw.get("", Some(options)).await;
        if *rev < model.compacted {
            assert!(outcome.is_err(), "revision {rev} is compacted");
            continue;
        }
        let shown: View = outcome
            .expect("kept revision")
            .kvs()
            .iter()
            .map(|kv| {
                let number = |n: i64| n.unsigned_abs();
                let row = (
                    Bytes::copy_from_slice(kv.value()),
                    number(kv.create_revision()),
                    number(kv.mod_revision()),
                    number(kv.version()),
                );
                (Bytes::copy_from_slice(kv.key()), row)
            })
            .collect();
        assert_eq!(&shown, view, "revision {rev}");
    }
}

/// A watch over everything kept ends with the current view.
async fn check_events(subject: &Subject, model: &Model) {
    let from = model.compacted.max(1);
    let mut view = model.history.get(&from).cloned().unwrap_or_default();
    let mut watch = subject.registry.watch("", Rev::new(from + 1));
    // One more change marks the end.
    let end = subject.registry.put("zz-end", "", None).await.expect("put");
    loop {
        match watch.next().await.expect("a watch does not end") {
            Event::Put(entry) if entry.modified == end => break,
            Event::Put(e) => {
                view.insert(e.key, (e.value, e.created.number(), e.modified.number(), e.version));
            }
            Event::Delete { key, rev: _ } => assert!(view.remove(&key).is_some()),
            Event::Connected => {}
            other @ (Event::Resync { .. } | Event::Disconnected { .. }) => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(view, model.now);
    let compacted = subject.registry.list("", meshd_registry::Page::first()).await;
    assert!(!matches!(compacted, Err(CallError::Compacted { .. })));
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    prop_oneof![
        4 => (key(), 0u8..255).prop_map(|(key, value)| Step::Put(key, value)),
        2 => key().prop_map(Step::Delete),
        1 => key().prop_map(Step::DeleteFrom),
        2 => (key(), 0u8..255).prop_map(|(key, value)| Step::CreateOnly(key, value)),
        2 => (key(), 0u8..255).prop_map(|(key, value)| Step::ChangeIfCurrent(key, value)),
        1 => key().prop_map(Step::ChangeIfStale),
        2 => (collection::vec(key(), 0..4), proptest::option::of(key())).prop_map(|(p, d)| Step::Txn(p, d)),
        1 => (0u8..6).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn name(key: u8) -> Bytes {
    Bytes::from(format!("/k/{key}"))
}

fn text(value: u8) -> Bytes {
    Bytes::from(format!("value {value}"))
}
