//! The embedded registry of a mesh: who may do what in it, and how others reach it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use meshd_registry::server::{Authorise, ClientKey, Denied, Op, Quota};
use meshd_registry::{Endpoint, KeyRange};
use meshd_trust::NODE_ENDPOINTS_MAX;
use meshd_wire::record::{Endpoint as EndpointRecord, OrgRoot, OrgState, Revocations, StewardDelegation};
use meshd_wire::{Envelope, Kind, MeshId, NodeId, OrgId, PublicKey, Record};

use crate::discovery::keyspace::{Keyspace, Slot};
use crate::tls::{ALPN_REGISTRY, RawKey, ServerKey, connect};

#[cfg(test)]
mod reach;

#[cfg(test)]
mod guard_tests;

/// Keys of one member: both addresses of as many endpoints as a node has, and of a quarter as many that went.
const MEMBER_KEYS_MAX: usize = 5 * NODE_ENDPOINTS_MAX / 2;
/// Bytes of their records, with names and labels.
const MEMBER_BYTES_MAX: usize = 8 << 20;

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
    mesh: MeshId,
    keyspace: Keyspace,
    holders: Holders,
}

impl Guard {
    /// Guards the registry of one mesh.
    pub fn new(mesh: &MeshId, holders: Holders) -> Self {
        Self { mesh: *mesh, keyspace: Keyspace::new(mesh), holders }
    }

    fn may_put(&self, (node, org): (NodeId, OrgId), key: &[u8], value: &[u8]) -> Result<(), Denied> {
        let slot = self.keyspace.slot(key).ok_or_else(|| Denied::new("no record lives at this key"))?;
        let allowed = match slot {
            Slot::Peer(of) | Slot::Paths(of) => of == node,
            Slot::Genesis => is_genesis(value, &self.mesh),
            Slot::Root(of, version) => of == org && is_root(value, &of, version),
            Slot::Delegation(of, root_version, serial) => {
                of == org
                    && is_record(value, |one: StewardDelegation| {
                        (one.org, one.root_version, one.serial) == (of, root_version, serial)
                    })
            }
            Slot::Revocations(of) => of == org && is_record(value, |one: Revocations| one.org == of),
            Slot::State(of) => of == org && is_record(value, |one: OrgState| one.org == of),
            // They travel from node to node: whose word they are, no member's key says.
            Slot::Checkpoint(_) | Slot::Evidence(_) => false,
            Slot::Address(_) | Slot::Block(_) => {
                slot.suits(value) && is_record(value, |one: EndpointRecord| one.node == node)
            }
        };
        if allowed { Ok(()) } else { Err(Denied::new("a member writes only its own records")) }
    }
}

/// Whether a value is a record of a kind that fits.
fn is_record<R: Record>(value: &[u8], fits: impl FnOnce(R) -> bool) -> bool {
    Envelope::from_bytes(value).and_then(|envelope| envelope.record()).is_ok_and(fits)
}

/// Whether a value has the content that the mesh is named by.
fn is_genesis(value: &[u8], mesh: &MeshId) -> bool {
    Envelope::from_bytes(value).is_ok_and(|envelope| {
        envelope.kind() == Some(Kind::MeshGenesis)
            && envelope.record_id(mesh).is_some_and(|id| MeshId(id.0) == *mesh)
    })
}

/// Whether a value is a version of a root; the first one has the content that its organisation is named by.
fn is_root(value: &[u8], org: &OrgId, version: u32) -> bool {
    Envelope::from_bytes(value).is_ok_and(|envelope| {
        let is_version = envelope.record::<OrgRoot>().is_ok_and(|root| root.root_version == version);
        let id = envelope.record_id(&MeshId([0; 32]));
        is_version && (version > 1 || id.is_some_and(|id| OrgId(id.0) == *org))
    })
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
                    // Whose claim it is cannot be seen from the key; the others clear away their own by
                    // compare-and-swap, and a claim that is missing is put again.
                    Some(Slot::Address(_) | Slot::Block(_)) => Ok(()),
                    Some(_) | None => Err(Denied::new("a member deletes only its own records")),
                }
            }
            Op::Lease | Op::Status => Ok(()),
            Op::Compact => Err(Denied::new("the registry forgets by itself")),
        }
    }

    fn quota(&self, _: &ClientKey) -> Quota {
        Quota { keys_max: MEMBER_KEYS_MAX, bytes_max: MEMBER_BYTES_MAX, ..Quota::default() }
    }
}

/// Addresses dialled for one connection.
const DIALS_MAX: usize = 12;
/// Named addresses dialled before others; a host names its best first.
const NAMED_FIRST: usize = 4;
/// Head start of each address before the next: one that is silent must not use up the time of all.
const DIAL_STAGGER: Duration = Duration::from_millis(150);

/// Where the hosts with a control port are by now, as their records and tunnels tell.
///
/// Hints only: whoever answers must hold the key that is expected.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts(Arc<ArcSwap<Vec<SocketAddr>>>);

impl Whereabouts {
    /// Replaces the list as a whole.
    pub fn replace(&self, at: Vec<SocketAddr>) {
        self.0.store(Arc::new(at));
    }

    /// The best of the named addresses, then where a host may be by now, then the other named ones.
    pub fn among(&self, named: &[SocketAddr]) -> Vec<SocketAddr> {
        let (best, rest) = named.split_at_checked(NAMED_FIRST).unwrap_or((named, &[]));
        let held = self.0.load();
        let others = held.iter().filter(|at| !named.contains(at));
        best.iter().chain(others).chain(rest).copied().collect()
    }
}

/// Keys that the servers of the registries have by now, each by the key it was first named with.
#[derive(Debug, Clone, Default)]
pub struct ServerKeys(Arc<ArcSwap<BTreeMap<PublicKey, Vec<PublicKey>>>>);

impl ServerKeys {
    /// Replaces the table as a whole.
    pub fn replace(&self, keys: BTreeMap<PublicKey, Vec<PublicKey>>) {
        self.0.store(Arc::new(keys));
    }

    /// What the server may have that was named with a key.
    pub fn after(&self, named: &PublicKey) -> Vec<PublicKey> {
        self.0.load().get(named).cloned().unwrap_or_else(|| vec![*named])
    }
}

/// A registry at another host, reached by TLS with raw public keys; `named` is the key it was first named with.
pub fn remote(
    name: String,
    at: Vec<SocketAddr>,
    whereabouts: Whereabouts,
    key: RawKey,
    (named, servers): (PublicKey, ServerKeys),
) -> Endpoint {
    Endpoint::channel(name, move || {
        let (at, key, server) = (whereabouts.among(&at), key.clone(), servers.after(&named));
        async move {
            let mut dials: FuturesUnordered<_> = at
                .into_iter()
                .take(DIALS_MAX)
                .zip(0u32..)
                .map(|(at, turn)| {
                    let (key, server) = (&key, ServerKey::OneOf(server.clone()));
                    async move {
                        tokio::time::sleep(DIAL_STAGGER * turn).await;
                        connect(at, key, server, ALPN_REGISTRY).await
                    }
                })
                .collect();
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the registry has no address");
            while let Some(dialled) = dials.next().await {
                match dialled {
                    Ok(connection) => return Ok(connection.stream),
                    Err(error) => last = io::Error::other(error),
                }
            }
            Err(last)
        }
    })
}
