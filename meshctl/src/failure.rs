//! How a command fails: what, why, what to do, and with which exit code.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use meshd_api::{ClientError, Exit, chain};

use crate::output;

/// A command that did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Code to end with where a verb has codes of its own.
    code: Option<u8>,
    error: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// Fails with a code and a fragment that reads after `error:`.
    pub fn new(exit: Exit, error: impl Into<String>) -> Self {
        Self { exit, code: None, error: error.into(), causes: Vec::new(), hint: None }
    }

    /// Adds an error and its sources as causes.
    #[must_use]
    pub fn because(mut self, cause: &dyn Error) -> Self {
        self.causes.extend(chain(cause));
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Ends with a code of the verb's own, unless one was chosen before.
    #[must_use]
    pub fn or_code(self, code: u8) -> Self {
        Self { code: self.code.or(Some(code)), ..self }
    }

    /// Prints it and gives the code to end with.
    pub fn report(&self) -> ExitCode {
        output::talk(&self.to_text());
        ExitCode::from(self.code.unwrap_or(self.exit.code()))
    }

    fn to_text(&self) -> String {
        let mut lines = vec![format!("error: {}", self.error)];
        lines.extend(self.causes.iter().map(|cause| format!("cause: {cause}")));
        lines.extend(self.hint.iter().map(|hint| format!("hint: {hint}")));
        lines.join("\n")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = error.exit();
        match error {
            ClientError::Api(api) => Self {
                exit,
                code: None,
                error: api.error,
                causes: api.cause.into_iter().collect(),
                hint: api.hint,
            },
            ClientError::NotReachable { path, source } => {
                let hint = match source.kind() {
                    io::ErrorKind::PermissionDenied => "become root, or a member of the group meshd",
                    _ => "start the daemon with `systemctl start meshd`, or name its socket with --socket",
                };
                Self::new(exit, format!("can't reach the daemon at {}", path.display()))
                    .because(&source)
                    .with_hint(hint)
            }
            ClientError::Protocol(what) => {
                Self { causes: vec![what], ..Self::new(exit, "can't understand the daemon's answer") }
                    .with_hint("check that meshctl and meshd are of the same release")
            }
            error @ ClientError::TimedOut { .. } => Self::new(exit, error.to_string()),
        }
    }
}
