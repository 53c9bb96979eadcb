//! What this host is in its mesh: its secrets, and where registries and stewards are.

use std::path::Path;

use meshd_core::rotation::Epoch;
use meshd_trust::SigningKey;
use meshd_tunnel::LocalKey;
use meshd_wire::enrol::RegistryHint;
use meshd_wire::record::{EpochKey, JoinRequest, NodeExternals, NodeKeys, NodeLeave, VERSION};
use meshd_wire::{Envelope, MeshId, NodeId, OrgId, PublicKey, Timestamp};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::config::Suites;
use crate::generations::{Generations, GenerationsError};
use crate::private_key::{PrivateKey, local};
use crate::stored::{self, Stored, StoredError};

/// Format of the file.
const FORMAT: u8 = 1;

/// Secrets of a node, made before it is admitted.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(array)]
pub struct NodeSecrets {
    #[cbor(n(0), with = "minicbor::bytes")]
    identity: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    transport: [u8; 32],
    /// None once it is kept where keys rotate.
    #[n(2)]
    #[zeroize(skip)]
    tunnel: PrivateKey,
    #[n(3)]
    epoch: u32,
    #[cbor(n(4), with = "minicbor::bytes")]
    external: [u8; 32],
}

impl NodeSecrets {
    /// Random bytes that they are made of.
    pub const RANDOM_LEN: usize = 128;

    /// Makes secrets of random bytes.
    pub fn new(random: &[u8; Self::RANDOM_LEN]) -> Self {
        let ([identity, transport, tunnel, external], []) = random.as_chunks::<32>() else {
            unreachable!("four keys of 32 bytes")
        };
        let tunnel = PrivateKey::from_bytes(tunnel).unwrap_or_else(|| unreachable!("32 bytes are a key"));
        Self { identity: *identity, transport: *transport, tunnel, epoch: 1, external: *external }
    }

    /// Key that signs the node's records.
    pub fn identity(&self) -> SigningKey {
        SigningKey::from_seed(self.identity)
    }

    /// Key of the node's TLS.
    pub fn transport(&self) -> SigningKey {
        SigningKey::from_seed(self.transport)
    }

    /// The tunnel key that the node joins with, until it is kept where keys rotate.
    pub fn first_tunnel(&self) -> Option<(Epoch, PrivateKey)> {
        (!self.tunnel.is_none()).then(|| (Epoch(self.epoch), self.tunnel.clone()))
    }

    /// Forgets the tunnel key that the node joined with; true if there was one. Stored here it would outlive its end.
    pub fn forget_first_tunnel(&mut self) -> bool {
        !std::mem::replace(&mut self.tunnel, PrivateKey::none()).is_none()
    }

    /// Key of the tunnels to plain WireGuard peers: they know no other, so it stays.
    pub fn external(&self) -> LocalKey {
        local(&Zeroizing::new(self.external))
    }

    /// Name of the node, derived from its identity key.
    pub fn node(&self) -> NodeId {
        self.identity().public().key_id().into()
    }

    /// Signs the tunnel key that the node joins with.
    pub fn sign_keys(
        &self,
        mesh: &MeshId,
        suites: Suites,
        since: Timestamp,
        seq: u64,
        now: Timestamp,
    ) -> Envelope {
        let key = self.tunnel.local();
        let keys = NodeKeys {
            version: VERSION,
            node: self.node(),
            seq,
            issued_at: now,
            suites: suites.bits(),
            post_quantum: 0,
            compromised: false,
            cur: EpochKey { epoch: self.epoch, key: PublicKey(key.public()), since },
            next: None,
            prev: None,
            accept_until: None,
        };
        meshd_trust::sign(&keys, mesh, &[&self.identity()])
    }

    /// Signs a request for a certificate, with identity and transport key.
    pub fn sign_request(
        &self,
        mesh: MeshId,
        org: OrgId,
        name: String,
        keys: Vec<u8>,
        now: Timestamp,
    ) -> Envelope {
        let request = JoinRequest {
            version: VERSION,
            mesh,
            org,
            name,
            identity: self.identity().public(),
            transport: self.transport().public(),
            issued_at: now,
            keys,
        };
        meshd_trust::sign(&request, &mesh, &[&self.identity(), &self.transport()])
    }

    /// Signs the names of the plain WireGuard peers that the node serves.
    pub fn sign_externals(&self, mesh: &MeshId, seq: u64, names: Vec<String>, now: Timestamp) -> Envelope {
        let node = self.node();
        let externals = NodeExternals { version: VERSION, node, seq, issued_at: now, names };
        meshd_trust::sign(&externals, mesh, &[&self.identity()])
    }

    /// Signs a farewell.
    pub fn sign_leave(&self, mesh: &MeshId, now: Timestamp) -> Envelope {
        let leave = NodeLeave { version: VERSION, node: self.node(), issued_at: now };
        meshd_trust::sign(&leave, mesh, &[&self.identity()])
    }
}

/// This host's membership as it is stored.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
pub struct Membership {
    #[n(0)]
    format: u8,
    /// The mesh.
    #[n(1)]
    pub mesh: MeshId,
    /// The organisation.
    #[n(2)]
    pub org: OrgId,
    /// The node's secrets.
    #[n(3)]
    pub secrets: NodeSecrets,
    /// Registries of the mesh.
    #[n(4)]
    pub registries: Vec<RegistryHint>,
    /// `address:port` of stewards.
    #[n(5)]
    pub stewards: Vec<String>,
    /// Whether this host has the steward role.
    #[n(6)]
    pub steward: bool,
    /// Which organisation serves a registry, by the key that its hint names: its steward may get another key.
    #[n(7)]
    servers: Option<Vec<Server>>,
}

