//! Whether a registry at another host is reached.

use std::collections::BTreeSet;

use meshd_registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::role::control::ControlRole;
use crate::tls::Admission;

const CLIENT: [u8; 32] = [2; 32];

/// A host with a registry that lets one client in.
async fn host(dir: &tempfile::TempDir) -> (ControlRole, PublicKey) {
    let key = RawKey::from_seed(&[1; 32]).expect("key");
    let client = RawKey::from_seed(&CLIENT).expect("key").public();
    let (admission, holders) = (Admission::default(), Holders::default());
    admission.replace(BTreeSet::from([client]));
    holders.replace(BTreeMap::from([(client, (NodeId([1; 32]), OrgId([1; 32])))]));
    let (enrol, _calls) = mpsc::channel(1);
    let guard = Guard::new(&MeshId([7; 32]), holders);
    let path = Some(dir.path().join("registry.redb"));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let role = ControlRole::start(listen, &key, admission, enrol, path, guard).await.expect("serves");
    (role, key.public())
}

async fn answers(at: &[SocketAddr], whereabouts: Whereabouts, server: PublicKey) -> bool {
    let key = RawKey::from_seed(&CLIENT).expect("key");
    let endpoint =
        remote("registry".to_owned(), at.to_vec(), whereabouts, key, (server, ServerKeys::default()));
    Registry::connect(vec![endpoint]).await.expect("client").ping().await.is_ok()
}

#[tokio::test]
async fn a_registry_is_reached_although_its_first_address_is_silent() {
    let dir = tempfile::tempdir().expect("directory");
    let (role, server) = host(&dir).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let at = [silent.local_addr().expect("address"), SocketAddr::from(([127, 0, 0, 1], role.port()))];
    assert!(answers(&at, Whereabouts::default(), server).await);
    role.stop().await;
}

#[tokio::test]
async fn a_registry_that_moved_is_reached_where_its_host_is_now() {
    let dir = tempfile::tempdir().expect("directory");
    let (role, server) = host(&dir).await;
    let left = TcpListener::bind("127.0.0.1:0").await.expect("listens").local_addr().expect("address");
    let whereabouts = Whereabouts::default();
    assert!(!answers(&[left], whereabouts.clone(), server).await);
    whereabouts.replace(vec![left, SocketAddr::from(([127, 0, 0, 1], role.port()))]);
    assert!(answers(&[left], whereabouts, server).await);
    role.stop().await;
}
