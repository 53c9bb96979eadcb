//! Pools inside of the prefixes of a mesh, and the networks that have them.

use anyhow::Result;
use mesh_lab::{Host, Mesh};

/// An IPv4 and an IPv6 pool; labs may use equal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    pub v4: String,
    pub v6: String,
}

impl Pools {
    /// The usual ones.
    pub fn of(mesh: &Mesh<'_>) -> Result<Self> {
        Self::numbered(mesh, 8)
    }

    /// One of 16 pairs that do not overlap.
    pub fn numbered(mesh: &Mesh<'_>, number: u8) -> Result<Self> {
        let steward = mesh.steward()?;
        let ([a, b, ..], [c, d, e, f, ..]) = (steward.addr4.octets(), steward.addr6.segments());
        Ok(Self {
            v4: format!("{a}.{b}.{}.0/20", number * 16),
            v6: format!("{c:x}:{d:x}:{e:x}:{f:x}:d0{number:02x}::/80"),
        })
    }

    /// Installs the plugin on a host with a network of these pools.
    pub fn install(&self, host: &Host, options: &[&str]) -> Result<()> {
        host.install_cni(&[&["--pool4", &self.v4, "--pool6", &self.v6], options].concat())
    }
}