/// Who serves a registry.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(array)]
struct Server {
    #[n(0)]
    named: PublicKey,
    #[n(1)]
    org: OrgId,
}

impl Membership {
    /// Makes a membership.
    pub fn new(
        mesh: MeshId,
        org: OrgId,
        secrets: NodeSecrets,
        registries: Vec<RegistryHint>,
        stewards: Vec<String>,
        steward: bool,
    ) -> Self {
        Self { format: FORMAT, mesh, org, secrets, registries, stewards, steward, servers: None }
    }

    /// Takes over what a steward said of registries and stewards; true if that is new. Hosts move.
    pub fn learn(&mut self, registries: Vec<RegistryHint>, stewards: Vec<String>) -> bool {
        let mut new = false;
        if !registries.is_empty() && registries != self.registries {
            (self.registries, new) = (registries, true);
        }
        if !stewards.is_empty() && stewards != self.stewards {
            (self.stewards, new) = (stewards, true);
        }
        new
    }

    /// Remembers who serves the registries that were named with some keys; true if that is new. Asked once for each key:
    /// later another organisation may name the same one.
    pub fn bind_servers(
        &mut self,
        named: &[PublicKey],
        org_that_serves: impl Fn(&PublicKey) -> Option<OrgId>,
    ) -> bool {
        let before = self.servers.take().unwrap_or_default();
        let len = before.len();
        let mut servers: Vec<Server> =
            before.into_iter().filter(|server| named.contains(&server.named)).collect();
        let mut is_new = servers.len() < len;
        for key in named {
            if servers.iter().all(|server| server.named != *key)
                && let Some(org) = org_that_serves(key)
            {
                servers.push(Server { named: *key, org });
                is_new = true;
            }
        }
        self.servers = (!servers.is_empty()).then_some(servers);
        is_new
    }

    /// Who serves the registry that is named with a key.
    pub fn server(&self, named: &PublicKey) -> Option<OrgId> {
        let mut servers = self.servers.iter().flatten();
        servers.find(|server| server.named == *named).map(|server| server.org)
    }

    /// Stores it in a state directory; when this returns, it is on disk.
    pub fn store(&self, dir: &Path) -> Result<(), StoredError> {
        Ok(MembershipFile::open(dir)?.0.store(self)?)
    }
}

impl Stored for Membership {
    const NAME: &'static str = "membership";
    const FORMAT: u8 = FORMAT;

    fn format(&self) -> u8 {
        self.format
    }
}

/// The membership file of a state directory.
#[derive(Debug)]
pub struct MembershipFile(Generations);

impl MembershipFile {
    /// Opens the file and reads the membership, if the host has one.
    pub fn open(dir: &Path) -> Result<(Self, Option<Membership>), StoredError> {
        let (file, membership) = stored::open(dir)?;
        Ok((Self(file), membership))
    }

    /// Stores the membership; when this returns, it is on disk.
    pub fn store(&mut self, membership: &Membership) -> Result<(), GenerationsError> {
        stored::write(&mut self.0, membership)
    }

    /// Removes it: the host belongs to no mesh any more.
    pub fn remove(self) -> Result<(), GenerationsError> {
        self.0.remove()
    }
}

#[cfg(test)]
mod tests {
    use meshd_wire::cbor;

    use super::*;

    const KEY: PublicKey = PublicKey([1; 32]);
    const NEXT: PublicKey = PublicKey([2; 32]);
    const ORG: OrgId = OrgId([3; 32]);

    fn membership(key: PublicKey) -> Membership {
        let secrets = NodeSecrets::new(&[7; NodeSecrets::RANDOM_LEN]);
        let registries = vec![RegistryHint { url: "meshd://192.0.2.1:51820".into(), tls_key: Some(key) }];
        Membership::new(MeshId([4; 32]), ORG, secrets, registries, Vec::new(), false)
    }

    #[test]
    fn who_serves_a_registry_is_asked_once() {
        let mut membership = membership(KEY);
        assert!(!membership.bind_servers(&[KEY], |_| None), "nobody knows yet");
        assert_eq!(membership.server(&KEY), None);
        assert!(membership.bind_servers(&[KEY], |key| (*key == KEY).then_some(ORG)));
        assert!(!membership.bind_servers(&[KEY], |_| Some(OrgId([9; 32]))), "another one names it later");
        assert_eq!(membership.server(&KEY), Some(ORG));
        // A hint names the next one, and a connection is still named by the one before.
        assert!(membership.bind_servers(&[NEXT, KEY], |_| Some(ORG)));
        assert_eq!((membership.server(&KEY), membership.server(&NEXT)), (Some(ORG), Some(ORG)));
        assert!(membership.bind_servers(&[NEXT], |_| None), "nothing is named so any more");
        assert_eq!(membership.server(&KEY), None);
    }

    #[test]
    fn a_membership_without_servers_is_as_the_first_release_wrote_it() {
        let bytes = cbor::encode(&membership(KEY));
        assert_eq!(bytes.first(), Some(&0x87), "an array of seven");
        let read: Membership = cbor::decode(&bytes).expect("reads");
        assert_eq!(read.server(&KEY), None);
    }

    #[test]
    fn servers_are_read_again() {
        let mut membership = membership(KEY);
        membership.bind_servers(&[KEY], |_| Some(ORG));
        let read: Membership = cbor::decode(&cbor::encode(&membership)).expect("reads");
        assert_eq!(read.server(&KEY), Some(ORG));
    }
}
