//! What is said to people and to runtimes.

use std::io::Write;

/// Says a line on standard error; that nobody listens is no failure.
pub fn aside(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "meshd-cni: {line}");
}

/// Writes an answer on standard output, and whether it went out.
pub fn answer(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}
