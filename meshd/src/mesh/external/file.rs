//! The plain WireGuard peers as they are stored.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use meshd_wire::{DecodeError, NodeId, PublicKey, Timestamp, cbor};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::generations::{Generations, GenerationsError};

/// Name of the pair of files.
const FILE: &str = "externals";
/// Format of the file.
const FORMAT: u8 = 1;

/// Reports externals that can't be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum ExternalsError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] GenerationsError),
    /// The file is sound but holds something else.
    #[error("decode the externals")]
    Decode(#[source] DecodeError),
}

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
    pub fn open(dir: &Path, node: NodeId) -> Result<Self, ExternalsError> {
        let (file, bytes) = Generations::open(dir, FILE)?;
        let mut this = Self { file, node, seq: 0, externals: Vec::new() };
        let Some(bytes) = bytes else { return Ok(this) };
        let content: Content = cbor::decode(&bytes).map_err(ExternalsError::Decode)?;
        if content.format != FORMAT {
            let error = DecodeError::Malformed(format!("externals format {}", content.format));
            return Err(ExternalsError::Decode(error));
        }
        if content.node == node {
            (this.seq, this.externals) = (content.seq, content.externals);
        }
        Ok(this)
    }

    /// The externals, sorted by name.
    pub fn all(&self) -> &[External] {
        &self.externals
    }

    /// Replaces them; when this returns, they are on disk, or nothing has changed.
    pub fn replace(&mut self, mut externals: Vec<External>) -> Result<(), ExternalsError> {
        externals.sort_by(|a, b| a.name.cmp(&b.name));
        let content = Content { format: FORMAT, node: self.node, seq: self.seq, externals };
        let bytes = Zeroizing::new(cbor::encode(&content));
        self.file.write(&bytes)?;
        self.externals = content.externals;
        Ok(())
    }
}

/// Removes the file: the host serves nobody any more.
pub fn forget_externals(dir: &Path) -> Result<(), GenerationsError> {
    Generations::open(dir, FILE)?.0.remove()
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

    #[test]
    fn another_format_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, _) = Generations::open(dir.path(), FILE).expect("opens");
        let content = Content { format: 2, node: NODE, seq: 0, externals: Vec::new() };
        file.write(&cbor::encode(&content)).expect("writes");
        assert!(matches!(ExternalsFile::open(dir.path(), NODE), Err(ExternalsError::Decode(_))));
    }
}
