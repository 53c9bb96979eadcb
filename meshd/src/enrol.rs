//! Enrolment: how a host joins, renews, claims addresses, leaves, and how a steward's host listens for it.
//!
//! Frames are a length of four bytes, big-endian, and that many bytes of [`meshd_wire::enrol`]. The
//! listener owns a task for each connection; it decides nothing and holds no state: every request goes
//! to the daemon's event loop as an [`EnrolCall`] and waits for its reply.

mod audit_log;
mod client;
mod join;
mod serve;
#[cfg(test)]
mod tests;

pub use crate::frame::FrameError;
pub use audit_log::{Copied, CosignAnswer, Grown, copy, cosign, growth, log};
pub use client::{CallError, EnrolClient};
pub use join::{
    Claimed, JoinError, Joined, Renewed, StewardCallError, ask_strangers, claim, introduce, join, leave,
    refresh, renew,
};
pub use serve::{ControlCounters, EnrolCall, serve_control};
