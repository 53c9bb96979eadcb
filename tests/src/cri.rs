//! Calls of a container runtime as a kubelet makes them.

pub(crate) mod messages;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Time a call gets, as a kubelet gives it.
const CALL_DEADLINE: Duration = Duration::from_secs(120);

/// A connection to the runtime's socket.
#[derive(Debug)]
pub(crate) struct Cri {
    tasks: Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects to a socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let tasks =
            Builder::new_current_thread().enable_all().build().context("start a runtime for tasks")?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?.timeout(CALL_DEADLINE);
        let channel = tasks.block_on(endpoint.connect());
        let channel = channel.with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self { tasks, channel })
    }

    /// Makes a call of the runtime's pods and containers.
    pub(crate) fn call<Q, A>(&self, method: &str, question: Q) -> Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ask("RuntimeService", method, question)
    }

    /// Makes a call of the runtime's images.
    pub(crate) fn call_images<Q, A>(&self, method: &str, question: Q) -> Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ask("ImageService", method, question)
    }

    fn ask<Q, A>(&self, service: &str, method: &str, question: Q) -> Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.{service}/{method}"))?;
        let mut grpc = Grpc::new(self.channel.clone());
        let answer = self.tasks.block_on(async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.unary(Request::new(question), path, ProstCodec::default()).await
        });
        // A status prints all that came with it; the message is what a kubelet would show.
        let answer = answer.map_err(|status| anyhow::anyhow!("{}", status.message()));
        Ok(answer.with_context(|| format!("call {method}"))?.into_inner())
    }
}
