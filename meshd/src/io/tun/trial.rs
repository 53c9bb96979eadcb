//! Trial trains: whether the kernel takes what the packet path would write to the device.
//!
//! Some kernels refuse trains of a shape they took before (6.6.44 and other long-term kernels of that time refuse
//! a short last segment), so the answer comes from a write, not from a version. The trial is a packet from and to
//! the loopback address: the host drops it, and while the device is down it does not even get that far.

use std::io::Write;

use meshd_core::vnet::{Gso, LEN as VNET_LEN, VnetHeader};

/// One full segment and a shorter one.
const SEGMENT_LEN: usize = 64;
const PAYLOAD_LEN: usize = SEGMENT_LEN + SEGMENT_LEN / 2;
/// The longest trial: IPv6 and TCP.
const TRIAL_LEN_MAX: usize = VNET_LEN + 40 + 20 + PAYLOAD_LEN;

/// What a train is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Udp,
}

/// Where a transport protocol keeps its things.
struct Layout {
    number: u8,
    header_len: usize,
    checksum_at: usize,
    /// Kind of super-packet over IPv4 and over IPv6.
    gso: [Gso; 2],
}

impl Kind {
    /// Kind of the train that a virtio-net header announces, if it announces one.
    pub(super) fn of(vnet: &[u8]) -> Option<Self> {
        match VnetHeader::parse(vnet).ok()?.gso {
            Gso::TcpV4 { .. } | Gso::TcpV6 { .. } => Some(Self::Tcp),
            Gso::UdpL4 => Some(Self::Udp),
            Gso::None => None,
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::Tcp => {
                let gso = [Gso::TcpV4 { ecn: false }, Gso::TcpV6 { ecn: false }];
                Layout { number: 6, header_len: 20, checksum_at: 16, gso }
            }
            Self::Udp => Layout { number: 17, header_len: 8, checksum_at: 6, gso: [Gso::UdpL4, Gso::UdpL4] },
        }
    }
}

/// Whether `device` takes trains of this kind in both families.
pub(super) fn passes(device: &mut impl Write, kind: Kind) -> bool {
    [trial_v4(kind), trial_v6(kind)].iter().all(|(trial, len)| {
        let trial = trial.get(..*len).unwrap_or_default();
        match device.write(trial) {
            Ok(written) => written == trial.len(),
            // The device is down, which the kernel looks at after it has understood the train.
            Err(error) => error.raw_os_error() == Some(libc::EIO),
        }
    })
}

fn trial_v4(kind: Kind) -> ([u8; TRIAL_LEN_MAX], usize) {
    const IP_LEN: usize = 20;
    let layout = kind.layout();
    let len = IP_LEN + layout.header_len + PAYLOAD_LEN;
    let mut trial = [0; TRIAL_LEN_MAX];
    put(&mut trial, 0, &vnet(&layout, layout.gso[0], IP_LEN));
    put(&mut trial, VNET_LEN, &[0x45, 0]);
    put(&mut trial, VNET_LEN + 2, &be16(len));
    put(&mut trial, VNET_LEN + 8, &[64, layout.number]);
    put(&mut trial, VNET_LEN + 12, &[127, 0, 0, 1, 127, 0, 0, 1]);
    put_transport(&mut trial, kind, VNET_LEN + IP_LEN);
    (trial, VNET_LEN + len)
}

fn trial_v6(kind: Kind) -> ([u8; TRIAL_LEN_MAX], usize) {
    const IP_LEN: usize = 40;
    let layout = kind.layout();
    let len = IP_LEN + layout.header_len + PAYLOAD_LEN;
    let mut trial = [0; TRIAL_LEN_MAX];
    put(&mut trial, 0, &vnet(&layout, layout.gso[1], IP_LEN));
    put(&mut trial, VNET_LEN, &[0x60]);
    put(&mut trial, VNET_LEN + 4, &be16(layout.header_len + PAYLOAD_LEN));
    put(&mut trial, VNET_LEN + 6, &[layout.number, 64]);
    put(&mut trial, VNET_LEN + 23, &[1]);
    put(&mut trial, VNET_LEN + 39, &[1]);
    put_transport(&mut trial, kind, VNET_LEN + IP_LEN);
    (trial, VNET_LEN + len)
}

fn put_transport(trial: &mut [u8], kind: Kind, at: usize) {
    match kind {
        // Offset of the data, and the ACK flag.
        Kind::Tcp => put(trial, at + 12, &[0x50, 0x10]),
        Kind::Udp => put(trial, at + 4, &be16(8 + PAYLOAD_LEN)),
    }
}

fn vnet(layout: &Layout, gso: Gso, ip_len: usize) -> [u8; VNET_LEN] {
    let header = VnetHeader {
        needs_csum: true,
        gso,
        hdr_len: (ip_len + layout.header_len) as u16,
        gso_size: SEGMENT_LEN as u16,
        csum_start: ip_len as u16,
        csum_offset: layout.checksum_at as u16,
    };
    let mut vnet = [0; VNET_LEN];
    header.write(&mut vnet);
    vnet
}

fn be16(value: usize) -> [u8; 2] {
    (value as u16).to_be_bytes()
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in to.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use meshd_core::split;

    use super::*;

    struct Device(Option<i32>);

    impl Write for Device {
        fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
            match self.0 {
                Some(error) => Err(io::Error::from_raw_os_error(error)),
                None => Ok(packet.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_device_that_is_down_took_the_train_and_one_that_finds_it_invalid_did_not() {
        for kind in [Kind::Tcp, Kind::Udp] {
            assert!(passes(&mut Device(None), kind));
            assert!(passes(&mut Device(Some(libc::EIO)), kind));
            assert!(!passes(&mut Device(Some(libc::EINVAL)), kind));
        }
    }

    #[test]
    fn both_families_are_tried() {
        struct Refuses(u8);
        impl Write for Refuses {
            fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
                let is_refused = packet[VNET_LEN] >> 4 == self.0;
                if is_refused { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(packet.len()) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(!passes(&mut Refuses(4), Kind::Tcp) && !passes(&mut Refuses(6), Kind::Tcp));
        assert!(passes(&mut Refuses(0), Kind::Tcp));
    }

    #[test]
    fn a_trial_is_a_full_segment_and_a_shorter_one() {
        for kind in [Kind::Tcp, Kind::Udp] {
            for (trial, len) in [trial_v4(kind), trial_v6(kind)] {
                let vnet = VnetHeader::parse(&trial).unwrap();
                let train = split::parse(&vnet, &trial[VNET_LEN..len]).unwrap();
                assert_eq!(train.segments, 2);
                assert_eq!(train.segment_len_max, usize::from(vnet.hdr_len) + SEGMENT_LEN);
                assert!(train.source.is_loopback() && train.destination.is_loopback());
            }
        }
    }

    #[test]
    fn a_trial_is_of_the_kind_it_says() {
        for kind in [Kind::Tcp, Kind::Udp] {
            for (trial, _) in [trial_v4(kind), trial_v6(kind)] {
                assert_eq!(Kind::of(&trial), Some(kind));
            }
        }
        assert_eq!(Kind::of(&[0; VNET_LEN]), None);
        assert_eq!(Kind::of(&[]), None);
        let marked = VnetHeader { gso: Gso::TcpV4 { ecn: true }, gso_size: 1, ..VnetHeader::default() };
        let mut vnet = [0; VNET_LEN];
        marked.write(&mut vnet);
        assert_eq!(Kind::of(&vnet), Some(Kind::Tcp));
    }
}
