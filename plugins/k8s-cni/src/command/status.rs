//! STATUS: tells whether containers could be attached.

use meshd_api::{GetReady, Ready};

use super::Request;
use crate::configuration::Settings;
use crate::failure::{Code, Failure};

/// Fails while ADD would; a runtime then starts no containers here.
pub fn run(request: &Request<'_>) -> Result<(), Failure> {
    Settings::read(&request.root)?;
    let ready = request.daemon.call(&GetReady {}).map_err(|failure| failure.coded(Code::NotAvailable))?;
    match ready {
        Ready { can_attach: true, is_connected: _, detail: _ } => Ok(()),
        Ready { can_attach: false, is_connected, detail } => {
            let (code, what) = if is_connected {
                (Code::NotAvailable, "meshd can't attach containers now")
            } else {
                (Code::Limited, "meshd can't attach containers now, and those attached are cut off")
            };
            Err(detail.into_iter().fold(Failure::new(code, what), Failure::with))
        }
    }
}
