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

mod activity;
mod aead;
mod id;
mod refused;
mod session;
mod suite;
pub mod vertical_slice;
mod window;

pub use activity::Activity;
pub use id::{KeyId, PeerId, TunnelId};
pub use refused::Refused;
pub use session::{
    HEADER_LEN, KEEPALIVE_LEN, OVERHEAD, Opened, PADDING, PADDING_SMALL, Reservation, RxSession, SealError,
    SessionKeys, SessionSpec, TAG_LEN, TxSession, Unusable, padding, pair,
};
pub use suite::Suite;
