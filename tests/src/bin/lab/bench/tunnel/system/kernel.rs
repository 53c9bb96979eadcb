//! What the kernel does alone: no encryption, the upper bounds.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Found, INNER, Running};
use crate::bench::tunnel::link::Pair;

/// Number of the overlay; any will do.
const VNI: u32 = 77;

/// MTU of VXLAN over IPv4 on a 1500-byte link.
const VXLAN_MTU: u16 = 1450;

/// The kernel itself.
pub fn find() -> Result<Found> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(Found { path: PathBuf::new(), version: format!("Linux {}", release.trim()) })
}

/// The link alone.
pub fn veth(pair: &Pair) -> Running<'static> {
    Running::of_kernel(&pair.far.addr4().to_string())
}

/// Ethernet in UDP.
pub fn vxlan(pair: &Pair) -> Result<Running<'static>> {
    let link = mesh_lab::LINK;
    for (host, (own, other)) in pair.hosts().into_iter().zip([(0, 1), (1, 0)]) {
        let [local, remote] = [own, other].map(|end| pair.hosts()[end].addr4());
        host.namespace().ip(&format!(
            "link add vx0 type vxlan id {VNI} local {local} remote {remote} dstport 4789 dev {link}\n\
             addr add {}/24 dev vx0\n\
             link set vx0 mtu {VXLAN_MTU} up\n",
            INNER[own]
        ))?;
    }
    Ok(Running::of_kernel(INNER[1]))
}
