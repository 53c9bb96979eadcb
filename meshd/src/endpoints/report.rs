//! What the tasks of endpoints bring back to the event loop.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{ApiError, CheckReply, ClaimReply};
use meshd_wire::EndpointId;

use super::claimant::TakeError;
use super::file::Edition;
use super::reconcile::Survey;
use super::wiring::WiringError;
use crate::control::Answer;

/// Result of a task.
pub enum Report {
    /// An endpoint that is being attached has its addresses, or some, and why not all.
    Addressed {
        /// Which one.
        id: EndpointId,
        /// Those claimed anew for it.
        taken: Vec<IpAddr>,
        /// Why one is missing.
        missing: Option<TakeError>,
    },
    /// An endpoint is wired, or nothing of it is.
    Wired {
        /// Which one.
        id: EndpointId,
        /// What was made.
        result: Result<(), WiringError>,
    },
    /// Nothing of an endpoint is left, or something is.
    Unwired {
        /// Which one.
        id: EndpointId,
        /// What failed.
        result: Result<(), WiringError>,
    },
    /// What is wrong with an endpoint is known.
    Checked {
        /// One line each.
        result: Result<Vec<String>, WiringError>,
        /// Who asked.
        answer: Answer<CheckReply>,
    },
    /// An address was claimed for an endpoint to come, or not.
    Reserved {
        /// The pool.
        pool: IpNet,
        /// The address.
        result: Result<IpAddr, TakeError>,
        /// Who asked.
        answer: Answer<ClaimReply>,
    },
    /// An edition of what is stored is on disk, or is not.
    Stored {
        /// Which one.
        edition: Edition,
        /// Why it is not.
        result: Result<(), String>,
    },
    /// A pair of links without an endpoint is gone, or is not.
    Removed {
        /// Whose it was.
        id: EndpointId,
        /// What failed.
        result: Result<(), WiringError>,
    },
    /// All endpoints are isolated, or not.
    CutOff {
        /// What failed.
        result: Result<(), WiringError>,
    },
    /// The packet filter was written anew, or was not.
    Repaired {
        /// What failed.
        result: Result<(), WiringError>,
    },
    /// What endpoints may do is in force as it was said, or not.
    Ruled {
        /// Why not.
        result: Result<(), WiringError>,
        /// Tells who asked.
        tell: Box<dyn FnOnce(Result<(), ApiError>) + Send>,
    },
    /// The kernel was looked at.
    Surveyed {
        /// What there is.
        result: Result<Survey, WiringError>,
    },
}
