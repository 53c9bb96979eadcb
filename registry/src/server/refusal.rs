//! Why the server does not do what it is asked; the words follow etcd's where clients look at them.

use tonic::Status;

use crate::server::authorise::Denied;

/// A refused operation.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("key is not provided")]
    KeyMissing,
    #[error("key is too large: {0} bytes")]
    KeyTooLarge(usize),
    #[error("value is too large: {0} bytes")]
    ValueTooLarge(usize),
    #[error("request is too large: {0} bytes")]
    RequestTooLarge(usize),
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("{0} is not served by the embedded registry")]
    Unserved(&'static str),
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("lease belongs to another client")]
    LeaseOfAnother,
    #[error("too many leases of one client")]
    LeaseQuota,
    #[error("too many keys or bytes of one client")]
    ClientQuota,
    #[error("registry is full")]
    StoreFull,
    #[error("answer is too large: ask for pages")]
    AnswerTooLarge,
    #[error("registry is closing")]
    Closing,
    #[error("registry storage is out of space")]
    NoSpace,
    #[error("registry storage failed")]
    Storage,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            Refusal::Denied(_) | Refusal::LeaseOfAnother => Self::permission_denied(words),
            Refusal::KeyMissing
            | Refusal::KeyTooLarge(_)
            | Refusal::ValueTooLarge(_)
            | Refusal::RequestTooLarge(_)
            | Refusal::TooManyOps
            | Refusal::DuplicateKey
            | Refusal::Malformed(_) => Self::invalid_argument(words),
            Refusal::Unserved(_) => Self::unimplemented(words),
            Refusal::Compacted | Refusal::FutureRevision => Self::out_of_range(words),
            Refusal::LeaseNotFound => Self::not_found(words),
            Refusal::LeaseExists => Self::failed_precondition(words),
            Refusal::LeaseQuota
            | Refusal::ClientQuota
            | Refusal::StoreFull
            | Refusal::AnswerTooLarge
            | Refusal::NoSpace => Self::resource_exhausted(words),
            Refusal::Closing => Self::unavailable(words),
            Refusal::Storage => Self::internal(words),
        }
    }
}
