//! What tasks bring back to the event loop.

use meshd_api::{AddExternalReply, LeaveReply, MemberReply};
use meshd_wire::{NodeId, TokenId};

use crate::control::Answer;
use crate::enrol::{Claimed, JoinError, Joined, StewardCallError};
use crate::membership::NodeSecrets;
use crate::mesh::{Errand, Help, Newcomer};

/// Result of a task.
pub enum Message {
    /// A join came to its end.
    Joined {
        /// Token it was tried with.
        token: TokenId,
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
    /// A steward gave an external its addresses, or did not.
    Claimed {
        /// Node that asked: this host may have left that mesh meanwhile.
        node: NodeId,
        /// Who is to be served.
        newcomer: Newcomer,
        /// What the steward gave, or why not.
        result: Box<Result<Claimed, StewardCallError>>,
        /// Who asked.
        answer: Answer<AddExternalReply>,
    },
    /// A steward helped, or did not.
    Errand {
        /// Node that asked: this host may have left that mesh meanwhile.
        node: NodeId,
        /// What was asked for.
        errand: Errand,
        /// What the steward gave; none when no steward helped.
        help: Option<Help>,
    },
}
