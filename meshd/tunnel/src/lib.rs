//! WireGuard associations: handshakes, sessions, sealing and opening of packets.
//!
//! Pure protocol: no socket, no clock, no thread, no randomness but from a seed. Two kinds of callers use it:
//!
//! 1. One control thread owns the [`Engine`]: it adds keys and tunnels, feeds handshake messages, lets time pass, and
//!    does the [`Action`]s that come out.
//! 2. Data threads hold the [`TxSession`]s and [`RxSession`]s which the engine installs. They seal and open packets
//!    without the engine, and tell it only when a session or its [`Activity`] asks for that.
//!
//! A tunnel is one pair of static keys in one [`Suite`] with or without a pre-shared key; it is never changed. A node
//! that changes any of them adds another tunnel, and retires the old one when traffic has moved.

#![forbid(unsafe_code)]

mod activity;
mod aead;
mod bucket;
mod cookie;
mod engine;
mod id;
mod index;
mod key;
mod mac;
mod message;
mod noise;
mod refused;
mod rng;
mod session;
mod suite;
mod tai64n;
mod timer;
mod window;

pub use activity::Activity;
pub use engine::{
    Action, AddKeyError, AddTunnelError, Engine, EngineConfig, Precedence, Psk, To, TunnelEvent, TunnelSpec,
    TunnelStatus, Via,
};
pub use id::{KeyId, PeerId, TunnelId};
pub use key::{BadKey, LocalKey};
pub use message::Message;
pub use refused::Refused;
pub use session::{
    HEADER_LEN, Half, KEEPALIVE_LEN, OVERHEAD, Opened, Opening, PADDING, PADDING_SMALL, Reservation,
    RxSession, SealError, Sealing, SessionKeys, SessionSpec, TAG_LEN, TxSession, Unusable, padding, pair,
};
pub use suite::Suite;
pub use tai64n::Tai64n;
