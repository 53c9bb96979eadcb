//! The host around the daemon: links, addresses, routes, packet filter and their changes.
//!
//! Everything here is synchronous and short, can be done twice, and has its undo; only [`AddressWatch`], [`LinkWatch`]
//! and [`TableWatch`] wait, and do so in the event loop. An endpoint is wired in this order, and unwired in the reverse
//! one; until the last step all its packets are dropped:
//!
//! ```text
//! Namespace::open ─▶ Veth::create ─▶ HostEnd::set_up ─▶ ContainerEnd::set_up ─▶ HostEnd::route ─▶ Firewall::admit
//!                    Veth::remove ◀─────────────────────────────────────────── HostEnd::unroute ◀─ Firewall::expel
//! ```

mod address;
mod conntrack;
mod container_end;
mod firewall;
mod host_end;
mod ipv6;
mod link;
mod link_end;
mod link_owner;
mod mac;
mod namespace;
mod netlink;
mod nft;
mod passage;
mod policy;
mod route;
mod sysctl;
mod veth;
mod watch;

pub use address::local_candidates;
pub use conntrack::forget_connections;
pub use container_end::{ContainerEnd, ContainerEndError};
pub use firewall::{Admission, Firewall, FirewallSettings};
pub use host_end::{GATEWAY4, GATEWAY6, HostEnd, gateway_of_all};
pub use ipv6::ipv6_is_enabled;
pub use link::{Device, DeviceError, DeviceSettings, underlay_mtu};
pub use link_end::LinkEndError;
pub use link_owner::{LinkOwner, RuntimeNameError, container_link, host_link, host_mac};
pub use mac::{Mac, MacError};
pub use namespace::{Namespace, NamespaceError};
pub use netlink::NetlinkError;
pub use nft::FirewallError;
pub use passage::{PassageError, close_passage, open_passage, passage_faults};
pub use policy::{Allowance, Apart, Direction, Permit, PolicyTable, Ranges, Restriction};
pub use route::{RouteError, conflicting_route, endpoint_routes, hold_prefix, release_prefix};
pub use sysctl::{SysctlError, enable_forwarding};
pub use veth::{Veth, VethError, VethPlace, VethSettings};
pub use watch::{AddressWatch, LinkNews, LinkWatch, TableNews, TableWatch};
