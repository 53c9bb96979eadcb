//! Trial trains: whether the kernel takes what the packet path would write to the device.
//!
//! Some kernels refuse trains of a shape they took before (6.6.44 and other long-term kernels of that time refuse
//! a short last segment), so the answer comes from a write, not from a version. The trial is a packet from and to
//! the loopback address: the host drops it, and while the device is down it does not even get that far.

use std::io::Write;

/// Bytes before the packet.
const VNET_LEN: usize = 10;
/// One full segment and a shorter one.
const SEGMENT_LEN: usize = 64;
const PAYLOAD_LEN: usize = SEGMENT_LEN + SEGMENT_LEN / 2;
/// The longest trial: IPv6 and TCP.
const TRIAL_LEN_MAX: usize = VNET_LEN + 40 + 20 + PAYLOAD_LEN;

/// `gso_type` of the virtio-net header, without its flags.
pub(super) mod gso {
    pub(crate) const TCP_V4: u8 = 1;
    pub(crate) const TCP_V6: u8 = 4;
    pub(crate) const UDP_L4: u8 = 5;
    pub(crate) const ECN: u8 = 0x80;
}

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
    gso: [u8; 2],
}

impl Kind {
    /// Kind of the train that a virtio-net header announces, if it announces one.
    pub(super) fn of(vnet: &[u8]) -> Option<Self> {
        match vnet.get(1)? & !gso::ECN {
            gso::TCP_V4 | gso::TCP_V6 => Some(Self::Tcp),
            gso::UDP_L4 => Some(Self::Udp),
            _ => None,
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::Tcp => {
                Layout { number: 6, header_len: 20, checksum_at: 16, gso: [gso::TCP_V4, gso::TCP_V6] }
            }
            Self::Udp => {
                Layout { number: 17, header_len: 8, checksum_at: 6, gso: [gso::UDP_L4, gso::UDP_L4] }
            }
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

fn vnet(layout: &Layout, gso: u8, ip_len: usize) -> [u8; VNET_LEN] {
    const NEEDS_CSUM: u8 = 1;
    let mut vnet = [0; VNET_LEN];
    put(&mut vnet, 0, &[NEEDS_CSUM, gso]);
    let fields = [ip_len + layout.header_len, SEGMENT_LEN, ip_len, layout.checksum_at];
    for (at, field) in fields.into_iter().enumerate() {
        put(&mut vnet, 2 + 2 * at, &(field as u16).to_ne_bytes());
    }
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
    fn a_trial_is_of_the_kind_it_says() {
        for kind in [Kind::Tcp, Kind::Udp] {
            for (trial, _) in [trial_v4(kind), trial_v6(kind)] {
                assert_eq!(Kind::of(&trial), Some(kind));
            }
        }
        assert_eq!(Kind::of(&[0; 10]), None);
        assert_eq!(Kind::of(&[]), None);
        assert_eq!(Kind::of(&[1, gso::TCP_V4 | gso::ECN]), Some(Kind::Tcp));
    }
}
