//! The endpoints of this host: containers, pods and processes that are attached to the mesh.

mod entry;
mod file;

pub use entry::{BootId, Entry, Stage};
pub use file::{Content, EndpointsFile, Reserved, forget_endpoints};
