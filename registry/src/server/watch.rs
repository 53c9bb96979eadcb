//! The Watch service.

pub(super) mod hub;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request as Call, Response, Status, Streaming};

use crate::range::KeyRange;
use crate::server::Service;
use crate::server::authorise::{ClientKey, Op};
use crate::server::kv::read_range;
use crate::server::lease::Answers;
use crate::server::limits::WATCHERS_PER_STREAM_MAX;
use crate::server::refusal::Refusal;
use crate::server::state::Change;
use crate::task::Task;
use hub::Subscription;

/// Responses waiting on a stream: small, because what waits there is not counted against the watcher.
const RESPONSES_WAITING_MAX: usize = 4;
/// Bytes of events in one response, below the 4 MiB that clients accept by default.
const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// A watcher that asked for it hears the revision at least this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// Watch number of responses that concern the stream as a whole.
const WHOLE_STREAM: i64 = -1;

const FILTER_NO_PUT: i32 = 0;
const FILTER_NO_DELETE: i32 = 1;

type Out = mpsc::Sender<Result<PbWatchResponse, Status>>;

/// One watch stream.
struct Session {
    service: Service,
    client: ClientKey,
    out: Out,
    watchers: BTreeMap<i64, Task>,
    last_id: i64,
}

/// One watcher of a stream.
struct Watcher {
    service: Service,
    client: ClientKey,
    id: i64,
    range: KeyRange,
    start: i64,
    prev_kv: bool,
    no_put: bool,
    no_delete: bool,
    progress_notify: bool,
    out: Out,
}

/// The client no longer reads.
struct Unread;

impl Session {
    async fn run(mut self, mut requests: Streaming<PbWatchRequest>) {
        let mut closing = self.service.core.closing.subscribe();
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                _ = closing.wait_for(|closing| *closing) => Err(Refusal::Closing.into()),
            };
            let handled = match request {
                Ok(Some(PbWatchRequest { request_union: Some(request) })) => self.handle(request).await,
                Ok(Some(PbWatchRequest { request_union: None })) => {
                    Err(Refusal::Malformed("empty watch request").into())
                }
                Ok(None) => {
                    // The client asks for nothing more but still listens.
                    self.out.closed().await;
                    return;
                }
                Err(status) => Err(status),
            };
            if let Err(status) = handled {
                // If nobody listens, nobody needs to know.
                let _ = self.out.send(Err(status)).await;
                return;
            }
        }
    }

    async fn handle(&mut self, request: PbWatchRequestUnion) -> Result<(), Status> {
        match request {
            PbWatchRequestUnion::CreateRequest(create) => {
                // A refused watch is cancelled; the others of the stream go on.
                let asked = create.watch_id;
                let range = read_range(create.key, create.range_end)
                    .and_then(|range| self.allow(&range, asked).map(|()| range));
                let range = match range {
                    Ok(range) => range,
                    Err(refusal) => return self.refuse(asked, &refusal).await,
                };
                let id = if asked != 0 { asked } else { self.free_id() };
                let watcher = Watcher {
                    service: self.service.clone(),
                    client: self.client,
                    id,
                    range,
                    start: create.start_revision,
                    prev_kv: create.prev_kv,
                    no_put: create.filters.contains(&FILTER_NO_PUT),
                    no_delete: create.filters.contains(&FILTER_NO_DELETE),
                    progress_notify: create.progress_notify,
                    out: self.out.clone(),
                };
                self.watchers.insert(id, Task::spawn(watcher.run()));
                Ok(())
            }
            PbWatchRequestUnion::CancelRequest(cancel) => {
                if self.watchers.remove(&cancel.watch_id).is_some() {
                    let response = PbWatchResponse {
                        header: Some(self.service.core.header(self.revision())),
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..PbWatchResponse::default()
                    };
                    self.tell(response).await?;
                }
                Ok(())
            }
            PbWatchRequestUnion::ProgressRequest(_) => {
                Err(Refusal::Unserved("a progress request of a whole stream; ask at creation").into())
            }
        }
    }

    fn allow(&self, range: &KeyRange, id: i64) -> Result<(), Refusal> {
        if self.watchers.len() >= WATCHERS_PER_STREAM_MAX {
            return Err(Refusal::Malformed("too many watchers on one stream"));
        }
        if id != 0 && self.watchers.contains_key(&id) {
            return Err(Refusal::Malformed("watch id is in use"));
        }
        self.service.allow(&self.client, Op::Read { range })
    }

    async fn refuse(&self, id: i64, refusal: &Refusal) -> Result<(), Status> {
        let header = Some(self.service.core.header(self.revision()));
        let watch_id = if id == 0 { WHOLE_STREAM } else { id };
        // Like etcd: a refused watch is announced and cancelled at once.
        self.tell(PbWatchResponse {
            header,
            watch_id,
            created: true,
            canceled: true,
            cancel_reason: refusal.to_string(),
            ..PbWatchResponse::default()
        })
        .await
    }

    async fn tell(&self, response: PbWatchResponse) -> Result<(), Status> {
        self.out.send(Ok(response)).await.map_err(|_| Status::cancelled("nobody reads the watch"))
    }

    fn revision(&self) -> i64 {
        self.service.core.state().revision
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.last_id) {
            self.last_id = self.last_id.wrapping_add(1);
        }
        self.last_id
    }
}

