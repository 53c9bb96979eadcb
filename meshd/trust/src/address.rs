//! Overlay IPv6 addresses: computed, so nobody has to hand them out.

use std::net::Ipv6Addr;

use meshd_wire::{MeshId, NodeId};
use sha2::{Digest, Sha256};

/// Bits of the prefix that all members of a mesh share.
pub const MESH_PREFIX6_LEN: u8 = 48;

/// The mesh's unique local prefix: `fd` and 40 bits of the hash of its id (RFC 4193).
pub fn mesh_prefix6(mesh: &MeshId) -> (Ipv6Addr, u8) {
    let [a, b, c, d, e, ..] = digest(b"meshd-v1/prefix6\0", &mesh.0, &[]);
    let octets = [0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    (octets.into(), MESH_PREFIX6_LEN)
}

/// A node's address: mesh prefix, its organisation's subnet and 64 bits of the hash of mesh and node.
pub fn node_addr6(mesh: &MeshId, subnet6: u16, node: &NodeId) -> Ipv6Addr {
    let (prefix, _) = mesh_prefix6(mesh);
    let mut octets = prefix.octets();
    octets[6..8].copy_from_slice(&subnet6.to_be_bytes());
    octets[8..].copy_from_slice(&digest(b"meshd-v1/addr6\0", &mesh.0, &node.0)[..8]);
    // The all-zero interface id is the subnet-router anycast address (RFC 4291, 2.6.1); keep clear of it.
    if octets[8..] == [0; 8] {
        octets[15] = 1;
    }
    octets.into()
}

fn digest(domain: &[u8], mesh: &[u8], node: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain);
    hash.update(mesh);
    hash.update(node);
    hash.finalize().into()
}
