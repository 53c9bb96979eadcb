//! Who may say what: keys, signatures, founding, admission, the verified view of a mesh and the log that proves it.
//!
//! Everything here is pure: the caller gives bytes, the time and random bytes, and gets values back.
//! Nothing reads a clock, a file or a socket, so every verification can be repeated and tested exactly.

#![forbid(unsafe_code)]

pub mod address;
pub mod founding;
pub mod join;
mod key;
pub mod log;
pub mod root_file;
mod roster;

pub use key::{SigningKey, VerifyingKey, is_signing_key, sign, verify_signature};
pub use roster::{
    Accepted, Change, Claim, ClaimState, ENDPOINT_LIFE_S, ENDPOINT_REST_S, EXTERNALS_MAX, EndpointView,
    Floor, Freshness, NODE_ENDPOINTS_MAX, NodeView, OrgView, Refusal, Roster, RosterFileError, Standing,
    is_tunnel_key,
};
