//! The registry of a mesh: where nodes leave their signed records for each other.
//!
//! There is one protocol, etcd's v3 API, and one client for it. Behind it stands either a real etcd (one or
//! several endpoints, TLS) or the [`server`] of this crate, which serves the part of the API that the client
//! needs from one file.
//!
//! A registry is trusted with nothing but availability: values are opaque, signed elsewhere and verified by
//! whoever reads them.
//!
//! - [`Registry`]: put, compare-and-swap, get, delete, paged listing; fails over between endpoints.
//! - [`Watch`]: events of a prefix, resumed across disconnects, restarts and compactions.
//! - [`Lease`]: keys that vanish with their writer.
//!
//! Tasks: one per [`Watch`] and one per [`Lease`], owned by those values and aborted when they are dropped.

mod backoff;
mod client;
mod endpoint;
mod error;
mod lease;
mod list;
mod range;
mod record;
pub mod server;
mod task;
mod watch;

pub use client::{CALL_DEADLINE, CasOutcome, Expect, Registry};
pub use endpoint::{Dial, Endpoint, EndpointError, EtcdTls, Link};
pub use error::CallError;
pub use lease::{Lease, LeaseLost};
pub use list::{ListPage, Listing, PAGE_KEYS_MAX, Page};
pub use range::{KeyRange, RangeEnd};
pub use record::{LeaseId, Rev, Versioned};
pub use watch::{Event, Watch};
