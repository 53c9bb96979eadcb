//! The first engine, around boringtun: it carries packets until the data plane has moved to [`crate::Engine`].

mod local_key;
mod message;
mod tunnel;

pub use local_key::{Admitted, LocalKey};
pub use message::{Refused, TunnelIndex};
pub use tunnel::{Opened, Sealed, Ticked, Tunnel};

/// Bytes a sealed packet is longer than the packet, padding included.
pub const OVERHEAD: usize = 32 + PADDING - 1;
/// Bytes that every output buffer must have beyond the longest packet: a handshake message always fits.
pub const BUFFER_LEN_MIN: usize = 148;
/// Packets are padded to a multiple of this, so that a length tells less of the content.
pub const PADDING: usize = 16;
