//! An error and its sources in one line, for answers and log fields.

use std::error::Error;

/// Joins an error and its sources with colons.
pub fn of(error: &dyn Error) -> String {
    meshd_api::chain(error).collect::<Vec<_>>().join(": ")
}
