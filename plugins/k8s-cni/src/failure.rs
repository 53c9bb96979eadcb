//! How a verb fails: a number for the runtime, words for people.

use std::error::Error;
use std::io;

use meshd_api::{ApiError, ClientError, ErrorCode, chain};
use serde_json::{Value, json};

use crate::version::Version;

/// Kind of failure, with the number it has in CNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The version is not spoken, or does not have the verb.
    Version = 1,
    /// The configuration has a key that nobody knows.
    Key = 2,
    /// The container is not attached.
    Container = 3,
    /// A variable of the environment is missing or wrong.
    Environment = 4,
    /// Standard input can't be read.
    Io = 5,
    /// Standard input is no network configuration.
    Decode = 6,
    /// The configuration has a wrong value.
    Configuration = 7,
    /// It may work later.
    Later = 11,
    /// Nothing can be attached.
    NotAvailable = 50,
    /// Nothing can be attached, and what is attached is cut off.
    Limited = 51,
    /// meshd refuses.
    Refused = 100,
    /// The address or the name is another's, or the interface is attached already.
    Taken = 101,
    /// No address, or no room for one more.
    Full = 102,
    /// Something of the attachment is missing or different.
    Faulty = 103,
    /// meshd or this plugin failed.
    Internal = 999,
}

/// A verb that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    message: String,
    details: Vec<String>,
}

impl Failure {
    /// Fails with a fragment that says what.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// Adds why, or what to do.
    #[must_use]
    pub fn with(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Adds what an error says, and its sources.
    #[must_use]
    pub fn because(self, error: &dyn Error) -> Self {
        chain(error).fold(self, Self::with)
    }

    /// The same with another number.
    #[must_use]
    pub fn coded(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// Its number.
    pub fn code(&self) -> Code {
        self.code
    }

    /// One line for people.
    pub fn line(&self) -> String {
        std::iter::once(self.message.as_str())
            .chain(self.details.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// The JSON that CNI wants.
    pub fn document(&self, version: Version) -> Value {
        let mut document = json!({
            "cniVersion": version.text(),
            "code": self.code as u32,
            "msg": self.message,
        });
        if !self.details.is_empty() {
            document["details"] = self.details.join("; ").into();
        }
        document
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(error) => refused(*error),
            ClientError::NotReachable { ref source, path: _ } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Self::new(Code::Refused, "may not talk to meshd").because(&error)
                }
                _ => Self::new(Code::Later, "meshd is not running")
                    .because(&error)
                    .with("start it with: systemctl start meshd"),
            },
            ClientError::Protocol(_) => {
                Self::new(Code::Internal, "meshd answered something else").because(&error)
            }
            ClientError::TimedOut { .. } => Self::new(Code::Later, "meshd is too slow").because(&error),
        }
    }
}

fn refused(error: ApiError) -> Failure {
    let ApiError { code, error, cause, hint } = error;
    let failure = Failure::new(number(code), error);
    cause.into_iter().chain(hint).fold(failure, Failure::with)
}

/// The number for what meshd says.
const fn number(code: ErrorCode) -> Code {
    match code {
        ErrorCode::BadRequest | ErrorCode::TooLarge => Code::Configuration,
        ErrorCode::NotFound => Code::Container,
        ErrorCode::TimedOut
        | ErrorCode::NotMember
        | ErrorCode::StewardUnreachable
        | ErrorCode::Unavailable => Code::Later,
        ErrorCode::AddressTaken
        | ErrorCode::NameTaken
        | ErrorCode::KeyTaken
        | ErrorCode::InUse
        | ErrorCode::Ambiguous
        | ErrorCode::PrefixConflict
        | ErrorCode::AlreadyMember => Code::Taken,
        ErrorCode::TooMany | ErrorCode::NoAddress => Code::Full,
        ErrorCode::PermissionDenied
        | ErrorCode::TokenMalformed
        | ErrorCode::TokenUnknown
        | ErrorCode::TokenUsed
        | ErrorCode::TokenExpired
        | ErrorCode::ClockOff
        | ErrorCode::RecordRefused
        | ErrorCode::WrongMesh
        | ErrorCode::Revoked
        | ErrorCode::NotSteward
        | ErrorCode::IsSteward => Code::Refused,
        ErrorCode::DeviceFailed | ErrorCode::StorageFailed | ErrorCode::Internal => Code::Internal,
    }
}
