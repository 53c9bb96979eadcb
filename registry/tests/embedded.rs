//! What is particular to the embedded server: limits, quotas, bad files, slow watchers, what it does not serve.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, TxnOp, WatchOptions};
use meshd_registry::server::{
    Authorise, ClientKey, Denied, EmbeddedServer, LOG_BYTES_MAX, Limits, Op, OpenError, Quota,
};
use meshd_registry::{CallError, Endpoint, Event, LeaseId, Registry, Rev};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Code;

const ALICE: ClientKey = ClientKey(Some([1; 32]));
const BOB: ClientKey = ClientKey(Some([2; 32]));

/// Everything is allowed, within a quota.
struct Within(Quota);

impl Authorise for Within {
    fn allows(&self, _: &ClientKey, _: Op<'_>) -> Result<(), Denied> {
        Ok(())
    }

    fn quota(&self, _: &ClientKey) -> Quota {
        self.0
    }
}

/// Only clients with a key get anything.
struct MembersOnly;

impl Authorise for MembersOnly {
    fn allows(&self, client: &ClientKey, _: Op<'_>) -> Result<(), Denied> {
        if *client == ClientKey::NONE { Err(Denied::new("no key of this mesh")) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_client_without_a_key_gets_nothing() {
    let (_dir, server) = open().await;
    let guard: Arc<dyn Authorise> = Arc::new(MembersOnly);
    let stranger = registry(server.local(ClientKey::NONE, Arc::clone(&guard))).await;
    let member = registry(server.local(ALICE, guard)).await;
    member.put("/a", "1", None).await.expect("members write");
    let denied = [
        stranger.get("/a").await.err(),
        stranger.put("/a", "2", None).await.err(),
        stranger.delete("/a").await.err(),
        stranger.ping().await.err(),
        stranger.lease(Duration::from_secs(5)).await.err(),
        stranger.list_all("/").await.err(),
    ];
    for error in denied {
        assert!(matches!(error, Some(CallError::Denied { .. })), "{error:?}");
    }
    assert!(matches!(stranger.watch("/", Rev::new(1)).next().await, Some(Event::Disconnected { .. })));
    assert_eq!(member.get("/a").await.expect("get").expect("key").value, "1");
}

#[tokio::test]
async fn a_quota_bounds_one_client_and_not_the_others() {
    let (_dir, server) = open().await;
    let quota: Arc<dyn Authorise> = Arc::new(Within(Quota { keys_max: 3, bytes_max: 1000, leases_max: 1 }));
    let alice = registry(server.local(ALICE, Arc::clone(&quota))).await;
    let bob = registry(server.local(BOB, quota)).await;
    for name in ["a", "b", "c"] {
        alice.put(name, "1", None).await.expect("within the quota");
    }
    let fourth = alice.put("d", "1", None).await;
    assert!(matches!(fourth, Err(CallError::Full { .. })), "{fourth:?}");
    alice.put("a", "2", None).await.expect("changing an own key takes no more room");
    bob.put("d", "1", None).await.expect("another client has its own quota");
    bob.put("a", "3", None).await.expect("an overwritten key is its writer's");
    alice.put("e", "1", None).await.expect("which frees room of the other");
    let heavy = bob.put("f", vec![0; 1000], None).await;
    assert!(matches!(heavy, Err(CallError::Full { .. })), "{heavy:?}");
    bob.delete("d").await.expect("deleting is always possible");

    let lease = alice.lease(Duration::from_secs(60)).await.expect("lease");
    alice.put("b", "4", Some(lease.id())).await.expect("a key that ends with its lease");
    let second = alice.lease(Duration::from_secs(60)).await;
    assert!(matches!(second, Err(CallError::Full { .. })), "{second:?}");
    let foreign = bob.put("g", "1", Some(lease.id())).await;
    assert!(matches!(foreign, Err(CallError::Denied { .. })), "a lease serves its owner: {foreign:?}");
}

#[tokio::test]
async fn a_client_that_dies_again_and_again_is_not_kept_out_by_its_old_leases() {
    let (_dir, server) = open().await;
    let quota: Arc<dyn Authorise> = Arc::new(Within(Quota { keys_max: 3, bytes_max: 1000, leases_max: 3 }));
    for life in 0..10 {
        // One that is killed revokes nothing.
        let alice = registry(server.local(ALICE, Arc::clone(&quota))).await;
        for key in ["slow", "fast"] {
            let lease = alice.lease(Duration::from_secs(86_400)).await.expect("a lease in every life");
            alice.put(key, life.to_string(), Some(lease.id())).await.expect("a key");
        }
        let found = alice.get("slow").await.expect("get").expect("what has a key is kept");
        assert_eq!(found.value, life.to_string());
    }
}

#[tokio::test]
async fn a_client_that_dies_and_leaves_keys_in_each_life_goes_on_with_its_lease() {
    let (_dir, server) = open().await;
    let quota: Arc<dyn Authorise> =
        Arc::new(Within(Quota { keys_max: 200, bytes_max: 10_000, leases_max: 2 }));
    for life in 0..100 {
        let alice = registry(server.local(ALICE, Arc::clone(&quota))).await;
        for name in ["the slow", "the fast"] {
            let id = LeaseId::chosen(*name.as_bytes().first_chunk().expect("eight bytes"));
            let lease =
                alice.lease_again(id, Duration::from_secs(86_400)).await.expect("a lease in every life");
            assert_eq!(lease.id(), id);
            // Nobody puts them again, so that they hang on the lease of this life.
            alice.put(format!("{name}/{life}"), "1", Some(id)).await.expect("a key");
        }
    }
}

#[tokio::test]
async fn a_lease_that_another_client_took_first_keeps_nobody_out() {
    let (_dir, server) = open().await;
    let alice = registry(server.local(ALICE, unlimited())).await;
    let bob = registry(server.local(BOB, unlimited())).await;
    let (id, ttl) = (LeaseId::chosen(*b"of alice"), Duration::from_secs(60));
    let _taken = bob.lease_again(id, ttl).await.expect("bob was first");
    let lease = alice.lease_again(id, ttl).await.expect("alice is not kept out");
    assert_ne!(lease.id(), id);
    alice.put("a", "1", Some(lease.id())).await.expect("a lease of her own");
}

#[tokio::test]
async fn keys_and_values_have_a_longest_length() {
    let (_dir, server) = open().await;
    let registry = registry(server.local(ALICE, unlimited())).await;
    registry.put("k".repeat(512), vec![0; 64 << 10], None).await.expect("the longest fit");
    let key = registry.put("k".repeat(513), "", None).await;
    assert!(matches!(key, Err(CallError::TooLarge { .. })), "{key:?}");
    let value = registry.put("k", vec![0; (64 << 10) + 1], None).await;
    assert!(matches!(value, Err(CallError::TooLarge { .. })), "{value:?}");
    let empty = registry.put("", "", None).await;
    assert!(matches!(empty, Err(CallError::Refused { code: Code::InvalidArgument, .. })), "{empty:?}");
}

#[tokio::test]
async fn a_slow_watcher_is_cut_and_told() {
    let (_dir, server) = open().await;
    let (_, mut raw) = tcp(&server).await;
    let options = WatchOptions::new().with_prefix().with_start_revision(2);
    let mut stream = raw.watch("/", Some(options)).await.expect("watch");
    let created = stream.message().await.expect("watch").expect("watch");
    assert!(created.created());
    let mut written = 0;
    for _ in 0..40 {
        let puts: Vec<TxnOp> = (0..20).map(|i| TxnOp::put(format!("/{i}"), vec![0; 30_000], None)).collect();
        raw.txn(etcd_client::Txn::new().and_then(puts)).await.expect("txn");
        written += 1;
    }
    let mut last = 1;
    let cut = loop {
        let response = stream.message().await.expect("watch").expect("watch");
        if response.canceled() {
            break response;
        }
        for event in response.events() {
            let rev = event.kv().expect("event has a key").mod_revision();
            assert!(rev == last || rev == last + 1, "no gap before the cut");
            last = rev;
        }
    };
    assert!(cut.cancel_reason().contains("too slow"), "{cut:?}");
    assert!(last < 1 + written, "something was left out, and told");
}

#[tokio::test]
async fn a_change_of_many_keys_reaches_a_watcher_whole() {
    let (_dir, server) = open().await;
    let (address, mut raw) = tcp(&server).await;
    let registry = registry(Endpoint::etcd([address.to_string()])).await;
    let long = "k".repeat(490);
    for first in (0..3000).step_by(100) {
        let puts: Vec<TxnOp> =
            (first..first + 100).map(|i| TxnOp::put(format!("/{long}/{i:04}"), "", None)).collect();
        raw.txn(etcd_client::Txn::new().and_then(puts)).await.expect("txn");
    }
    let rev = registry.list_all("/").await.expect("list").rev;
    let mut watch = registry.watch("/", rev.next());
    let all = etcd_client::DeleteOptions::new().with_prefix();
    assert_eq!(raw.delete("/", Some(all)).await.expect("delete").deleted(), 3000);
    let mut gone = 0;
    wait_for(&mut watch, |event| match event {
        Event::Delete { key: _, rev: at } => {
            assert_eq!(*at, rev.next());
            gone += 1;
            gone == 3000
        }
        other => {
            assert_eq!(*other, Event::Connected);
            false
        }
    })
    .await;
}

#[tokio::test]
async fn history_is_bounded_and_a_late_watcher_lists_again() {
    let (dir, server) = open().await;
    let first = registry(server.local(ALICE, unlimited())).await;
    for round in 0..LOG_BYTES_MAX / (60 << 10) + 10 {
        first.put("/a", vec![0; 60 << 10], None).await.unwrap_or_else(|error| panic!("{round}: {error}"));
    }
    drop(first);
    server.close().await;
    // The bound holds for what is on disk as well.
    let server = EmbeddedServer::open(file(&dir), Limits::default()).await.expect("registry opens");
    let late = registry(server.local(ALICE, unlimited())).await;
    let mut watch = late.watch("/", Rev::new(2));
    wait_for(&mut watch, |event| {
        assert!(!matches!(event, Event::Put(_)), "no part of a history with a hole");
        matches!(event, Event::Resync { entries, .. } if entries.len() == 1)
    })
    .await;
}

#[tokio::test]
async fn calls_that_are_not_served_say_so_and_harm_nothing() {
    let (_dir, server) = open().await;
    let (_, mut raw) = tcp(&server).await;
    let codes = [
        raw.leases().await.err(),
        raw.hash_kv(0).await.err(),
        raw.member_list().await.err(),
        raw.lock("/l", None).await.err(),
        raw.auth_enable().await.err(),
        raw.defragment().await.err(),
    ];
    for error in codes {
        let Some(etcd_client::Error::GRpcStatus(status)) = error else { panic!("{error:?}") };
        assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    }
    let nested = etcd_client::Txn::new().and_then([TxnOp::txn(etcd_client::Txn::new())]);
    assert!(raw.txn(nested).await.is_err());
    raw.put("/a", "1", None).await.expect("the connection goes on");
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("registry.redb");
    fs::write(&path, b"this is not a registry, whatever its name says".repeat(200)).expect("write");
    let error = EmbeddedServer::open(&path, Limits::default()).await.expect_err("garbage opened");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("registry.redb"), "{error}");

    let folder = EmbeddedServer::open(dir.path(), Limits::default()).await.expect_err("folder opened");
    assert!(matches!(folder, OpenError::Io { .. }), "{folder:?}");
}

#[tokio::test]
async fn damage_anywhere_never_ends_the_process() {
    let (dir, server) = open().await;
    let registry = registry(server.local(ALICE, unlimited())).await;
    for index in 0..200 {
        registry.put(format!("/{index}"), vec![b'v'; 300], None).await.expect("put");
    }
    drop(registry);
    server.close().await;
    let sound = fs::read(file(&dir)).expect("read");
    for part in 0..64 {
        let mut damaged = sound.clone();
        let at = damaged.len() / 64 * part;
        for byte in damaged.iter_mut().skip(at).take(16) {
            *byte ^= 0xa5;
        }
        let path = dir.path().join(format!("damaged-{part}.redb"));
        fs::write(&path, damaged).expect("write");
        match EmbeddedServer::open(&path, Limits::default()).await {
            Ok(server) => server.close().await,
            Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_second_server_on_one_file_is_refused() {
    let (dir, server) = open().await;
    let second = EmbeddedServer::open(file(&dir), Limits::default()).await.expect_err("opened twice");
    assert!(matches!(second, OpenError::InUse { .. }), "{second:?}");
    let mode = fs::metadata(file(&dir)).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner reads the file");
    server.close().await;
    EmbeddedServer::open(file(&dir), Limits::default()).await.expect("free again");
}

#[tokio::test]
async fn nobody_there_is_told_at_once_and_others_are_asked() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("port is free");
    let closed = nobody.local_addr().expect("address").to_string();
    drop(nobody);
    let alone = registry(Endpoint::etcd([closed.clone()])).await;
    let error = alone.get("/a").await.expect_err("nobody answered");
    assert!(matches!(error, CallError::Unreachable { .. }) && error.is_unreachable(), "{error:?}");

    let (_dir, server) = open().await;
    let (address, _) = tcp(&server).await;
    let both = registry(Endpoint::etcd([closed, address.to_string()])).await;
    both.put("/a", "1", None).await.expect("the second endpoint serves");
    assert_eq!(both.endpoint(), address.to_string());
}

#[tokio::test]
async fn a_wiped_registry_makes_watchers_list_again() {
    let (_dir, server) = open().await;
    let (address, _) = tcp(&server).await;
    let registry = registry(Endpoint::etcd([address.to_string()])).await;
    for _ in 0..5 {
        registry.put("/a", "1", None).await.expect("put");
    }
    let mut watch = registry.watch("/", Rev::ZERO);
    wait_for(&mut watch, |event| matches!(event, Event::Resync { entries, .. } if entries.len() == 1)).await;
    server.close().await;
    wait_for(&mut watch, |event| matches!(event, Event::Disconnected { .. })).await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = EmbeddedServer::open(file(&dir), Limits::default()).await.expect("registry opens");
    let listener = TcpListener::bind(address).await.expect("port is free again");
    let _serving = tokio::spawn(server.serve_tcp(listener, unlimited()));
    wait_for(&mut watch, |event| matches!(event, Event::Resync { entries, .. } if entries.is_empty())).await;
}

#[tokio::test]
async fn one_thread_is_enough_for_the_runtime() {
    // This test runs on a current-thread runtime, with server and clients in it.
    let (_dir, server) = open().await;
    let registry = registry(server.local(ALICE, unlimited())).await;
    let mut watch = registry.watch("/", Rev::new(2));
    let lease = registry.lease(Duration::from_secs(60)).await.expect("lease");
    let rev = registry.put("/a", "1", Some(lease.id())).await.expect("put");
    wait_for(&mut watch, |event| matches!(event, Event::Put(entry) if entry.modified == rev)).await;
    lease.revoke().await.expect("revoke");
    wait_for(&mut watch, |event| matches!(event, Event::Delete { .. })).await;
    server.close().await;
    let error = registry.get("/a").await.expect_err("closed server answered");
    assert!(error.is_unreachable(), "{error:?}");
}

#[tokio::test]
async fn etcdctl_speaks_to_it() {
    let (_dir, server) = open().await;
    let (address, _) = tcp(&server).await;
    assert_eq!(etcdctl(address, &["put", "/a", "1"]).await, "OK\n");
    etcdctl(address, &["put", "/b", "2"]).await;
    assert_eq!(etcdctl(address, &["get", "/a"]).await, "/a\n1\n");
    assert_eq!(etcdctl(address, &["get", "--prefix", "/", "--keys-only", "--limit", "1"]).await, "/a\n\n");
    assert_eq!(etcdctl(address, &["get", "", "--prefix", "--print-value-only"]).await, "1\n2\n");
    let granted = etcdctl(address, &["lease", "grant", "60"]).await;
    let lease = granted.split(' ').nth(1).expect("lease 0123 granted with TTL(60s)");
    etcdctl(address, &["put", "/c", "3", "--lease", lease]).await;
    assert!(etcdctl(address, &["lease", "timetolive", lease, "--keys"]).await.contains("/c"));
    assert!(etcdctl(address, &["lease", "keep-alive", "--once", lease]).await.contains("TTL(60)"));
    etcdctl(address, &["lease", "revoke", lease]).await;
    assert_eq!(etcdctl(address, &["del", "--prefix", "/"]).await, "2\n");
    assert!(etcdctl(address, &["endpoint", "status"]).await.contains("meshd-"));
    assert!(etcdctl(address, &["compact", "5"]).await.contains("compacted"));
}

async fn wait_for(watch: &mut meshd_registry::Watch, mut wanted: impl FnMut(&Event) -> bool) {
    let waiting = async {
        while let Some(event) = watch.next().await {
            if wanted(&event) {
                return;
            }
        }
        panic!("watch ended");
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("event arrives");
}

fn unlimited() -> Arc<dyn Authorise> {
    Arc::new(Within(Quota::UNLIMITED))
}

fn file(dir: &TempDir) -> impl AsRef<Path> + use<> {
    dir.path().join("registry.redb")
}

async fn open() -> (TempDir, EmbeddedServer) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = EmbeddedServer::open(file(&dir), Limits::default()).await.expect("registry opens");
    (dir, server)
}

async fn registry(endpoint: Endpoint) -> Registry {
    Registry::connect(vec![endpoint]).await.expect("endpoint is valid")
}

async fn tcp(server: &EmbeddedServer) -> (SocketAddr, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port is free");
    let address = listener.local_addr().expect("bound socket has an address");
    tokio::spawn(server.serve_tcp(listener, unlimited()));
    let client = Client::connect([format!("http://{address}")], None).await.expect("server is there");
    (address, client)
}

/// Runs Debian's etcdctl and returns what it prints.
async fn etcdctl(address: SocketAddr, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        // Without a scheme: etcdctl 3.4 sends the whole URL as HTTP/2 authority for some calls.
        .arg(format!("--endpoints={address}"))
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .expect("etcdctl runs: Debian's package etcd-client");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("etcdctl prints text")
}
