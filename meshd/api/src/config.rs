//! The settings in force.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::{Body, Call, Method};

/// Asks for the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetConfig {}

impl Call for GetConfig {
    type Reply = ConfigReply;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/config";
}

/// The settings in force, defaults included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReply {
    /// File they come from; none when all are defaults or flags.
    pub file: Option<String>,
    /// The settings, in the shape of the file.
    pub config: Map<String, Value>,
}

impl Body for ConfigReply {
    const SCHEMA: &'static str = "meshd.config/1";
}
