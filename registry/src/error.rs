//! Why a call to the registry failed.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

/// Failure of one call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No endpoint could be connected.
    #[error("registry unreachable: {last}")]
    Unreachable {
        /// What the last endpoint answered.
        last: String,
    },
    /// Endpoints were reached, but none gave an answer in time.
    #[error("registry gave no answer within {} s: {last}", after.as_secs())]
    NoAnswer {
        /// The deadline that passed.
        after: Duration,
        /// The last failure before it.
        last: String,
    },
    /// The connection broke after the change was sent: it may or may not have happened.
    #[error("outcome of the change is unknown: {last}")]
    OutcomeUnknown {
        /// What broke.
        last: String,
    },
    /// This client may not do this.
    #[error("registry denied the operation: {message}")]
    Denied {
        /// The registry's words.
        message: String,
    },
    /// The request exceeds a size limit.
    #[error("request is too large for the registry: {message}")]
    TooLarge {
        /// The registry's words.
        message: String,
    },
    /// The registry has no room, or this client has used up its quota.
    #[error("registry has no room: {message}")]
    Full {
        /// The registry's words.
        message: String,
    },
    /// The revision asked for is no longer kept.
    #[error("revision is compacted: {message}")]
    Compacted {
        /// The registry's words.
        message: String,
    },
    /// The lease does not exist or has expired.
    #[error("lease is gone: {message}")]
    LeaseGone {
        /// The registry's words.
        message: String,
    },
    /// The registry does not serve this call.
    #[error("registry does not serve this call: {message}")]
    Unsupported {
        /// The registry's words.
        message: String,
    },
    /// Any other refusal.
    #[error("registry refused the call ({code:?}): {message}")]
    Refused {
        /// gRPC status code.
        code: Code,
        /// The registry's words.
        message: String,
    },
    /// The answer contradicts the protocol.
    #[error("registry sent a malformed answer: {what}")]
    Malformed {
        /// What was wrong.
        what: &'static str,
    },
}

impl CallError {
    /// Whether the registry is down or cut off, as opposed to having refused the call.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::OutcomeUnknown { .. })
    }
}

/// What one attempt at one endpoint says about the next step.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Certainly not executed: there was no connection.
    NotSent(String),
    /// The connection or the server failed; the call may have been executed.
    Lost(String),
    /// The server's answer is no.
    Refused(CallError),
}

impl From<etcd_client::Error> for Attempt {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        match error {
            E::GRpcStatus(status) => status.into(),
            E::TransportError(error) => Self::NotSent(chain(&error)),
            E::IoError(error) => Self::NotSent(error.to_string()),
            E::LeaseKeepAliveError(message) => Self::Refused(CallError::LeaseGone { message }),
            E::WatchError(message) => Self::Lost(message),
            other => {
                Self::Refused(CallError::Refused { code: Code::InvalidArgument, message: other.to_string() })
            }
        }
    }
}

impl From<Status> for Attempt {
    fn from(status: Status) -> Self {
        if has_no_connection(&status) {
            return Self::NotSent(status.source().map_or_else(|| status.message().to_owned(), chain));
        }
        let message = status.message().to_owned();
        Self::Refused(match status.code() {
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
                return Self::Lost(message);
            }
            // A broken HTTP/2 stream surfaces with the transport error as source; a server's own words do not.
            Code::Unknown | Code::Internal if status.source().is_some() => return Self::Lost(message),
            Code::PermissionDenied | Code::Unauthenticated => CallError::Denied { message },
            Code::Unimplemented => CallError::Unsupported { message },
            Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted
                if message.contains("too large") || message.contains("larger than max") =>
            {
                CallError::TooLarge { message }
            }
            Code::OutOfRange if message.contains("compacted") => CallError::Compacted { message },
            Code::ResourceExhausted => CallError::Full { message },
            Code::NotFound if message.contains("lease") => CallError::LeaseGone { message },
            code => CallError::Refused { code, message },
        })
    }
}

/// Whether the status stems from a failed connection attempt, so that nothing was sent.
fn has_no_connection(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
