//! Decisions of the packet path, without any IO: who owns an address, where a peer is reached, what a
//! refused packet is answered with.
//!
//! Nothing here reads a clock or a socket. `now` is an argument, and bytes from peers or from the host are
//! parsed with bounds: no input panics.
//!
//! - [`ip`]: the header of one IP packet, parsed once.
//! - [`routes`]: longest prefix match from address to owner, and the source check built on it.
//! - [`unreachable`]: the ICMP answer to a packet that has nowhere to go.
//! - [`echo`]: ICMP echo for the tunnel-level ping.
//! - [`path`]: the addresses a peer may be reached at, and the one that is proven.
//! - [`bucket`]: the token bucket that bounds answers and attempts.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod checksum;
pub mod echo;
pub mod ip;
pub mod path;
pub mod routes;
pub mod unreachable;

pub use bucket::TokenBucket;
pub use ip::{IpPacket, NotIp};
pub use path::Path;
pub use routes::{BadSource, RouteTable};
