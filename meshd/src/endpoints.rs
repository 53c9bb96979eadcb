//! The endpoints of this host: containers, pods and processes that are attached to the mesh.

mod addresses;
mod claimant;
mod entry;
mod file;
mod reconcile;
mod signer;
mod wiring;

pub use addresses::{Addresses, NoPool, claims_on};
pub use claimant::{Claimant, TakeError};
pub use entry::{BootId, Entry, Stage};
pub use file::{Content, EndpointsFile, Reserved, forget_endpoints};
pub use reconcile::{GRACE, ORPHAN_GRACE, Reason, Survey, Suspects, Verdict, verdicts};
pub use signer::{Claim, ClaimSigner, claim_id};
pub use wiring::{Wired, Wiring, WiringError, WiringSettings};
