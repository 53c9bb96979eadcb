//! An error and its sources in one line, for answers and log fields.

use std::error::Error;

/// Joins an error and its sources with colons.
pub fn of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
