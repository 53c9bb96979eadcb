//! The overlay device with its queues, and what the kernel grants it.

use meshd_core::coalesce::CoalesceSwitches;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshd_core::vnet;

use super::TunError;
use super::open::{attach, check_name, create, offload, set_offloads};
use super::trial::{self, Kind};
use crate::io::seam::PacketDevice;
use crate::io::switches::Switches;

/// Bytes that one read may bring: the virtio-net header and the longest train.
pub const READ_LEN_MAX: usize = vnet::LEN + 65_536;

/// Queues of one device: more than data threads are ever started.
const QUEUES_MAX: usize = 64;

/// The overlay device. It vanishes with its queues.
#[derive(Debug)]
pub struct TunGroup {
    /// Its queues, one per data thread. The kernel keeps a flow on one queue.
    pub queues: Vec<TunQueue>,
    /// Which trains the host hands over uncut.
    pub trains: Trains,
}

/// Kinds of trains that are read from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trains {
    /// TCP segments of one flow.
    pub tcp: bool,
    /// UDP datagrams of one flow; kernels from 6.2 on.
    pub udp: bool,
}

/// One queue of a [`TunGroup`].
#[derive(Debug)]
pub struct TunQueue {
    pub(super) file: File,
    accepts: Arc<Accepts>,
}

/// Which trains the kernel takes, as far as is known; one for all queues.
#[derive(Debug)]
struct Accepts {
    tcp: AtomicBool,
    udp: AtomicBool,
}

impl TunGroup {
    /// Creates the device. A persistent one of the same name that nobody holds is a leftover and replaced.
    pub fn create(name: &str, queues: usize, switches: Switches) -> Result<Self, TunError> {
        check_name(name)?;
        let failed = |source| TunError::Io { name: name.to_owned(), source };
        if !(1..=QUEUES_MAX).contains(&queues) {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        let flags = libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        let first = create(name, flags)?;
        let trains = set_trains(&first).map_err(failed)?;
        let accepts = Arc::new(Accepts {
            tcp: AtomicBool::new(switches.tun_tcp_gro && trial::passes(&mut &first, Kind::Tcp)),
            udp: AtomicBool::new(switches.tun_udp_gro && trial::passes(&mut &first, Kind::Udp)),
        });
        let queues = std::iter::once(Ok(first))
            .chain((1..queues).map(|_| attach(name, flags)))
            .map(|file| Ok(TunQueue { file: file?, accepts: Arc::clone(&accepts) }))
            .collect::<Result<Vec<TunQueue>, TunError>>()?;
        Ok(Self { queues, trains })
    }
}

impl PacketDevice for TunQueue {
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        // A packet is taken whole or not at all.
        let written = (&self.file).write_vectored(slices);
        if let Err(error) = &written
            && error.raw_os_error() == Some(libc::EINVAL)
        {
            self.doubt(slices);
        }
        written.map(|_| ())
    }

    fn coalescing(&self) -> CoalesceSwitches {
        CoalesceSwitches {
            tcp: self.accepts.tcp.load(Ordering::Relaxed),
            udp: self.accepts.udp.load(Ordering::Relaxed),
        }
    }
}

impl TunQueue {
    /// Tries anew whether the kernel takes trains like the one it refused: the fault may have been that train's.
    #[cold]
    fn doubt(&self, refused: &[IoSlice<'_>]) {
        let Some(kind) = refused.first().and_then(|slice| Kind::of(slice)) else { return };
        let accepts = match kind {
            Kind::Tcp => &self.accepts.tcp,
            Kind::Udp => &self.accepts.udp,
        };
        if accepts.load(Ordering::Relaxed) && !trial::passes(&mut &self.file, kind) {
            tracing::warn!(?kind, "the kernel refuses trains on the device: packets go one by one");
            accepts.store(false, Ordering::Relaxed);
        }
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Asks for as much as the kernel grants. The mask belongs to the device and outlives who set it, so it is set
/// even to nothing.
fn set_trains(file: &File) -> io::Result<Trains> {
    let offers = [
        (offload::TCP | offload::UDP, Trains { tcp: true, udp: true }),
        (offload::TCP, Trains { tcp: true, udp: false }),
    ];
    for (mask, trains) in offers {
        if set_offloads(file, mask).is_ok() {
            return Ok(trains);
        }
    }
    set_offloads(file, 0)?;
    Ok(Trains { tcp: false, udp: false })
}
