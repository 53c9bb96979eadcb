//! The local control API: what `meshd_api` describes, served on a unix socket.
//!
//! Tasks: one acceptor, one task a connection. Every request becomes a [`Command`] for the event loop,
//! which owns all state; nothing here holds any.

pub mod caller;
mod command;
mod listener;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use meshd_api::{
    AddExternalRequest, AdmitRequest, ApiError, AttachRequest, Call, CheckRequest, ClaimRequest,
    CompromisedKeyRequest, DescribeRequest, DetachRequest, Document, ErrorCode, Event, EventKind, GcRequest,
    GetConfig, GetEndpoints, GetEvents, GetExternals, GetKeys, GetNetworks, GetObserved, GetPeers, GetReady,
    GetStatus, GetSteward, ImportRequest, InviteRequest, JoinFileRequest, JoinRequest, KeepRequest,
    LeaveRequest, METRICS_PATH, MeshCreateRequest, Method, POLICIES_BYTES_MAX, PingRequest,
    PutNetworkRequest, REQUEST_BYTES_MAX, ReleaseRequest, RemoveExternalRequest, RemoveNetworkRequest,
    RevokeRequest, RotateKeyRequest, SetPoliciesRequest, StewardPrepareRequest, StewardRenewRequest,
};
use tokio::sync::{broadcast, mpsc, oneshot};

pub use command::{Answer, Ask, Command};
pub use listener::{ControlListener, ListenError};

/// Content type of Prometheus' text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every handler needs.
#[derive(Clone)]
pub struct Daemon {
    /// To the event loop.
    pub commands: mpsc::Sender<Command>,
    /// From the event loop.
    pub events: broadcast::Sender<Event>,
}

/// Routes of the control socket.
pub fn router(daemon: Daemon) -> Router {
    let router = Router::new()
        .route(GetEvents::PATH, get(events))
        .route(METRICS_PATH, get(metrics))
        .fallback(not_found);
    let router = endpoint_routes(router);
    let router = route::<GetStatus>(router);
    let router = route::<GetPeers>(router);
    let router = route::<GetConfig>(router);
    let router = route::<PingRequest>(router);
    let router = route::<InviteRequest>(router);
    let router = route::<JoinRequest>(router);
    let router = route::<JoinFileRequest>(router);
    let router = route::<ImportRequest>(router);
    let router = route::<AdmitRequest>(router);
    let router = route::<LeaveRequest>(router);
    let router = route::<RevokeRequest>(router);
    let router = route::<StewardPrepareRequest>(router);
    let router = route::<GetSteward>(router);
    let router = route::<StewardRenewRequest>(router);
    let router = route::<MeshCreateRequest>(router);
    let router = route::<AddExternalRequest>(router);
    let router = route::<GetExternals>(router);
    let router = route::<RemoveExternalRequest>(router);
    let router = route::<GetKeys>(router);
    let router = route::<GetObserved>(router);
    let router = route::<RotateKeyRequest>(router);
    let router = route::<CompromisedKeyRequest>(router);
    bounded(router).with_state(daemon)
}

/// Routes of the plugins' socket: endpoints, networks and addresses, and nothing about the mesh.
pub fn plugin_router(daemon: Daemon) -> Router {
    bounded(endpoint_routes(Router::new().fallback(not_found))).with_state(daemon)
}

