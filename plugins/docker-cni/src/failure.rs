//! How a call fails: one line, which Docker shows to who typed the command.

use std::error::Error;
use std::io;

use meshd_api::{ApiError, ClientError, ErrorCode, chain};
use serde_json::{Value, json};

/// Longest line; what was typed may stand in it.
const LINE_CHARS_MAX: usize = 500;

/// A call that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    parts: Vec<String>,
    code: Option<ErrorCode>,
}

impl Failure {
    /// Fails with a fragment that says what.
    pub fn new(what: impl Into<String>) -> Self {
        Self { parts: vec![what.into()], code: None }
    }

    /// Adds why, or what to do.
    #[must_use]
    pub fn with(mut self, part: impl Into<String>) -> Self {
        self.parts.push(part.into());
        self
    }

    /// Adds what an error says, and its sources.
    #[must_use]
    pub fn because(self, error: &dyn Error) -> Self {
        chain(error).fold(self, Self::with)
    }

    /// What meshd says it is. Without one meshd did not say no, and what was asked may have been done.
    pub fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let line = self.parts.join(": ");
        let plain = line.chars().map(|char| if char.is_control() { ' ' } else { char });
        plain.take(LINE_CHARS_MAX).collect()
    }

    /// The JSON that Docker wants: calls of network drivers are read for the one key, calls of IPAM for the other.
    pub fn document(&self) -> Value {
        let line = self.line();
        json!({"Err": line, "Error": line})
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(error) => {
                let ApiError { code, error, cause, hint } = *error;
                let parts = std::iter::once(error).chain(cause).chain(hint).collect();
                Self { parts, code: Some(code) }
            }
            ClientError::NotReachable { ref source, path: _ } => match source.kind() {
                io::ErrorKind::PermissionDenied => Self::new("may not talk to meshd").because(&error),
                _ => Self::new("meshd is not running").with("systemctl start meshd"),
            },
            ClientError::Protocol(_) => Self::new("meshd answered something else").because(&error),
            ClientError::TimedOut { .. } => Self::new("meshd is too slow").because(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_happened_is_one_line() {
        let failure = Failure::new("a\nb").with("c\u{1b}[31m").with("x".repeat(1000));
        let line = failure.line();
        assert!(line.starts_with("a b: c [31m: xxx"), "{line}");
        assert_eq!(line.chars().count(), LINE_CHARS_MAX);
    }

    #[test]
    fn what_meshd_says_comes_with_its_cause_and_hint() {
        let error = ApiError::new(ErrorCode::AddressTaken, "10.202.7.7 is taken")
            .with_cause("by web of node b")
            .with_hint("choose another");
        let failure = Failure::from(ClientError::Api(Box::new(error)));
        assert_eq!(failure.line(), "10.202.7.7 is taken: by web of node b: choose another");
        assert_eq!(failure.code(), Some(ErrorCode::AddressTaken));
    }
}
