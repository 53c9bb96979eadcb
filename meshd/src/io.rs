//! The two ends of the packet path: the overlay device and the UDP socket, and what wakes their threads.

mod tun;
mod udp;
mod wake;

pub use tun::{Tun, TunError};
pub use udp::{BindError, Udp};
pub use wake::{Awaited, Readiness, StopSignal, StopWatch, wait};

/// Bytes of a packet buffer: the longest datagram, with room for the longest seal.
pub const BUFFER_LEN: usize = 65_536 + 64;
