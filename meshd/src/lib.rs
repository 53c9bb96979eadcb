//! The meshd daemon: one event loop, dedicated data threads, and the host around them.
//!
//! [`run`] is the whole program. It opens the state directory and serves the control socket; once the host
//! belongs to a mesh it drives discovery, tunnels and the roles the host was given.
//!
//! ```text
//! meshctl ─ unix socket ─▶ control ─ Command ─▶ daemon (event loop) ─▶ mesh ─▶ dataplane (threads) ─ io, os
//! registry ◀─ put, watch ─ discovery ─ Finding ─▶      ▲                │
//! other hosts ─ TLS ─▶ enrol ─ EnrolCall ──────────────┤                └─▶ role/{steward, control, registry}
//! neighbours ◀─ QUIC ─▶ channel ─ Received ────────────┤
//! kernel ─ netlink ─▶ os::AddressWatch ────────────────┘
//! programs ─ DNS ─▶ names ◀─ Zone ─ mesh
//! ```

mod chain;
pub mod channel;
pub mod clock;
pub mod config;
pub mod control;
mod daemon;
pub mod dataplane;
pub mod discovery;
pub mod endpoints;
pub mod enrol;
mod frame;
pub mod generations;
pub mod io;
pub mod logging;
pub mod membership;
mod mesh;
pub mod metrics;
pub mod names;
pub mod os;
mod places;
mod private_key;
mod random;
pub mod role;
pub mod state_dir;
mod stored;
pub mod tls;
mod whole_file;

pub use daemon::run;