/// Bounds what a caller may send. A layer holds for the routes before it alone, so it is put on last.
fn bounded(router: Router<Daemon>) -> Router<Daemon> {
    router.layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

fn endpoint_routes(router: Router<Daemon>) -> Router<Daemon> {
    let router = route::<AttachRequest>(router);
    let router = route::<DescribeRequest>(router);
    let router = route::<DetachRequest>(router);
    let router = route::<CheckRequest>(router);
    let router = route::<KeepRequest>(router);
    let router = route::<GcRequest>(router);
    let router = route::<GetEndpoints>(router);
    let router = route::<PutNetworkRequest>(router);
    let router = route::<RemoveNetworkRequest>(router);
    let router = route::<GetNetworks>(router);
    let router = route::<ClaimRequest>(router);
    let router = route::<ReleaseRequest>(router);
    let set_policies = post(|State(daemon), body| ask::<SetPoliciesRequest>(daemon, body));
    let set_policies = set_policies.layer(DefaultBodyLimit::max(POLICIES_BYTES_MAX));
    let router = router.route(SetPoliciesRequest::PATH, set_policies);
    route::<GetReady>(router)
}

/// Tells every caller that it may not ask, whatever it asks.
pub fn refusal_router() -> Router {
    Router::new().fallback(|| async {
        let error = ApiError::new(ErrorCode::PermissionDenied, "this user may not talk to the daemon");
        refuse(&error.with_hint(format!("become root, or a member of the group {}", caller::GROUP)))
    })
}

/// Only the metrics, for the TCP listener.
pub fn metrics_router(daemon: Daemon) -> Router {
    Router::new().route(METRICS_PATH, get(metrics)).with_state(daemon)
}

fn route<C: Ask>(router: Router<Daemon>) -> Router<Daemon> {
    match C::METHOD {
        Method::Get => {
            router.route(C::PATH, get(|State(daemon)| ask::<C>(daemon, Bytes::from_static(b"{}"))))
        }
        Method::Post => router.route(C::PATH, post(|State(daemon), body| ask::<C>(daemon, body))),
    }
}

async fn ask<C: Ask>(daemon: Daemon, body: Bytes) -> Response {
    let request: C = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let cause = error.to_string();
            return refuse(
                &ApiError::new(ErrorCode::BadRequest, "the request can't be read").with_cause(cause),
            );
        }
    };
    match answer_of(&daemon, |answer| request.command(answer)).await {
        Ok(reply) => axum::Json(Document::new(reply)).into_response(),
        Err(error) => refuse(&error),
    }
}

async fn answer_of<T>(daemon: &Daemon, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, ApiError> {
    let stopping = || ApiError::new(ErrorCode::Unavailable, "the daemon is stopping");
    let (answer, reply) = oneshot::channel();
    daemon.commands.send(command(Answer(answer))).await.map_err(|_| stopping())?;
    reply.await.map_err(|_| stopping())?
}

fn refuse(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(Document::new(error.clone()))).into_response()
}

async fn not_found() -> Response {
    refuse(&ApiError::new(ErrorCode::NotFound, "no such call"))
}

async fn metrics(State(daemon): State<Daemon>) -> Response {
    match answer_of(&daemon, Command::Metrics).await {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => refuse(&error),
    }
}

/// Streams events as lines of JSON; the subscription exists before the head of the answer is sent.
async fn events(State(daemon): State<Daemon>) -> Response {
    let lines = stream::unfold(daemon.events.subscribe(), |mut events| async move {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(count)) => {
                Event { at_ms: crate::clock::wall_ms(), kind: EventKind::Missed { count } }
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        let line = serde_json::to_string(&Document::new(event)).map(|json| format!("{json}\n"));
        Some((line, events))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    /// First line of the answer to a request with a body of so many spaces.
    async fn answer_to(router: Router, path: &str, len: usize) -> String {
        let dir = tempfile::tempdir().expect("directory");
        let socket = dir.path().join("socket");
        let listener = ControlListener::bind(&socket, None).expect("binds");
        let server = tokio::spawn(listener.serve(router, refusal_router()));
        let (mut from, mut to) = UnixStream::connect(&socket).await.expect("connects").into_split();
        let head = format!("POST {path} HTTP/1.1\r\nhost: meshd\r\ncontent-length: {len}\r\n\r\n");
        let sent = tokio::spawn(async move {
            // Who is refused may be cut off while it sends.
            let _ = to.write_all(head.as_bytes()).await;
            let _ = to.write_all(&vec![b' '; len]).await;
            to
        });
        let mut answer = vec![0; 64];
        let read = from.read(&mut answer).await.expect("an answer");
        sent.abort();
        server.abort();
        String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_refused_on_both_sockets() {
        let door = || {
            let (commands, _) = mpsc::channel(1);
            Daemon { commands, events: broadcast::channel(1).0 }
        };
        let routers: [fn(Daemon) -> Router; 2] = [router, plugin_router];
        for make in routers {
            for (path, max) in
                [(AttachRequest::PATH, REQUEST_BYTES_MAX), (SetPoliciesRequest::PATH, POLICIES_BYTES_MAX)]
            {
                let answer = answer_to(make(door()), path, max + 1).await;
                assert!(answer.contains(" 413 "), "{answer}");
                let answer = answer_to(make(door()), path, max).await;
                assert!(answer.contains(" 400 "), "it can be read and is no request: {answer}");
            }
        }
    }
}
