//! CHECK: looks whether everything of an attachment is in place.

use meshd_api::{CheckRequest, GetEndpoints};

use super::Request;
use crate::failure::{Code, Failure};
use crate::outcome::Previous;

/// Compares the kernel, meshd and the result that the runtime remembers; changes nothing.
pub fn run(request: &Request<'_>) -> Result<(), Failure> {
    let Request { environment, root, network: _, version: _, daemon } = request;
    let place = environment.place()?;
    let sandbox = environment.namespace()?.path;
    let previous =
        Previous::read(root)?.ok_or_else(|| Failure::new(Code::Configuration, "prevResult is missing"))?;
    let attachment = request.attachment(&place);
    let mut faults = daemon.call(&CheckRequest { attachment: attachment.clone() })?.faults;
    let endpoints = daemon.call(&GetEndpoints {})?.endpoints;
    match endpoints.iter().find(|endpoint| endpoint.attachment == attachment) {
        Some(endpoint) => faults.extend(previous.differences(endpoint, &place.ifname, &sandbox)),
        None => faults.push("it was detached meanwhile".to_owned()),
    }
    if faults.is_empty() {
        return Ok(());
    }
    let what = format!("{} of {} is not as it was attached", place.ifname, place.container);
    Err(faults.into_iter().fold(Failure::new(Code::Faulty, what), Failure::with))
}
