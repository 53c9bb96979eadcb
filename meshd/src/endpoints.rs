//! The endpoints of this host: containers, pods and processes that are attached to the mesh.

mod entry;
mod file;
mod reconcile;
mod wiring;

pub use entry::{BootId, Entry, Stage};
pub use file::{Content, EndpointsFile, Reserved, forget_endpoints};
pub use reconcile::{GRACE, ORPHAN_GRACE, Reason, Survey, Suspects, Verdict, verdicts};
pub use wiring::{Wired, Wiring, WiringError, WiringSettings};
