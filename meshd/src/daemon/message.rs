//! What tasks bring back to the event loop.

use ipnet::IpNet;
use meshd_api::{AddExternalReply, LeaveReply, MemberReply};
use meshd_core::pool::Claimed as ClaimedNet;
use meshd_trust::Refusal;
use meshd_trust::log::Note;
use meshd_wire::enrol::{LoggedLeaf, Refused};
use meshd_wire::{NodeId, OrgId, TokenId};
use tokio::sync::oneshot;

use crate::control::Answer;
use crate::enrol::{Claimed, Copied, CosignAnswer, Grown, JoinError, Joined, StewardCallError};
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
    /// A steward has logged what became of this node's keys, or did not.
    Logged {
        /// Node that asked: this host may have left that mesh meanwhile.
        node: NodeId,
        /// What it has logged, or why not; none when no steward answered.
        logged: Option<Vec<Result<LoggedLeaf, Refused>>>,
    },
    /// A witness has answered, or was not reached.
    Cosigned {
        /// Node that asked: this host may have left that mesh meanwhile.
        node: NodeId,
        /// Organisation of the witness.
        witness: OrgId,
        /// The checkpoint it was shown.
        asked: Note,
        /// What it answered; none when it was not reached, or refused.
        answer: Option<CosignAnswer>,
    },
    /// A log has said how it grew, or was not reached.
    Grown {
        /// Node that asked: this host may have left that mesh meanwhile.
        node: NodeId,
        /// Organisation whose log it is.
        org: OrgId,
        /// The larger of the checkpoints that it was asked about.
        asked: Note,
        /// What it answered; none when it was not reached, or refused.
        answer: Option<Grown>,
    },
    /// A log has given what was missing in its copy, or was not reached.
    Copied {
        /// Node that asked: this host may have left that mesh meanwhile.
        node: NodeId,
        /// Organisation whose log it is.
        org: OrgId,
        /// Index of the first leaf.
        from: u64,
        /// What it gave; none when it was not reached, or refused.
        answer: Option<Copied>,
    },
    /// A claimant has read values in a registry.
    Learn {
        /// Node that claims: this host may have left that mesh meanwhile.
        node: NodeId,
        /// Keys and values, to be verified.
        values: Vec<(Vec<u8>, Vec<u8>)>,
        /// What is claimed.
        net: IpNet,
        /// Who claims what of it, as far as is known then.
        reply: oneshot::Sender<Vec<ClaimedNet<NodeId>>>,
    },
    /// A claimant has signed a claim that stands in a registry, or the end of one.
    Own {
        /// Node that claims.
        node: NodeId,
        /// Envelope of the record.
        envelope: Vec<u8>,
        /// Whether this node claims it from now on.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
}
