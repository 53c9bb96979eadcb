//! The embedded registry of a mesh: who may do what in it, and how others reach it.

use std::io;
use std::net::SocketAddr;

use meshd_registry::Endpoint;
use meshd_registry::server::{Authorise, ClientKey, Denied, Op, Quota};
use meshd_wire::{Envelope, Kind, MeshId, PublicKey};

use crate::discovery::keyspace::{Keyspace, Slot};
use crate::tls::{ALPN_REGISTRY, Admission, RawKey, ServerKey, connect};

/// Lets members read the mesh, write their own keys, and stewards the records of organisations.
///
/// Nobody has to trust this guard: what stands in a registry is verified by everybody who reads it. It keeps
/// strangers out, and one member from burying the others' records.
pub struct Guard {
    keyspace: Keyspace,
    admission: Admission,
    own: ClientKey,
}

impl Guard {
    /// Guards one mesh; `own` is the daemon's own in-process client.
    pub fn new(mesh: &MeshId, admission: Admission, own: ClientKey) -> Self {
        Self { keyspace: Keyspace::new(mesh), admission, own }
    }

    fn member(&self, client: &ClientKey) -> Result<PublicKey, Denied> {
        let key = client.0.map(PublicKey).filter(|key| self.admission.admits(key));
        key.ok_or_else(|| Denied::new("only members of the mesh use its registry"))
    }

    fn may_put(&self, client: &PublicKey, key: &[u8], value: &[u8]) -> Result<(), Denied> {
        let slot = self.keyspace.slot(key).ok_or_else(|| Denied::new("no record lives at this key"))?;
        let allowed = match slot {
            Slot::Peer(node) | Slot::Paths(node) => self.admission.holder(client) == Some(node),
            Slot::Genesis => is_kind(value, Kind::MeshGenesis),
            Slot::Root(..) => is_kind(value, Kind::OrgRoot),
            Slot::Delegation(..) => is_kind(value, Kind::StewardDelegation),
            Slot::Revocations(org) => self.speaks_for(client, &org) && is_kind(value, Kind::Revocations),
            Slot::State(org) => self.speaks_for(client, &org) && is_kind(value, Kind::OrgState),
        };
        if allowed { Ok(()) } else { Err(Denied::new("a member writes only its own records")) }
    }

    fn speaks_for(&self, client: &PublicKey, org: &meshd_wire::OrgId) -> bool {
        self.admission.org(client) == Some(*org)
    }
}

fn is_kind(value: &[u8], kind: Kind) -> bool {
    Envelope::from_bytes(value).is_ok_and(|envelope| envelope.kind() == Some(kind))
}

impl Authorise for Guard {
    fn allows(&self, client: &ClientKey, op: Op<'_>) -> Result<(), Denied> {
        if *client == self.own {
            return Ok(());
        }
        let member = self.member(client)?;
        let own_mesh = |range: &meshd_registry::KeyRange| {
            if range.is_within_prefix(self.keyspace.prefix().as_bytes()) {
                Ok(())
            } else {
                Err(Denied::new("the range reaches beyond the mesh"))
            }
        };
        match op {
            Op::Read { range } => own_mesh(range),
            Op::Put { key, value } => self.may_put(&member, key, value),
            Op::Delete { range } => {
                let key = range.single().ok_or_else(|| Denied::new("a member deletes only its own records"))?;
                match self.keyspace.slot(key) {
                    Some(Slot::Peer(node) | Slot::Paths(node)) if self.admission.holder(&member) == Some(node) => {
                        Ok(())
                    }
                    Some(_) | None => Err(Denied::new("a member deletes only its own records")),
                }
            }
            Op::Lease | Op::Status => Ok(()),
            Op::Compact => Err(Denied::new("the registry forgets by itself")),
        }
    }

    fn quota(&self, client: &ClientKey) -> Quota {
        if *client == self.own { Quota::UNLIMITED } else { Quota::default() }
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
