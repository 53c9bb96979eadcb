//! Names of nodes and endpoints, answered over DNS from what is verified.
//!
//! ```text
//! roster ─▶ mesh::naming ─▶ Zone ─ watch ─▶ a task for each UDP socket, TCP socket and TCP connection
//!                                              └─ answer(zone, query) ─▶ reply
//! ```
//!
//! The event loop makes a new [`Zone`] whenever who is in force, or who can be reached, has changed; a zone never
//! changes itself. Tasks hold nothing else: the sockets' are owned by [`Names`], the connections' by their socket's.

mod answer;
mod listen;
mod suffix;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod zone;

pub use listen::{Asked, Fault, Names};
pub use suffix::{ParseSuffixError, Suffix};
pub use zone::{Draft, Zone};
