//! What tasks bring back to the event loop.

use meshd_api::{LeaveReply, MemberReply};

use crate::control::Answer;
use crate::enrol::{JoinError, Joined};
use crate::membership::NodeSecrets;
use crate::mesh::Errand;

/// Result of a task.
pub enum Message {
    /// A join came to its end.
    Joined {
        /// Secrets the request was made with.
        secrets: NodeSecrets,
        /// What the steward gave, or why not.
        result: Box<Result<Joined, JoinError>>,
        /// Who asked.
        answer: Answer<MemberReply>,
    },
    /// A steward was told of the farewell, or could not be.
    Left {
        /// Whether a steward confirmed it.
        told: bool,
        /// Whether to leave all the same.
        force: bool,
        /// Why no steward confirmed it.
        cause: Option<String>,
        /// Who asked.
        answer: Answer<LeaveReply>,
    },
    /// A steward gave records, or did not.
    Errand {
        /// What was asked for.
        errand: Errand,
        /// Envelopes; none when no steward could be reached.
        records: Option<Vec<Vec<u8>>>,
    },
}
