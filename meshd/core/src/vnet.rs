//! The header that a TUN device with `IFF_VNET_HDR` puts before every packet (`struct virtio_net_hdr`).

/// Bytes of the header.
pub const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Says why bytes are no header that this device was asked to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadVnet {
    /// Fewer bytes than the header has.
    #[error("too short for a vnet header")]
    TooShort,
    /// A kind of super-packet that was never switched on.
    #[error("unknown kind {0} of super-packet")]
    Gso(u8),
    /// A super-packet whose segments have no bytes.
    #[error("segments of no bytes")]
    NoSize,
}

/// What kind of super-packet follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gso {
    /// A single packet.
    #[default]
    None,
    /// TCP segments over IPv4; `ecn` says that one of them reports a congestion window reduced.
    TcpV4 {
        /// Whether the super-packet carries CWR.
        ecn: bool,
    },
    /// TCP segments over IPv6.
    TcpV6 {
        /// Whether the super-packet carries CWR.
        ecn: bool,
    },
    /// UDP datagrams over either version.
    UdpL4,
}

/// The header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// Whether the checksum field holds only the sum of the pseudo header.
    pub needs_csum: bool,
    /// Kind of super-packet.
    pub gso: Gso,
    /// Length of all headers; forwarded packets carry wrong ones, so nothing trusts it.
    pub hdr_len: u16,
    /// Payload bytes of a full segment.
    pub gso_size: u16,
    /// Where the summed bytes begin.
    pub csum_start: u16,
    /// Where the checksum field is, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Decodes the header at the beginning of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadVnet> {
        let [flags, kind, rest @ ..] = bytes.first_chunk::<LEN>().ok_or(BadVnet::TooShort)?;
        let ecn = kind & GSO_ECN != 0;
        let gso = match kind & !GSO_ECN {
            GSO_NONE => Gso::None,
            GSO_TCPV4 => Gso::TcpV4 { ecn },
            GSO_TCPV6 => Gso::TcpV6 { ecn },
            GSO_UDP_L4 => Gso::UdpL4,
            _ => return Err(BadVnet::Gso(*kind)),
        };
        // The kernel writes its own byte order.
        let [hdr_len, gso_size, csum_start, csum_offset] =
            std::array::from_fn(|i| u16::from_ne_bytes([rest[2 * i], rest[2 * i + 1]]));
        if gso != Gso::None && gso_size == 0 {
            return Err(BadVnet::NoSize);
        }
        let needs_csum = flags & NEEDS_CSUM != 0;
        Ok(Self { needs_csum, gso, hdr_len, gso_size, csum_start, csum_offset })
    }

    /// Encodes the header.
    pub fn write(&self, out: &mut [u8; LEN]) {
        let Self { needs_csum, gso, hdr_len, gso_size, csum_start, csum_offset } = *self;
        let (kind, ecn) = match gso {
            Gso::None => (GSO_NONE, false),
            Gso::TcpV4 { ecn } => (GSO_TCPV4, ecn),
            Gso::TcpV6 { ecn } => (GSO_TCPV6, ecn),
            Gso::UdpL4 => (GSO_UDP_L4, false),
        };
        out[0] = if needs_csum { NEEDS_CSUM } else { 0 };
        out[1] = if ecn { kind | GSO_ECN } else { kind };
        for (field, value) in out[2..].chunks_exact_mut(2).zip([hdr_len, gso_size, csum_start, csum_offset]) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tcp_super_packet_is_encoded_as_the_kernel_expects() {
        let header = VnetHeader {
            needs_csum: true,
            gso: Gso::TcpV4 { ecn: true },
            hdr_len: 52,
            gso_size: 1368,
            csum_start: 20,
            csum_offset: 16,
        };
        let mut bytes = [0xff; LEN];
        header.write(&mut bytes);
        assert_eq!(bytes[..2], [1, 0x81]);
        assert_eq!(bytes[4..6], 1368u16.to_ne_bytes());
        assert_eq!(VnetHeader::parse(&bytes), Ok(header));
    }

    #[test]
    fn a_super_packet_of_nothing_is_refused() {
        assert_eq!(VnetHeader::parse(&[0, GSO_UDP_L4, 0, 0, 0, 0, 0, 0, 0, 0]), Err(BadVnet::NoSize));
        assert!(VnetHeader::parse(&[0; LEN]).is_ok());
    }

    #[test]
    fn kinds_that_were_never_switched_on_are_refused() {
        // UFO was removed from the kernel; 0x20 marks tunnelled UDP.
        for kind in [2, 3, 6, 0x20, 0x7f] {
            assert_eq!(VnetHeader::parse(&[0, kind, 1, 1, 1, 1, 1, 1, 1, 1]), Err(BadVnet::Gso(kind)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_again(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            if let Ok(header) = VnetHeader::parse(&bytes) {
                let mut again = [0; LEN];
                header.write(&mut again);
                prop_assert_eq!(VnetHeader::parse(&again), Ok(header));
            }
        }
    }
}
