//! Overlay IPv6 addresses and the ids of externals: computed, so nobody has to hand them out.

use std::net::{Ipv4Addr, Ipv6Addr};

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

/// Address of a plain WireGuard peer: its organisation's subnet, and its IPv4 address as the last 32 bits.
///
/// The interface ids of nodes are 64 bits of a hash, so a node and an external do not meet.
pub fn external_addr6(mesh: &MeshId, subnet6: u16, addr4: Ipv4Addr) -> Ipv6Addr {
    let (prefix, _) = mesh_prefix6(mesh);
    let mut octets = prefix.octets();
    octets[6..8].copy_from_slice(&subnet6.to_be_bytes());
    octets[12..].copy_from_slice(&addr4.octets());
    octets.into()
}

/// What stands for a plain WireGuard peer where a node id is wanted; no key has this id.
pub fn external_id(node: &NodeId, name: &str) -> NodeId {
    NodeId(digest(b"meshd-v1/external\0", &node.0, name.as_bytes()))
}

fn digest(domain: &[u8], outer: &[u8; 32], inner: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain);
    hash.update(outer);
    hash.update(inner);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: MeshId = MeshId([1; 32]);
    const NODE: NodeId = NodeId([2; 32]);

    #[test]
    fn the_prefix_is_unique_local_and_follows_from_the_mesh() {
        let (prefix, len) = mesh_prefix6(&MESH);
        assert_eq!(len, 48);
        assert_eq!(prefix.octets()[0], 0xfd);
        assert_eq!(prefix.octets()[6..], [0; 10]);
        assert_eq!(prefix.to_string(), "fd36:eb95:4bb9::");
        assert_ne!(prefix, mesh_prefix6(&MeshId([3; 32])).0);
    }

    #[test]
    fn an_address_lies_in_its_mesh_and_subnet() {
        let addr = node_addr6(&MESH, 0x1234, &NODE);
        assert_eq!(addr.octets()[..6], mesh_prefix6(&MESH).0.octets()[..6]);
        assert_eq!(addr.octets()[6..8], [0x12, 0x34]);
        assert_eq!(addr.to_string(), "fd36:eb95:4bb9:1234:49f7:fd01:78f9:2eee");
    }

    #[test]
    fn an_external_has_its_ipv4_address_in_the_subnet_of_its_organisation() {
        let addr = external_addr6(&MESH, 0x1234, Ipv4Addr::new(10, 91, 0, 5));
        assert_eq!(addr.to_string(), "fd36:eb95:4bb9:1234::a5b:5");
        assert_eq!(addr.octets()[..8], node_addr6(&MESH, 0x1234, &NODE).octets()[..8]);
    }

    #[test]
    fn an_external_is_told_by_its_node_and_its_name() {
        let id = external_id(&NODE, "phone");
        assert_eq!(id, external_id(&NODE, "phone"));
        assert_ne!(id, external_id(&NODE, "phone2"));
        assert_ne!(id, external_id(&NodeId([3; 32]), "phone"));
    }

    #[test]
    fn an_address_differs_by_node_and_by_mesh() {
        let addr = node_addr6(&MESH, 1, &NODE);
        assert_ne!(addr, node_addr6(&MESH, 1, &NodeId([3; 32])));
        assert_ne!(addr.octets()[8..], node_addr6(&MeshId([3; 32]), 1, &NODE).octets()[8..]);
    }
}
