//! The network configuration that comes on standard input.

mod kept;
mod settings;
mod wishes;

pub use kept::kept;
pub use settings::{RUNTIME, Settings};
pub use wishes::{Dns, Wishes};

use std::path::PathBuf;

use meshd_api::PLUGIN_SOCKET_DEFAULT;
use serde_json::{Map, Value};

use crate::document::Object;
use crate::environment::{Environment, is_identifier};
use crate::failure::{Code, Failure};
use crate::version::Version;

/// Reads standard input's bytes as one JSON object.
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(Code::Decode, "standard input is no network configuration").because(&error)
    })
}

/// Name of the network.
pub fn name<'a>(root: &Object<'a>) -> Result<&'a str, Failure> {
    let name = root.required("name")?;
    if is_identifier(name) {
        return Ok(name);
    }
    let wanted = "letters, digits, dots, hyphens and underscores";
    Err(Failure::new(Code::Configuration, format!("name is {name:?}, not {wanted}")))
}

/// Version the caller speaks; of several the newest that is spoken here too.
pub fn version(root: &Object<'_>) -> Result<Version, Failure> {
    if let Some(text) = root.text("cniVersion")? {
        return Version::of(text).ok_or_else(|| not_spoken(text));
    }
    let texts = root.texts("cniVersions")?;
    let newest = texts.iter().copied().filter_map(Version::of).max();
    // A configuration without a version is one of 0.1.0.
    newest.ok_or_else(|| not_spoken(texts.last().copied().unwrap_or("0.1.0")))
}

fn not_spoken(text: &str) -> Failure {
    Failure::new(Code::Version, format!("CNI version {text:?} is not spoken"))
        .with(format!("spoken are {}", Version::ALL.map(Version::text).join(", ")))
}

/// Where meshd listens: the environment comes before the configuration.
pub fn socket(root: &Object<'_>, environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(path) = environment.socket() {
        return Ok(path);
    }
    Ok(root.text("socket")?.unwrap_or(PLUGIN_SOCKET_DEFAULT).into())
}