impl Watcher {
    async fn run(self) {
        // The stream's own end is noticed by the session.
        let _ = self.follow().await;
    }

    async fn follow(&self) -> Result<(), Unread> {
        let core = &self.service.core;
        let mut subscription = match Subscription::begin(&core.state, self.range.clone(), self.start) {
            Ok(subscription) => subscription,
            Err(compacted) => {
                let revision = core.state().revision;
                self.tell(PbWatchResponse { created: true, ..self.response(revision) }).await?;
                let compact_revision = compacted.0;
                let cancel_reason = Refusal::from(compacted).to_string();
                let response = self.response(revision);
                return self
                    .tell(PbWatchResponse { canceled: true, compact_revision, cancel_reason, ..response })
                    .await;
            }
        };
        self.tell(PbWatchResponse { created: true, ..self.response(subscription.revision) }).await?;
        for change in std::mem::take(&mut subscription.backlog) {
            self.pass_on(&change).await?;
        }
        loop {
            match timeout(PROGRESS_INTERVAL, subscription.queue.recv()).await {
                Ok(Some(change)) => {
                    self.pass_on(&change).await?;
                    subscription.passed_on(&change);
                }
                Ok(None) => {
                    return self.cancel("watcher is too slow: watch again from the next revision").await;
                }
                Err(_) if self.progress_notify => {
                    if let Some(revision) = subscription.progress() {
                        self.tell(self.response(revision)).await?;
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Sends the matching events of a change, whole or, if it is large, as fragments.
    async fn pass_on(&self, change: &Arc<Change>) -> Result<(), Unread> {
        if change.rev < self.start {
            return Ok(());
        }
        // What was allowed when the watch began may not be any more.
        if let Err(denied) = self.service.allow(&self.client, Op::Read { range: &self.range }) {
            self.cancel(&denied.to_string()).await?;
            return Err(Unread);
        }
        let mut events = Vec::new();
        let mut bytes = 0usize;
        for event in &change.events {
            let filtered = if event.new.is_some() { self.no_put } else { self.no_delete };
            if filtered || !self.range.contains(&event.key) {
                continue;
            }
            let mut wire: PbEvent = event.to_wire(change.rev);
            if !self.prev_kv {
                wire.prev_kv = None;
            }
            let event_bytes = wire.encoded_len();
            if !events.is_empty() && bytes.saturating_add(event_bytes) > RESPONSE_BYTES_MAX {
                let events = std::mem::take(&mut events);
                self.tell(PbWatchResponse { events, fragment: true, ..self.response(change.rev) }).await?;
                bytes = 0;
            }
            bytes = bytes.saturating_add(event_bytes);
            events.push(wire);
        }
        if events.is_empty() {
            return Ok(());
        }
        self.tell(PbWatchResponse { events, ..self.response(change.rev) }).await
    }

    async fn cancel(&self, reason: &str) -> Result<(), Unread> {
        let response = self.response(self.service.core.state().revision);
        self.tell(PbWatchResponse { canceled: true, cancel_reason: reason.to_owned(), ..response }).await
    }

    fn response(&self, revision: i64) -> PbWatchResponse {
        PbWatchResponse {
            header: Some(self.service.core.header(revision)),
            watch_id: self.id,
            ..PbWatchResponse::default()
        }
    }

    async fn tell(&self, response: PbWatchResponse) -> Result<(), Unread> {
        self.out.send(Ok(response)).await.map_err(|_| Unread)
    }
}

#[tonic::async_trait]
impl PbWatchService for Service {
    type WatchStream = Answers<PbWatchResponse>;

    async fn watch(
        &self,
        call: Call<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let client = Self::client(&call);
        let (out, answers) = mpsc::channel(RESPONSES_WAITING_MAX);
        let session = Session { service: self.clone(), client, out, watchers: BTreeMap::new(), last_id: 0 };
        let requests = call.into_inner();
        let task = Task::spawn(session.run(requests));
        Ok(Response::new(Answers::new(answers, task)))
    }
}
