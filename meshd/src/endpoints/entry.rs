//! One endpoint as this node knows it.

use std::fs;
use std::io;
use std::net::IpAddr;

use data_encoding::HEXLOWER_PERMISSIVE;
use ipnet::IpNet;
use meshd_api::{Attachment, Labels, Namespace};
use meshd_wire::{EndpointId, ImageDigest, Timestamp};
use minicbor::{Decode, Encode};

use crate::os::Mac;

/// Where the kernel tells which of its runs this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An endpoint, from the moment it has its addresses until nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id, made from the attachment.
    pub id: EndpointId,
    /// What the runtime calls it.
    pub attachment: Attachment,
    /// Where its end of the link is; without one the runtime moves, names and configures it.
    pub namespace: Option<Namespace>,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Hardware address of its end.
    pub mac: Mac,
    /// Largest packet.
    pub mtu: u16,
    /// Its name in the organisation.
    pub name: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Digest of its image.
    pub image: Option<ImageDigest>,
    /// Next hops inside of it, one for each family of its addresses.
    pub gateways: Vec<IpAddr>,
    /// Prefixes that lead into the mesh.
    pub routes: Vec<IpNet>,
    /// Whether it reaches what is not in the mesh under the host's address.
    pub has_egress: bool,
    /// Namespace of its container as the runtime names it, where the runtime moves the link there.
    pub sandbox: Option<String>,
    /// How far it is.
    pub stage: Stage,
    /// When it was asked for.
    pub since: Timestamp,
    /// Run of the kernel that it was attached in.
    pub boot: BootId,
}

/// How far an endpoint is. Each stage is stored before the kernel is touched for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Stage {
    /// Its link is being made; after a crash this is done again, or undone.
    #[n(0)]
    Wiring,
    /// All is in place.
    #[n(1)]
    Attached,
    /// Its link is being removed; after a crash this is done again.
    #[n(2)]
    Releasing,
}

/// One run of the host's kernel, from start to shutdown: no link and no namespace outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct BootId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl BootId {
    /// This one.
    pub fn current() -> io::Result<Self> {
        let text = fs::read_to_string(BOOT_ID)?;
        Self::of_text(text.trim()).ok_or_else(|| io::Error::other(format!("{BOOT_ID} holds no id")))
    }

    fn of_text(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|char| *char != '-').collect();
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_of_the_kernel_is_read_and_stays_the_same() {
        let boot = BootId::current().expect("the kernel has an id");
        assert_eq!(BootId::current().expect("it still has"), boot);
        assert_ne!(boot, BootId([0; 16]));
        let text = "01020304-0506-0708-090a-0b0c0d0e0f10";
        assert_eq!(BootId::of_text(text), Some(BootId(std::array::from_fn(|at| at as u8 + 1))));
        for wrong in ["", "01020304", "01020304-0506-0708-090a-0b0c0d0e0fxx", &format!("{text}00")] {
            assert_eq!(BootId::of_text(wrong), None, "{wrong}");
        }
    }
}
