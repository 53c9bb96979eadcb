//! How a request finds its path and its answer.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// HTTP method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads; has no body.
    Get,
    /// Changes or does something; the body is the request as JSON.
    Post,
}

/// A request, with where it goes and what comes back.
pub trait Call: Serialize {
    /// What is answered when all went well.
    type Reply: Body;

    /// HTTP method.
    const METHOD: Method;

    /// Path on the socket.
    const PATH: &'static str;

    /// Seconds after which a caller gives up; longer than the daemon's own deadline for the same work.
    const DEADLINE_S: u64 = 10;
}

/// The body of an answer.
pub trait Body: Serialize + DeserializeOwned {
    /// Name and number of its shape.
    const SCHEMA: &'static str;
}

/// A body with the name of its schema beside its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document<T> {
    schema: String,
    /// The body.
    #[serde(flatten)]
    pub body: T,
}

impl<T: Body> Document<T> {
    /// Puts the schema beside a body.
    pub fn new(body: T) -> Self {
        Self { schema: T::SCHEMA.to_owned(), body }
    }

    /// Schema the document says it follows.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether it follows the schema of its type.
    pub fn fits(&self) -> bool {
        self.schema == T::SCHEMA
    }
}
