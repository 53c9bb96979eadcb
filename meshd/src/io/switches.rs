//! Switches of the offloads, and which of them the running kernel needs off.

/// What the packet path may ask of the kernel. A switch that is on still needs a kernel that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// Send trains with one call (`UDP_SEGMENT`).
    pub udp_gso: bool,
    /// Receive trains with one call (`UDP_GRO`).
    pub udp_gro: bool,
    /// Write TCP trains to the device.
    pub tun_tcp_gro: bool,
    /// Write UDP trains to the device.
    pub tun_udp_gro: bool,
    /// Never send a train whose datagrams are all equally long: a datagram of one byte ends it.
    pub never_gso_equal_tail: bool,
}

/// A kernel's version: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u16, pub u16, pub u16);

/// First kernel that delivers UDP trains from a TUN behind vxlan and geneve.
const UDP_TRAINS_FROM_TUN: KernelVersion = KernelVersion(6, 8, 5);
/// Kernels that corrupt equally long datagrams of a train, which nothing can detect from here.
const EQUAL_TAIL_CORRUPTS: [(KernelVersion, KernelVersion); 2] = [
    (KernelVersion(6, 17, 0), KernelVersion(6, 17, u16::MAX)),
    (KernelVersion(7, 0, 0), KernelVersion(7, 1, 4)),
];

impl Switches {
    /// What suits the running kernel.
    pub fn detect() -> Self {
        match KernelVersion::running() {
            Some(version) => Self::for_kernel(version),
            None => Self::for_kernel(KernelVersion(0, 0, 0)),
        }
    }

    /// What suits a kernel of this version.
    pub fn for_kernel(version: KernelVersion) -> Self {
        Self {
            udp_gso: true,
            udp_gro: true,
            tun_tcp_gro: true,
            tun_udp_gro: version >= UDP_TRAINS_FROM_TUN,
            never_gso_equal_tail: EQUAL_TAIL_CORRUPTS
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&version)),
        }
    }
}

impl KernelVersion {
    /// Version of the running kernel, if it tells one.
    pub fn running() -> Option<Self> {
        let release = nix::sys::utsname::uname().ok()?;
        Self::parse(release.release().to_str()?)
    }

    /// Reads `6.18.44-generic`, `7.0-rc1` and the like.
    fn parse(release: &str) -> Option<Self> {
        let numbers = release.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse::<u16>().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        Some(Self(major, minor, numbers.next().flatten().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (release, version) in [
            ("6.18.44-fc-v657", KernelVersion(6, 18, 44)),
            ("7.0-rc1", KernelVersion(7, 0, 0)),
            ("6.8.0-45-generic", KernelVersion(6, 8, 0)),
            ("5.15.167.4-microsoft-standard-WSL2", KernelVersion(5, 15, 167)),
        ] {
            assert_eq!(KernelVersion::parse(release), Some(version), "{release}");
        }
        assert_eq!(KernelVersion::parse("linux"), None);
        assert!(KernelVersion::running().is_some());
    }

    #[test]
    fn a_kernel_that_corrupts_equal_tails_gets_the_sentinel() {
        let sentinel = |major, minor, patch| {
            Switches::for_kernel(KernelVersion(major, minor, patch)).never_gso_equal_tail
        };
        assert!(!sentinel(6, 16, 9) && !sentinel(6, 18, 0) && !sentinel(7, 1, 5) && !sentinel(7, 2, 0));
        assert!(sentinel(6, 17, 0) && sentinel(7, 0, 0) && sentinel(7, 0, 14) && sentinel(7, 1, 4));
    }

    #[test]
    fn udp_trains_are_not_written_to_kernels_that_lose_them() {
        let written = |version| Switches::for_kernel(version).tun_udp_gro;
        assert!(!written(KernelVersion(6, 8, 4)));
        assert!(written(KernelVersion(6, 8, 5)));
    }
}
