//! What a steward is asked about its audit log: by nodes for leaves, by other stewards for cosignatures and copies.

use std::net::SocketAddr;

use meshd_wire::PublicKey;
use meshd_wire::enrol::{CopiedRow, EnrolReply, EnrolRequest, KeyStatement, LoggedLeaf, Refused};

use super::join::{StewardCallError, ask, connect_steward};
use crate::tls::RawKey;

/// Asks for leaves about the node's own keys, on one connection, up to the first that is refused.
pub async fn log(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    statements: Vec<KeyStatement>,
) -> Result<Vec<Result<LoggedLeaf, Refused>>, StewardCallError> {
    let mut client = connect_steward(at, key, is_steward).await?;
    let mut answers = Vec::with_capacity(statements.len());
    for statement in statements {
        match client.call(&EnrolRequest::Log { statement }).await.map_err(StewardCallError::NoAnswer)? {
            EnrolReply::Logged { leaf } => answers.push(Ok(leaf)),
            EnrolReply::Refused { why } => {
                answers.push(Err(why));
                break;
            }
            EnrolReply::Chain { .. }
            | EnrolReply::Admitted { .. }
            | EnrolReply::Done
            | EnrolReply::Claimed { .. }
            | EnrolReply::Cosigned { .. }
            | EnrolReply::Witnessed { .. }
            | EnrolReply::Grown { .. }
            | EnrolReply::Copied { .. } => return Err(StewardCallError::OutOfTurn),
        }
    }
    Ok(answers)
}

/// What a witness answers; the caller judges it.
#[derive(Debug)]
pub enum CosignAnswer {
    /// Its signature line.
    Cosigned(Vec<u8>),
    /// The checkpoint that it cosigned last; empty if none.
    Witnessed(Vec<u8>),
}

/// Asks the steward of another organisation to cosign a checkpoint.
pub async fn cosign(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    request: Vec<u8>,
) -> Result<CosignAnswer, StewardCallError> {
    match ask(at, key, is_steward, &EnrolRequest::Cosign { request }).await? {
        EnrolReply::Cosigned { signature } => Ok(CosignAnswer::Cosigned(signature)),
        EnrolReply::Witnessed { checkpoint } => Ok(CosignAnswer::Witnessed(checkpoint)),
        EnrolReply::Chain { .. }
        | EnrolReply::Admitted { .. }
        | EnrolReply::Refused { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => Err(StewardCallError::OutOfTurn),
    }
}

/// How a log says it grew; the caller judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// Its checkpoint of the smaller tree.
    pub old: Vec<u8>,
    /// That of the larger one behind the proof, as a witness is shown it.
    pub new: Vec<u8>,
}

/// Asks a steward how its log grew from one size to another.
pub async fn growth(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    (old, new): (u64, u64),
) -> Result<Grown, StewardCallError> {
    match ask(at, key, is_steward, &EnrolRequest::Growth { old, new }).await? {
        EnrolReply::Grown { old, new } => Ok(Grown { old, new }),
        EnrolReply::Chain { .. }
        | EnrolReply::Admitted { .. }
        | EnrolReply::Refused { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Copied { .. } => Err(StewardCallError::OutOfTurn),
    }
}

/// A part of another log; the caller judges it.
#[derive(Debug)]
pub struct Copied {
    /// Leaves with their records, in order.
    pub rows: Vec<CopiedRow>,
    /// Checkpoint of the tree that ends with them.
    pub checkpoint: Vec<u8>,
    /// Cosigned checkpoints of this tree and smaller ones.
    pub cosigned: Vec<Vec<u8>>,
}

/// Asks a steward for a part of its log from a leaf on.
pub async fn copy(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    from: u64,
) -> Result<Copied, StewardCallError> {
    match ask(at, key, is_steward, &EnrolRequest::Copy { from }).await? {
        EnrolReply::Copied { rows, checkpoint, cosigned } => {
            Ok(Copied { rows, checkpoint, cosigned: cosigned.into_iter().map(Vec::from).collect() })
        }
        EnrolReply::Chain { .. }
        | EnrolReply::Admitted { .. }
        | EnrolReply::Refused { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. } => Err(StewardCallError::OutOfTurn),
    }
}
