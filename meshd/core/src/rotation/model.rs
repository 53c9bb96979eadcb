//! Two nodes that rotate, with disks that are late or fail, a log, a network that loses, repeats and reorders, crashes,
//! stolen keys and restored backups; and the seven invariants that hold in every state they can reach.
//!
//! Both ends run the code of this module as it is: [`super::Rotation`] and [`super::Pairing`]. What surrounds them, and in
//! the daemon is the data plane and the roster, is as small here as it can be. The network is faster than the clock: time
//! passes only when nothing is under way, and with it everything is said again that has not arrived, as the
//! reconciliation of the daemon does.

mod checked;
mod ghost;
mod mesh;
mod node;
mod random;
mod world;
