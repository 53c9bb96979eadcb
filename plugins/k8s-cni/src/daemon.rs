//! meshd, asked within a deadline.

use std::path::PathBuf;

use meshd_api::{Call, Client};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::deadline::Deadline;
use crate::failure::{Code, Failure};

/// The daemon behind its plugin socket.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
    runtime: Runtime,
    deadline: Deadline,
}

impl Daemon {
    /// Talks to the daemon at a socket until the deadline.
    pub fn new(socket: PathBuf, deadline: Deadline) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::Internal, "no event loop can be made").because(&error))?;
        Ok(Self { client: Client::new(socket), runtime, deadline })
    }

    /// Makes a call and waits for its answer.
    pub fn call<C: Call>(&self, call: &C) -> Result<C::Reply, Failure> {
        let answer =
            self.runtime.block_on(async { timeout(self.deadline.left(), self.client.call(call)).await });
        match answer {
            Ok(answer) => Ok(answer?.body),
            Err(_) => {
                let waited_ms = self.deadline.whole().as_millis();
                Err(Failure::new(Code::Later, format!("no answer from meshd within {waited_ms} ms")))
            }
        }
    }
}
