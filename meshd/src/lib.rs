//! The meshd daemon: one event loop, dedicated data threads, and the host around them.
//!
//! `run` is the whole program: it opens the state directory, serves the control socket and, once the
//! host belongs to a mesh, drives discovery, tunnels and the roles it was given.

pub mod config;
pub mod dataplane;
pub mod enrol;
pub mod generations;
pub mod io;
pub mod logging;
pub mod os;
pub mod role;
pub mod state_dir;
pub mod tls;
