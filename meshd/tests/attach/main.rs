//! Endpoints wired to a host, in network namespaces made for each test. Needs root, /dev/net/tun and nft.

mod filter;
mod kernel;
mod rig;
mod wiring;
