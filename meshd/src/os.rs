//! The host around the daemon: links, addresses, routes and their changes, all through netlink.
//!
//! Everything here is synchronous and short; only [`watch`] waits, and does so in the event loop.

mod address;
mod ipv6;
mod link;
mod netlink;
mod route;
mod watch;

pub use address::local_candidates;
pub use ipv6::ipv6_is_enabled;
pub use link::{Device, DeviceError, DeviceSettings, underlay_mtu};
pub use netlink::NetlinkError;
pub use route::conflicting_route;
pub use watch::AddressWatch;
