//! Decisions of the packet path, without any IO: how packets of the host are cut and those of peers merged, who owns
//! an address, which flows pass, where a peer is reached, what a refused packet is answered with.
//!
//! Nothing here reads a clock or a socket. `now` is an argument, and bytes from peers or from the host are
//! parsed with bounds: no input panics.
//!
//! - [`ip`]: the header of one IP packet, parsed once.
//! - [`vnet`]: the header of a TUN device with offloads.
//! - [`split`]: a super-packet of the host, cut into packets in place.
//! - [`coalesce`]: packets of peers, merged into super-packets by reference.
//! - [`flow`]: which packets belong together, and the verdicts on them.
//! - [`mss`]: the segment size that a connection begins with, lowered to the path.
//! - [`pool`]: the addresses of a container network, and which one is next.
//! - [`routes`]: longest prefix match from address to owner, and the source check built on it.
//! - [`unreachable`]: the ICMP answer to a packet that has nowhere to go.
//! - [`too_big`]: the ICMP answer to a packet that the path cannot carry.
//! - [`echo`]: ICMP echo for the tunnel-level ping.
//! - [`path`]: the addresses a peer may be reached at, and the one that is proven.
//! - [`rotation`]: tunnel keys that are replaced without losing a packet.
//! - [`checksum`]: the Internet checksum.
//! - [`bucket`]: the token bucket that bounds answers and attempts.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod checksum;
pub mod coalesce;
pub mod echo;
#[cfg(test)]
mod fixture;
pub mod flow;
mod icmp_error;
pub mod ip;
pub mod mss;
pub mod path;
pub mod pool;
pub mod rotation;
pub mod routes;
pub mod split;
pub mod too_big;
pub mod unreachable;
mod upper;
pub mod vnet;

pub use bucket::TokenBucket;
pub use ip::{IpPacket, NotIp};
pub use path::Path;
pub use routes::{BadSource, RouteTable};
