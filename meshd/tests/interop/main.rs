//! Our data plane beside other WireGuard programs, scripted peers and a hostile network.
//!
//! Every test makes network namespaces without names, which vanish with the process, so nothing stays behind
//! and any number of tests may run at once. Needs root and /dev/net/tun.

mod attacks;
mod narrow;
mod programs;
mod rig;
mod selftest;
