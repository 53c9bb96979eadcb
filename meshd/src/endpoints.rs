//! The endpoints of this host: containers, pods and processes that are attached to the mesh.
//!
//! ```text
//! absent ─attach─▶ claiming ─addresses─▶ wiring ─link, routes, admission─▶ attached ─detach─▶ releasing ─▶ absent
//!                     └──── refused ◀──────┘ undone in reverse
//! ```
//!
//! The event loop owns what is here. What is wanted is stored before the kernel is touched, and each effect can be
//! repeated, so that a crash at any moment is finished or undone at the next start. Effects and claims run beside the
//! loop and come back as a [`Report`].

mod addresses;
mod batcher;
mod claimant;
mod entry;
mod file;
mod job;
mod networks;
mod policies;
mod reconcile;
mod report;
mod routes;
mod signer;
mod wiring;

pub use addresses::{Addresses, NoPool, claims_on};
pub use claimant::{Claimant, TakeError};
pub use entry::{BootId, Entry, Stage};
pub use file::{Content, Draft, Edition, EndpointsFile, Reserved, forget_endpoints};
pub use job::{Job, Jobs};
pub use networks::{NETWORKS_MAX, Pools, Scope, allocation, judge, judge_pool, judge_word, read};
pub use policies::{Compiled, PoliciesFile, Rulebook, Ruled, forget_policies, judge_policies};
pub use reconcile::{
    GRACE, LIVING_ORPHAN_GRACE, ORPHAN_GRACE, Reason, Survey, Suspects, Verdict, collectable, verdicts,
};
pub use report::Report;
pub use routes::Surroundings;
pub use signer::{Claim, ClaimSigner, claim_id};
pub use wiring::{Wired, Wiring, WiringError, WiringSettings};
