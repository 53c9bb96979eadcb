//! VERSION: tells the versions spoken.

use serde_json::{Value, json};

use crate::configuration;
use crate::document::Object;
use crate::version::Version;

/// Answers in the version of the question if that is spoken.
pub fn document(root: &Object<'_>) -> Value {
    let version = configuration::version(root).unwrap_or(Version::NEWEST);
    json!({
        "cniVersion": version.text(),
        "supportedVersions": Version::ALL.map(Version::text),
    })
}
