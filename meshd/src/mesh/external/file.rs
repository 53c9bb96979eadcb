//! The plain WireGuard peers as they are stored.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use meshd_wire::{NodeId, PublicKey, Timestamp};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};

/// Preshared key of an external.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(transparent)]
pub struct PresharedKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// A plain WireGuard peer.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
pub struct External {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its X25519 key.
    #[n(1)]
    pub key: PublicKey,
    /// Preshared key.
    #[n(2)]
    pub psk: Option<PresharedKey>,
    #[cbor(n(3), with = "minicbor::bytes")]
    addr4: [u8; 4],
    #[cbor(n(4), with = "minicbor::bytes")]
    addr6: [u8; 16],
    /// When it was added.
    #[n(5)]
    pub added_at: Timestamp,
}

impl External {
    /// Makes one.
    pub fn new(
        name: String,
        key: PublicKey,
        psk: Option<PresharedKey>,
        addrs: (Ipv4Addr, Ipv6Addr),
        added_at: Timestamp,
    ) -> Self {
        Self { name, key, psk, addr4: addrs.0.octets(), addr6: addrs.1.octets(), added_at }
    }

    /// Overlay IPv4 address.
    pub fn addr4(&self) -> Ipv4Addr {
        self.addr4.into()
    }

    /// Overlay IPv6 address.
    pub fn addr6(&self) -> Ipv6Addr {
        self.addr6.into()
    }

    /// Takes other addresses; true if they differ from those it had.
    pub fn readdress(&mut self, addr4: [u8; 4], addr6: [u8; 16]) -> bool {
        let before = (std::mem::replace(&mut self.addr4, addr4), std::mem::replace(&mut self.addr6, addr6));
        before != (addr4, addr6)
    }
}

/// What the file holds.
#[derive(Clone, Encode, Decode)]
#[cbor(array)]
struct Content {
    #[n(0)]
    format: u8,
    /// The node that serves them: what another membership has left behind is nobody's.
    #[n(1)]
    node: NodeId,
    #[n(2)]
    seq: u64,
    #[n(3)]
    externals: Vec<External>,
}

impl Stored for Content {
    const NAME: &'static str = "externals";
    const FORMAT: u8 = 1;

    fn format(&self) -> u8 {
        self.format
    }
}

/// The externals of this node, and the file they are in.
pub struct ExternalsFile {
    file: Generations,
    node: NodeId,
    /// Number of what was told to a steward last.
    pub seq: u64,
    externals: Vec<External>,
}

impl ExternalsFile {
    /// Opens the file and reads the externals of a node.
    pub fn open(dir: &Path, node: NodeId) -> Result<Self, StoredError> {
        let (file, content) = stored::open::<Content>(dir)?;
        let own = content.filter(|content| content.node == node);
        let (seq, externals) = own.map_or((0, Vec::new()), |own| (own.seq, own.externals));
        Ok(Self { file, node, seq, externals })
    }

    /// The externals, sorted by name.
    pub fn all(&self) -> &[External] {
        &self.externals
    }

    /// Replaces them; when this returns, they are on disk, or nothing has changed.
    pub fn replace(&mut self, mut externals: Vec<External>) -> Result<(), GenerationsError> {
        externals.sort_by(|a, b| a.name.cmp(&b.name));
        let content = Content { format: Content::FORMAT, node: self.node, seq: self.seq, externals };
        stored::write(&mut self.file, &content)?;
        self.externals = content.externals;
        Ok(())
    }
}

/// Removes the file: the host serves nobody any more.
pub fn forget_externals(dir: &Path) -> Result<(), GenerationsError> {
    Generations::open(dir, Content::NAME)?.0.remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn phone() -> External {
        let addrs = (Ipv4Addr::new(10, 91, 0, 5), Ipv6Addr::LOCALHOST);
        External::new("phone".into(), PublicKey([2; 32]), Some(PresharedKey([3; 32])), addrs, Timestamp(4))
    }

    #[test]
    fn what_was_stored_is_read_again_by_the_same_node_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let mut file = ExternalsFile::open(dir.path(), NODE).expect("opens");
        file.seq = 7;
        let router = External { name: "a-router".into(), psk: None, ..phone() };
        file.replace(vec![phone(), router]).expect("stored");
        let again = ExternalsFile::open(dir.path(), NODE).expect("opens");
        let names: Vec<&str> = again.all().iter().map(|one| one.name.as_str()).collect();
        assert_eq!((again.seq, names.as_slice()), (7, &["a-router", "phone"][..]));
        let [router, phone] = again.all() else { panic!("two") };
        assert_eq!(phone.psk.as_ref().map(|psk| psk.0), Some([3; 32]));
        assert_eq!((phone.addr4(), phone.addr6()), (Ipv4Addr::new(10, 91, 0, 5), Ipv6Addr::LOCALHOST));
        assert!(router.psk.is_none());
        let other = ExternalsFile::open(dir.path(), NodeId([9; 32])).expect("opens");
        assert_eq!((other.seq, other.all().len()), (0, 0));
        forget_externals(dir.path()).expect("removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("directory").count(), 0);
    }
}
