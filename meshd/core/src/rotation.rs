//! Tunnel keys that are replaced without losing a packet.
//!
//! A node's tunnel key has a number, its [`Epoch`]. A tunnel belongs to a [`Pair`] of epochs, one of each end, and is
//! never changed: a rotation makes new tunnels beside the old ones and lets the old ones go once the new ones work.
//!
//! [`Rotation`] decides when to make, announce, use and destroy the keys of one node. [`Pairing`] decides which tunnels a
//! node has with one peer, of whatever both do. Neither knows key bytes, signatures or sockets.
//!
//! - [`epoch`]: the numbers, and pairs of them.
//! - [`pairing`]: which tunnels one peer should have now, which of them are called, and which one to send on.
//! - [`machine`]: the state machine of this node's key.
//! - [`periods`]: how long each part of a rotation takes.
//! - [`stored`]: what a node remembers of it.
//! - [`effect`]: what it asks of its caller.

mod acks;
pub mod effect;
pub mod epoch;
pub mod machine;
#[cfg(test)]
mod model;
pub mod pairing;
pub mod periods;
pub mod stored;

pub use acks::Channel;
pub use effect::{Alarm, Content, Effect, Leaf};
pub use epoch::{Epoch, Pair};
pub use machine::{Cosigned, Now, Rotation, State};
pub use pairing::{OwnEpochs, Pairing, PeerEpoch, PeerEpochs, Use};
pub use periods::{BadLengths, Bounds, Lengths, Periods};
pub use stored::{KeySince, Step, Stored, Why};
