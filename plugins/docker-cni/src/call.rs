//! What Docker calls, one noun a file.

mod address;
mod capabilities;
mod endpoint;
mod network;
mod pool;
mod sandbox;
mod unused;

use std::future::Future;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::meshd::{Asked, Meshd};
use crate::talk;

/// Largest body read: a container with thousands of published ports fits.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What Docker takes for an answer.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// A call of Docker: what it brings, where it goes, what is done.
trait Call: DeserializeOwned + Send {
    /// What is answered when all went well.
    type Reply: Serialize;

    /// Path on the socket.
    const PATH: &'static str;

    /// Does it.
    fn run(self, meshd: &Asked) -> impl Future<Output = Result<Self::Reply, Failure>> + Send;
}

/// A reply that says nothing.
#[derive(Debug, Default, Serialize)]
struct Done {}

/// Routes of the socket.
pub fn router(meshd: Meshd) -> Router {
    let router = Router::new().fallback(unknown);
    let router = route::<capabilities::Activate>(router);
    let router = route::<capabilities::NetworkCapabilities>(router);
    let router = route::<capabilities::IpamCapabilities>(router);
    let router = route::<capabilities::AddressSpaces>(router);
    let router = route::<pool::RequestPool>(router);
    let router = route::<pool::ReleasePool>(router);
    let router = route::<address::RequestAddress>(router);
    let router = route::<address::ReleaseAddress>(router);
    let router = route::<network::CreateNetwork>(router);
    let router = route::<network::DeleteNetwork>(router);
    let router = route::<endpoint::CreateEndpoint>(router);
    let router = route::<endpoint::DeleteEndpoint>(router);
    let router = route::<endpoint::EndpointInfo>(router);
    let router = route::<sandbox::Join>(router);
    let router = route::<sandbox::Leave>(router);
    let router = route::<unused::ProgramConnectivity>(router);
    let router = route::<unused::RevokeConnectivity>(router);
    let router = route::<unused::DiscoverNew>(router);
    let router = route::<unused::DiscoverDelete>(router);
    // It holds for the routes that are there already.
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(meshd)
}

fn route<C: Call + 'static>(router: Router<Meshd>) -> Router<Meshd> {
    router.route(C::PATH, post(|State(meshd), body| answer::<C>(meshd, body)))
}

async fn answer<C: Call>(meshd: Meshd, body: Result<Bytes, BytesRejection>) -> Response {
    let done = match read::<C>(body) {
        Ok(call) => call.run(&meshd.asked()).await,
        Err(failure) => Err(failure),
    };
    let document = done.and_then(|reply| {
        serde_json::to_value(reply)
            .map_err(|error| Failure::new("the answer can't be written").because(&error))
    });
    match document {
        Ok(document) => respond(StatusCode::OK, &document),
        Err(failure) => {
            talk::aside(&format!("{}: {}", C::PATH.trim_start_matches('/'), failure.line()));
            // Docker reads an error from the body of a success.
            respond(StatusCode::OK, &failure.document())
        }
    }
}

fn read<C: Call>(body: Result<Bytes, BytesRejection>) -> Result<C, Failure> {
    let body = body.map_err(|error| Failure::new("the call can't be read").because(&error))?;
    // Docker sends nothing where there is nothing to say.
    let bytes = if body.is_empty() { b"{}" } else { body.as_ref() };
    serde_json::from_slice(bytes).map_err(|error| Failure::new("the call can't be read").because(&error))
}

/// Docker goes on without a call that a plugin does not know, if it is told so.
async fn unknown(uri: Uri) -> Response {
    respond(StatusCode::NOT_FOUND, &Failure::new(format!("no such call: {}", uri.path())).document())
}

fn respond(status: StatusCode, document: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], document.to_string()).into_response()
}
