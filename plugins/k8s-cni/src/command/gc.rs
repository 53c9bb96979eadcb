//! GC: detaches what the runtime does not know any more.

use meshd_api::KeepRequest;

use super::Request;
use crate::configuration::{self, RUNTIME};
use crate::failure::Failure;

/// Keeps what is listed; all other attachments of this network go.
pub fn run(request: &Request<'_>) -> Result<(), Failure> {
    let keep = KeepRequest {
        runtime: RUNTIME.to_owned(),
        network: request.network.to_owned(),
        keep: configuration::kept(&request.root)?,
        dry_run: false,
    };
    request.daemon.call(&keep).map(|_| ())
}
