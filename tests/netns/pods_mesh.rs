//! Pods and containers of CNI runtimes in a mesh: the plugin between real runtimes and a real daemon.

#[path = "pods_mesh/chain.rs"]
mod chain;
#[path = "pods_mesh/cycles.rs"]
mod cycles;
#[path = "pods_mesh/direct.rs"]
mod direct;
#[path = "pods_mesh/garbage.rs"]
mod garbage;
#[path = "pods_mesh/hosts.rs"]
mod hosts;
#[path = "pods_mesh/install.rs"]
mod install;
#[path = "pods_mesh/pools.rs"]
mod pools;
#[path = "pods_mesh/refused.rs"]
mod refused;
#[path = "pods_mesh/status.rs"]
mod status;
#[path = "pods_mesh/traces.rs"]
mod traces;
