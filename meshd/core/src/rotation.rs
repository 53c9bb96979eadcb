//! Tunnel keys that are replaced without losing a packet.
//!
//! A node's tunnel key has a number, its [`Epoch`]. A tunnel belongs to a [`Pair`] of epochs, one of each end, and is
//! never changed: a rotation makes new tunnels beside the old ones and lets the old ones go once the new ones work.
//!
//! - [`epoch`]: the numbers, and pairs of them.
//! - [`pairing`]: which tunnels one peer should have now, which of them are called, and which one to send on.

pub mod epoch;
pub mod pairing;

pub use epoch::{Epoch, Pair};
pub use pairing::{OwnEpochs, Pairing, PeerEpoch, PeerEpochs, Use};
