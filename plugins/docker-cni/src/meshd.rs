//! meshd, asked within the time of one of Docker's calls.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshd_api::{Call, Client, ClientError, ErrorCode, GetNetworks, Network, Networks};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::Failure;
use crate::talk;

/// What networks and endpoints of this plugin belong to, in meshd.
pub const RUNTIME: &str = "docker";

/// How long a call may ask: Docker's own API is held up meanwhile.
const ASK_MAX: Duration = Duration::from_millis(4500);
/// How long it may last when something is to be given back after that.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether meshd has come up.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Questions at a time: meshd holds 64 connections of one user, and others ask too.
const ASKS_MAX: usize = 32;

/// The daemon behind its plugin socket, for all calls.
#[derive(Debug, Clone)]
pub struct Meshd {
    client: Client,
    asks: Arc<Semaphore>,
}

/// The daemon within one call.
#[derive(Debug)]
pub struct Asked {
    meshd: Meshd,
    since: Instant,
}

impl Meshd {
    /// Talks to the daemon at a socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { client: Client::new(socket), asks: Arc::new(Semaphore::new(ASKS_MAX)) }
    }

    /// The time of a call begins.
    pub fn asked(self) -> Asked {
        Asked { meshd: self, since: Instant::now() }
    }
}

impl Asked {
    /// Asks, and waits for meshd if it is not there yet: after a start of the host Docker is often first.
    pub async fn ask<C: Call + Sync>(&self, call: &C) -> Result<C::Reply, Failure> {
        let until = self.since + ASK_MAX;
        loop {
            match self.ask_until(call, until).await {
                Err(ClientError::NotReachable { source, path: _ })
                    if source.kind() != io::ErrorKind::PermissionDenied
                        && Instant::now() + LOOK_EVERY < until =>
                {
                    sleep(LOOK_EVERY).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Asks only if meshd is there.
    pub async fn ask_now<C: Call + Sync>(&self, call: &C) -> Result<C::Reply, Failure> {
        Ok(self.ask_until(call, self.since + CALL_MAX).await?)
    }

    /// Gives something back, if meshd is there; else meshd finds by itself what is gone. What ends a container must
    /// not hold it up, and Docker ignores whether it failed.
    pub async fn give_back<C: Call + Sync>(&self, call: &C) {
        if let Err(failure) = self.ask_now(call).await {
            talk::aside(&format!("left to meshd: {}", failure.line()));
        }
    }

    /// The networks of this host, and where pools may lie.
    pub async fn networks(&self) -> Result<Networks, Failure> {
        self.ask(&GetNetworks {}).await
    }

    /// One of Docker's networks.
    pub async fn network(&self, id: &str) -> Result<Network, Failure> {
        let mut networks = self.networks().await?.networks.into_iter();
        networks.find(|network| network.runtime == RUNTIME && network.network == id).ok_or_else(|| {
            Failure::new("meshd does not know this network")
                .with("it left the mesh or lost its state: remove the network and create it again")
        })
    }

    async fn ask_until<C: Call + Sync>(&self, call: &C, until: Instant) -> Result<C::Reply, ClientError> {
        let asked = async {
            let _turn = self.meshd.asks.acquire().await;
            self.meshd.client.call(call).await
        };
        match timeout_at(until, asked).await {
            Ok(answer) => Ok(answer?.body),
            Err(_) => Err(ClientError::TimedOut { after_s: (until - self.since).as_secs() }),
        }
    }
}

/// Whether meshd refused with this code.
pub fn is_refused_as<T>(answer: &Result<T, Failure>, code: ErrorCode) -> bool {
    answer.as_ref().is_err_and(|failure| failure.code() == Some(code))
}
