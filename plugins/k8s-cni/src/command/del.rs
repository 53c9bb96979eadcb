//! DEL: detaches a container, and never holds up its end.

use meshd_api::DetachRequest;

use super::attachment;
use crate::configuration;
use crate::daemon::Daemon;
use crate::deadline::Deadline;
use crate::document::Object;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::talk;

/// Fails only if no attachment is named. A configuration that became wrong, a version nobody speaks or a meshd that is
/// down must not keep a pod from ending: meshd finds by itself that the namespace is gone.
pub fn run(environment: &Environment, root: &Object<'_>, deadline: Deadline) -> Result<(), Failure> {
    let attachment = attachment(configuration::name(root)?, &environment.place()?);
    let detached = configuration::socket(root, environment)
        .and_then(|socket| Daemon::new(socket, deadline))
        .and_then(|daemon| daemon.call(&DetachRequest { attachment }));
    if let Err(failure) = detached {
        talk::aside(&format!("left to meshd: {}", failure.line()));
    }
    Ok(())
}
