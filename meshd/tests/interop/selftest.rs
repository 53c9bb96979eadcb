//! The situations in which the kernel tests its own WireGuard, rebuilt for our data plane.

mod addresses;
mod changes;
mod traffic;
