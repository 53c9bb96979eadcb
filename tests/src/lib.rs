//! Hosts, links and an internet out of network namespaces, on one machine.
//!
//! A test reads as a story:
//!
//! ```no_run
//! mesh_lab::story("join", |lab| {
//!     let [a, b] = lab.hosts(["a", "b"])?;
//!     let mesh = lab.mesh("clinics", &[&a, &b])?;
//!     mesh.everyone_sees_all()?;
//!     a.pings(&mesh.member("b")?.addr4.to_string(), 1)?;
//!     Ok(())
//! });
//! ```
//!
//! Each host is a network namespace with directories of its own ([`Host`]), joined by a veth link to a routed
//! network ([`Internet`]) that cuts, loses, drops by length and delays ([`Delay`]). Namespaces isolate, so labs may
//! use equal IPv4 addresses; their names, directories and IPv6 prefixes differ ([`Claim`]). A machine
//! ([`Lab::machine`]) is a host with a file system and control groups of its own; it runs container runtimes
//! ([`Docker`], [`Containerd`], [`Podman`]). What runs in a lab ([`Process`], [`Daemon`]) ends with it: on success, on
//! panic, on a signal, and if the lab's process is killed, when the next lab starts.

mod api;
mod backup;
mod build;
mod capture;
mod cgroup;
mod claim;
mod cli;
pub mod clock;
mod containerd;
mod cri;
mod daemon;
mod delay;
mod docker;
mod echo_count;
mod etcd;
pub mod flood;
mod host;
mod image;
mod internet;
mod lab;
mod logs;
mod machine;
pub mod memory;
mod mesh;
mod namespace;
mod os;
mod plugins;
mod pod;
mod podman;
pub mod process;
pub mod report;
mod root_fs;
pub mod sctp;
pub mod secure_sum;
mod seen_keys;
pub mod wait;

pub use backup::Backup;
pub use build::{STATIC_FLAGS, program, program_dir, repository, static_program, static_target, target_dir};
pub use capture::{Capture, Captured};
pub use claim::{CLAIMS, Claim, remains, sweep};
pub use cli::Reply;
pub use containerd::Containerd;
pub use daemon::Daemon;
pub use delay::Delay;
pub use docker::{DOCKER_ROOT_VARIABLE, Docker};
pub use echo_count::EchoCount;
pub use etcd::Etcd;
pub use host::{Host, LINK};
pub use image::IMAGE;
pub use internet::{HostNumber, Internet};
pub use lab::{HOSTS_MAX, Lab, possible, story};
pub use mesh::{Member, Mesh};
pub use namespace::Namespace;
pub use pod::Pod;
pub use podman::Podman;
pub use process::{Output, Process};
pub use seen_keys::SeenKeys;
