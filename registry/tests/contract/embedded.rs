//! The embedded server on loopback.

use std::sync::Arc;

use meshd_registry::Endpoint;
use meshd_registry::server::{Authorise, ClientKey, Denied, EmbeddedServer, Limits, Op, Quota};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::backend::{Backend, PREFIX};

pub struct Embedded {
    dir: TempDir,
    port: u16,
    running: Option<(EmbeddedServer, JoinHandle<()>)>,
}

/// Everything under [`PREFIX`], nothing else.
struct PrefixOnly;

impl Authorise for PrefixOnly {
    fn allows(&self, _: &ClientKey, op: Op<'_>) -> Result<(), Denied> {
        let inside = match op {
            Op::Read { range } | Op::Delete { range } => range.lies_within_prefix(PREFIX.as_bytes()),
            Op::Put { key, value: _ } => key.starts_with(PREFIX.as_bytes()),
            Op::Lease | Op::Status | Op::Compact => true,
        };
        if inside { Ok(()) } else { Err(Denied::new("outside the prefix of this client")) }
    }

    fn quota(&self, _: &ClientKey) -> Quota {
        Quota::UNLIMITED
    }
}

impl Embedded {
    async fn run(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("port is free");
        self.port = listener.local_addr().expect("bound socket has an address").port();
        let path = self.dir.path().join("registry.redb");
        let server = EmbeddedServer::open(path, Limits::default()).await.expect("registry opens");
        let serving = server.serve_tcp(listener, Arc::new(PrefixOnly));
        let task = tokio::spawn(async move { serving.await.expect("server serves") });
        self.running = Some((server, task));
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Backend for Embedded {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut backend = Self { dir, port: 0, running: None };
        backend.run().await;
        backend
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::etcd([self.url()])]
    }

    async fn raw(&self) -> etcd_client::Client {
        etcd_client::Client::connect([self.url()], None).await.expect("server is there")
    }

    async fn restart(&mut self) {
        if let Some((server, task)) = self.running.take() {
            server.close().await;
            task.await.expect("serving ends in order");
        }
        self.run().await;
    }
}
