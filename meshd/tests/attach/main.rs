//! Endpoints wired to a host, in network namespaces made for each test. Needs root, /dev/net/tun, nft and iptables.

mod crashes;
mod endpoints;
mod filter;
mod kernel;
mod node;
mod passage;
mod policy;
mod rig;
mod survey;
mod wiring;
