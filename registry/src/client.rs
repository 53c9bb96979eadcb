//! The client: calls, deadlines, fail-over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::proto::{PbResponseHeader, PbTxnOpResponse};
use etcd_client::{
    Compare, CompareOp, KvClient, LeaseClient, MaintenanceClient, PutOptions, Txn, TxnOp, WatchClient,
};
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::endpoint::{Endpoint, EndpointError};
use crate::error::{Attempt, CallError};
use crate::lease::Lease;
use crate::list::{ListPage, Listing, Page};
use crate::record::{LeaseId, Rev, Versioned};
use crate::watch::Watch;

/// Longest time a call takes, all attempts and endpoints together.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Longest time one endpoint may take to answer before the next is asked; an etcd that lost its leader needs
/// about two seconds to elect another.
pub(crate) const ATTEMPT_DEADLINE: Duration = Duration::from_secs(4);
/// Largest answer accepted; a listing page asks for fewer keys when the server's values do not fit.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What the key must be for [`Registry::cas`] to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last written at this revision.
    Rev(Rev),
}

/// Result of [`Registry::cas`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CasOutcome {
    /// Written, as this revision.
    Done(Rev),
    /// Not written: the key is this instead (none if absent).
    Conflict(Option<Versioned>),
}

/// Client of one registry; clones share its connections.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Vec<Server>,
    /// Index of the server that answered last.
    current: AtomicUsize,
}

/// One server of the registry.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) kv: KvClient,
    pub(crate) watch: WatchClient,
    pub(crate) lease: LeaseClient,
    pub(crate) maintenance: MaintenanceClient,
}

/// Whether a call may be sent again when its first outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Doing it twice ends like doing it once.
    Harmless,
    /// Doing it twice could report the own first attempt as somebody else's.
    Never,
}

