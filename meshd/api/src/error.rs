//! What went wrong, in words for programs and for people.

use std::error::Error;
use std::iter;

use serde::{Deserialize, Serialize};

use crate::call::Body;
use crate::exit::Exit;
use crate::text::words;

/// Why the daemon did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// Word for programs.
    pub code: ErrorCode,
    /// What failed, a lowercase fragment that reads after `error:`.
    pub error: String,
    /// Why, if that is known.
    #[serde(default)]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl ApiError {
    /// Says what failed.
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self { code, error: error.into(), cause: None, hint: None }
    }

    /// Adds why.
    #[must_use]
    pub fn with_cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// What an error says, and each of its sources.
pub fn chain<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = String> + 'a {
    let mut next = Some(error);
    iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error.to_string())
    })
}

impl Body for ApiError {
    const SCHEMA: &'static str = "meshd.error/1";
}

words! {
    /// Kind of failure.
    ErrorCode otherwise Internal {
        /// The request can't be read or makes no sense.
        BadRequest = "bad-request",
        /// The request is larger than allowed.
        TooLarge = "too-large",
        /// The caller may not do this.
        PermissionDenied = "permission-denied",
        /// The text is no join token: mistyped or cut off.
        TokenMalformed = "token-malformed",
        /// The steward does not know the token, or its proof does not fit.
        TokenUnknown = "token-unknown",
        /// The token was used before.
        TokenUsed = "token-used",
        /// The token's time is over.
        TokenExpired = "token-expired",
        /// The clocks of this host and of the steward differ too much.
        ClockOff = "clock-off",
        /// A record or signature does not verify.
        RecordRefused = "record-refused",
        /// It is about another mesh or organisation.
        WrongMesh = "wrong-mesh",
        /// The node is revoked.
        Revoked = "revoked",
        /// Nothing has this name, id or address.
        NotFound = "not-found",
        /// No answer in time.
        TimedOut = "timed-out",
        /// The node belongs to a mesh already.
        AlreadyMember = "already-member",
        /// The node belongs to no mesh.
        NotMember = "not-member",
        /// The node is no steward, and only one can do this.
        NotSteward = "not-steward",
        /// The node is the steward, and others need it.
        IsSteward = "is-steward",
        /// Several nodes have this name.
        Ambiguous = "ambiguous",
        /// Another node has the name.
        NameTaken = "name-taken",
        /// Another peer has the key.
        KeyTaken = "key-taken",
        /// Another endpoint has the address.
        AddressTaken = "address-taken",
        /// The network has endpoints.
        InUse = "in-use",
        /// No more of them are allowed.
        TooMany = "too-many",
        /// No address is left in the organisation's prefix.
        NoAddress = "no-address",
        /// An overlay prefix overlaps a route of this host.
        PrefixConflict = "prefix-conflict",
        /// The tunnel device or socket can't be set up.
        DeviceFailed = "device-failed",
        /// No steward can be reached.
        StewardUnreachable = "steward-unreachable",
        /// The state can't be stored.
        StorageFailed = "storage-failed",
        /// The daemon can't do it now.
        Unavailable = "unavailable",
        /// A fault of the daemon, or a word of a newer one.
        Internal = "internal",
    }
}

impl ErrorCode {
    /// HTTP status and exit code that belong to it.
    const fn row(self) -> (u16, Exit) {
        match self {
            Self::BadRequest => (400, Exit::Usage),
            Self::TooLarge => (413, Exit::Usage),
            Self::PermissionDenied => (403, Exit::Refused),
            Self::TokenMalformed => (400, Exit::Refused),
            Self::TokenUnknown => (403, Exit::Refused),
            Self::TokenUsed => (403, Exit::Refused),
            Self::TokenExpired => (403, Exit::Refused),
            Self::ClockOff => (403, Exit::Refused),
            Self::RecordRefused => (403, Exit::Refused),
            Self::WrongMesh => (403, Exit::Refused),
            Self::Revoked => (403, Exit::Refused),
            Self::NotFound => (404, Exit::NotFound),
            Self::TimedOut => (504, Exit::TimedOut),
            Self::AlreadyMember => (409, Exit::Conflict),
            Self::NotMember => (409, Exit::Conflict),
            Self::NotSteward => (409, Exit::Conflict),
            Self::IsSteward => (409, Exit::Conflict),
            Self::Ambiguous => (409, Exit::Conflict),
            Self::NameTaken => (409, Exit::Conflict),
            Self::KeyTaken => (409, Exit::Conflict),
            Self::AddressTaken => (409, Exit::Conflict),
            Self::InUse => (409, Exit::Conflict),
            Self::TooMany => (409, Exit::Conflict),
            Self::NoAddress => (409, Exit::Conflict),
            Self::PrefixConflict => (409, Exit::Conflict),
            Self::DeviceFailed => (500, Exit::Failed),
            Self::StewardUnreachable => (502, Exit::Failed),
            Self::StorageFailed => (507, Exit::Failed),
            Self::Unavailable => (503, Exit::Failed),
            Self::Internal => (500, Exit::Failed),
        }
    }

    /// HTTP status of an answer with this code.
    pub const fn http_status(self) -> u16 {
        self.row().0
    }

    /// How a command ends that gets this code.
    pub const fn exit(self) -> Exit {
        self.row().1
    }
}
