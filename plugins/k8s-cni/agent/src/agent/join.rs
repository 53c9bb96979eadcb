//! Lets a node join the mesh with the token that lies ready for it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use meshd_api::{Client, GetStatus, JoinRequest, Membership, Secret};
use tracing::info;

/// A directory of tokens, one a node: a token is used once.
#[derive(Debug)]
pub struct Join {
    client: Client,
    token: Option<PathBuf>,
}

impl Join {
    /// The token of a node in a directory, for the daemon behind its control socket; without a directory nothing is
    /// done.
    pub fn new(api_socket: PathBuf, tokens: Option<PathBuf>, node: &str) -> Self {
        Self { client: Client::new(api_socket), token: tokens.map(|dir| dir.join(node)) }
    }

    /// Joins, unless the node belongs to a mesh already.
    pub async fn join(&mut self) -> Result<()> {
        let Some(path) = &self.token else { return Ok(()) };
        let status =
            self.client.call(&GetStatus {}).await.context("ask meshd whether it belongs to a mesh")?;
        match status.body.membership {
            Membership::Member => {}
            Membership::Outside => {
                let token = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                let token = Secret(token.trim().to_owned());
                self.client.call(&JoinRequest { token, name: None }).await.context("join the mesh")?;
                info!("the node has joined the mesh");
            }
            other => bail!("join the mesh: meshd says that its membership is {other}"),
        }
        // A node that leaves later was told to; it must not come back by itself.
        self.token = None;
        Ok(())
    }
}