impl Registry {
    /// A client for servers of one registry; the first connection is made by the first call.
    ///
    /// Must be called within a tokio runtime.
    pub async fn connect(endpoints: Vec<Endpoint>) -> Result<Self, EndpointError> {
        let mut servers = Vec::new();
        for endpoint in endpoints {
            for (name, channel) in endpoint.channels()? {
                let client = etcd_client::Client::from_channel(channel, None)
                    .await
                    .map_err(|e| EndpointError::Client { name: name.clone(), reason: e.to_string() })?;
                servers.push(Server {
                    index: servers.len(),
                    name,
                    kv: client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX),
                    watch: client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX),
                    lease: client.lease_client(),
                    maintenance: client.maintenance_client(),
                });
            }
        }
        if servers.is_empty() {
            return Err(EndpointError::None);
        }
        Ok(Self { inner: Arc::new(Inner { servers, current: AtomicUsize::new(0) }) })
    }

    /// Writes a value; with a lease, the key vanishes when the lease does.
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        lease: Option<LeaseId>,
    ) -> Result<Rev, CallError> {
        let (key, value) = (key.as_ref(), value.into());
        let response = self
            .call(Repeat::Harmless, |mut server| {
                let (key, value) = (key.to_vec(), value.to_vec());
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.to_wire()));
                async move { server.kv.put(key, value, options).await }
            })
            .await?;
        revision(response.0.header)
    }

    /// Writes or, with no value, deletes the key if it is as expected.
    ///
    /// [`CallError::OutcomeUnknown`] means that the connection broke at the wrong moment: read the key to know.
    pub async fn cas(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: Option<Bytes>,
        lease: Option<LeaseId>,
    ) -> Result<CasOutcome, CallError> {
        let key = key.as_ref();
        let compare = match expect {
            Expect::Absent => Compare::version(key, CompareOp::Equal, 0),
            Expect::Rev(rev) => Compare::mod_revision(key, CompareOp::Equal, rev.to_wire()),
        };
        let change = match &value {
            Some(value) => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.to_wire()));
                TxnOp::put(key, value.to_vec(), options)
            }
            None => TxnOp::delete(key, None),
        };
        let txn = Txn::new().when([compare]).and_then([change]).or_else([TxnOp::get(key, None)]);
        let response = self
            .call(Repeat::Never, |mut server| {
                let txn = txn.clone();
                async move { server.kv.txn(txn).await }
            })
            .await?
            .0;
        if response.succeeded {
            return revision(response.header).map(CasOutcome::Done);
        }
        let read = response.responses.into_iter().next().and_then(|first| first.response);
        let Some(PbTxnOpResponse::ResponseRange(read)) = read else {
            return Err(CallError::Malformed { what: "failed compare-and-swap without the current value" });
        };
        Ok(CasOutcome::Conflict(read.kvs.into_iter().next().map(Versioned::from)))
    }

    /// Reads one key.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Versioned>, CallError> {
        let key = key.as_ref();
        let response = self
            .call(Repeat::Harmless, |mut server| {
                let key = key.to_vec();
                async move { server.kv.get(key, None).await }
            })
            .await?;
        Ok(response.0.kvs.into_iter().next().map(Versioned::from))
    }

    /// Deletes one key; returns the registry's revision afterwards, also if there was nothing to delete.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Rev, CallError> {
        let key = key.as_ref();
        let response = self
            .call(Repeat::Harmless, |mut server| {
                let key = key.to_vec();
                async move { server.kv.delete(key, None).await }
            })
            .await?;
        revision(response.0.header)
    }

    /// Reads one page of the keys with this prefix, in order of key.
    pub async fn list(&self, prefix: impl AsRef<[u8]>, page: Page) -> Result<ListPage, CallError> {
        crate::list::page(self, prefix.as_ref(), page).await
    }

    /// Reads every key with this prefix, page by page, as of one revision.
    pub async fn list_all(&self, prefix: impl AsRef<[u8]>) -> Result<Listing, CallError> {
        crate::list::all(self, prefix.as_ref()).await
    }

    /// Follows the keys with this prefix, beginning with the changes of revision `from`.
    ///
    /// From [`Rev::ZERO`] it begins with an [`Event::Resync`](crate::Event::Resync) of all that is there now.
    pub fn watch(&self, prefix: impl AsRef<[u8]>, from: Rev) -> Watch {
        Watch::start(self.clone(), prefix.as_ref().to_vec(), from)
    }

    /// Takes a lease and keeps it alive until the value is dropped.
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, CallError> {
        Lease::grant(self.clone(), ttl).await
    }

    /// Goes on with the lease of this number, or takes it if there is none, and keeps it alive until the value is
    /// dropped. So a client that dies and comes back has one lease, and the keys of its life before live on.
    ///
    /// A number that is somebody else's, or was taken for another time to live, keeps nobody out: then the lease is an
    /// ordinary one, of any number.
    pub async fn lease_again(&self, id: LeaseId, ttl: Duration) -> Result<Lease, CallError> {
        Lease::again(self.clone(), id, ttl).await
    }

    /// Asks the server for its state; succeeds if and only if some endpoint serves.
    pub async fn ping(&self) -> Result<Rev, CallError> {
        let response = self
            .call(Repeat::Harmless, |mut server| async move { server.maintenance.status().await })
            .await?;
        revision(response.0.header)
    }

    /// Name of the endpoint in use.
    pub fn endpoint(&self) -> &str {
        self.inner.servers.get(self.inner.current.load(Ordering::Relaxed)).map_or("", |s| s.name.as_str())
    }

    /// Calls `op` on the current server, and on the others if that one does not serve, within the deadline.
    pub(crate) async fn call<T, F, Fut>(&self, repeat: Repeat, op: F) -> Result<T, CallError>
    where
        F: Fn(Server) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut last = String::from("no attempt finished");
        let mut sent = false;
        let attempts = self.attempts(repeat, op, &mut last, &mut sent);
        match timeout(CALL_DEADLINE, attempts).await {
            Ok(outcome) => outcome,
            Err(_) if sent && repeat == Repeat::Never => Err(CallError::OutcomeUnknown { last }),
            Err(_) => Err(CallError::NoAnswer { after: CALL_DEADLINE, last }),
        }
    }

    async fn attempts<T, F, Fut>(
        &self,
        repeat: Repeat,
        op: F,
        last: &mut String,
        sent: &mut bool,
    ) -> Result<T, CallError>
    where
        F: Fn(Server) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut backoff = Backoff::new();
        let mut not_sent = 0;
        loop {
            let server = self.server();
            let (index, name) = (server.index, server.name.clone());
            *sent = true;
            let attempt = match timeout(ATTEMPT_DEADLINE, op(server)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Attempt::from(error),
                Err(_) => Attempt::Lost(format!("no answer within {} s", ATTEMPT_DEADLINE.as_secs())),
            };
            self.turn_from(index);
            match attempt {
                Attempt::Refused(error) => {
                    // The server serves: its no is final, and it stays the current one.
                    self.inner.current.store(index, Ordering::Relaxed);
                    return Err(error);
                }
                Attempt::NotSent(reason) => {
                    *last = format!("{name}: {reason}");
                    *sent = false;
                    not_sent += 1;
                    if not_sent >= self.inner.servers.len() {
                        return Err(CallError::Unreachable { last: last.clone() });
                    }
                }
                Attempt::Lost(reason) => {
                    *last = format!("{name}: {reason}");
                    if repeat == Repeat::Never {
                        return Err(CallError::OutcomeUnknown { last: last.clone() });
                    }
                    not_sent = 0;
                    backoff.pause().await;
                }
            }
        }
    }

    /// The server to ask now.
    pub(crate) fn server(&self) -> Server {
        let count = self.inner.servers.len();
        let index = self.inner.current.load(Ordering::Relaxed) % count;
        self.inner.servers[index].clone()
    }

    /// Makes the next server current, unless another task has turned away from `index` already.
    pub(crate) fn turn_from(&self, index: usize) {
        let next = (index + 1) % self.inner.servers.len();
        // A lost race means that somebody else turned away first, which serves the same end.
        let _ = self.inner.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}

/// The revision in a response header.
pub(crate) fn revision(header: Option<PbResponseHeader>) -> Result<Rev, CallError> {
    header
        .map(|header| Rev::from_wire(header.revision))
        .ok_or(CallError::Malformed { what: "answer without a header" })
}
