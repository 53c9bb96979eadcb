//! WireGuard associations: handshakes, sessions, sealing and opening of packets.
//!
//! This crate is the seam around the protocol engine; nothing outside it names the engine. Datagrams go in
//! and come out as slices, sockets and peers stay with the caller:
//!
//! 1. [`LocalKey::admit`] looks at a datagram, checks its MACs and answers floods with cookies. It says who
//!    must handle it: the peer behind a static key (initiation) or behind a [`TunnelIndex`] (all others).
//! 2. [`Tunnel::open`] authenticates it and yields a packet or the next handshake message.
//! 3. [`Tunnel::seal`] encrypts a packet, or keeps it and starts a handshake while there is no session.
//! 4. [`Tunnel::tick`] drives retransmission, rekeying and keepalives; call it every 100–250 ms.
//!
//! The engine reads its own clock and randomness behind this seam; `now` is an argument of everything else.

#![forbid(unsafe_code)]

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
