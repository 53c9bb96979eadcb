//! The embedded registry of a mesh: who may do what in it, and how others reach it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meshd_registry::server::{Authorise, ClientKey, Denied, Op};
use meshd_registry::{Endpoint, KeyRange};
use meshd_wire::{Envelope, Kind, MeshId, NodeId, OrgId, PublicKey};

use crate::discovery::keyspace::{Keyspace, Slot};
use crate::tls::{ALPN_REGISTRY, RawKey, ServerKey, connect};

/// Whose transport key is whose, as the roster says at this moment.
#[derive(Debug, Clone, Default)]
pub struct Holders(Arc<ArcSwap<BTreeMap<PublicKey, (NodeId, OrgId)>>>);

impl Holders {
    /// Replaces the table as a whole.
    pub fn replace(&self, holders: BTreeMap<PublicKey, (NodeId, OrgId)>) {
        self.0.store(Arc::new(holders));
    }

    /// Holder of a transport key.
    pub fn of(&self, key: &PublicKey) -> Option<(NodeId, OrgId)> {
        self.0.load().get(key).copied()
    }
}

/// Lets members read the mesh, write their own keys, and stewards the records of organisations.
///
/// Nobody has to trust this guard: what stands in a registry is verified by everybody who reads it. It keeps
/// strangers out, and one member from burying the others' records.
pub struct Guard {
    keyspace: Keyspace,
    holders: Holders,
}

impl Guard {
    /// Guards the registry of one mesh.
    pub fn new(mesh: &MeshId, holders: Holders) -> Self {
        Self { keyspace: Keyspace::new(mesh), holders }
    }

    fn may_put(&self, (node, org): (NodeId, OrgId), key: &[u8], value: &[u8]) -> Result<(), Denied> {
        let slot = self.keyspace.slot(key).ok_or_else(|| Denied::new("no record lives at this key"))?;
        let allowed = match slot {
            Slot::Peer(of) | Slot::Paths(of) => of == node,
            Slot::Genesis => is_kind(value, Kind::MeshGenesis),
            Slot::Root(..) => is_kind(value, Kind::OrgRoot),
            Slot::Delegation(..) => is_kind(value, Kind::StewardDelegation),
            Slot::Revocations(of) => of == org && is_kind(value, Kind::Revocations),
            Slot::State(of) => of == org && is_kind(value, Kind::OrgState),
        };
        if allowed { Ok(()) } else { Err(Denied::new("a member writes only its own records")) }
    }
}

fn is_kind(value: &[u8], kind: Kind) -> bool {
    Envelope::from_bytes(value).is_ok_and(|envelope| envelope.kind() == Some(kind))
}

impl Authorise for Guard {
    fn allows(&self, client: &ClientKey, op: Op<'_>) -> Result<(), Denied> {
        let member = client.0.and_then(|key| self.holders.of(&PublicKey(key)));
        let member = member.ok_or_else(|| Denied::new("only members of the mesh use its registry"))?;
        let own_mesh = |range: &KeyRange| {
            if range.lies_within_prefix(self.keyspace.prefix().as_bytes()) {
                Ok(())
            } else {
                Err(Denied::new("the range reaches beyond the mesh"))
            }
        };
        match op {
            Op::Read { range } => own_mesh(range),
            Op::Put { key, value } => self.may_put(member, key, value),
            Op::Delete { range } => {
                let one_key = *range == KeyRange::key(range.start());
                match self.keyspace.slot(range.start()).filter(|_| one_key) {
                    Some(Slot::Peer(node) | Slot::Paths(node)) if node == member.0 => Ok(()),
                    Some(_) | None => Err(Denied::new("a member deletes only its own records")),
                }
            }
            Op::Lease | Op::Status => Ok(()),
            Op::Compact => Err(Denied::new("the registry forgets by itself")),
        }
    }
}

/// A registry at another host, reached by TLS with raw public keys.
pub fn remote(name: String, at: Vec<SocketAddr>, key: RawKey, server: PublicKey) -> Endpoint {
    Endpoint::channel(name, move || {
        let (at, key) = (at.clone(), key.clone());
        async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the registry has no address");
            for at in at {
                match connect(at, &key, ServerKey::Pinned(server), ALPN_REGISTRY).await {
                    Ok(connection) => return Ok(connection.stream),
                    Err(error) => last = io::Error::other(error),
                }
            }
            Err(last)
        }
    })
}
