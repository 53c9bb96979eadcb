//! Endpoints wired to a host, in network namespaces made for each test. Needs root, /dev/net/tun and nft.

mod crashes;
mod endpoints;
mod filter;
mod kernel;
mod node;
mod rig;
mod survey;
mod wiring;
