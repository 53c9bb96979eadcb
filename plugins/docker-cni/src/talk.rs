//! What is said to people.

use std::io::Write;

use crate::failure::Failure;

/// Says a line on standard error, where the journal finds it; that nobody listens is no failure.
pub fn aside(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "meshd-docker: {line}");
}

/// Writes a text on standard output.
pub fn answer(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new("standard output can't be written").because(&error))
}
