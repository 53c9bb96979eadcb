//! The life of tunnel keys: each is used once, goes on after a crash at any moment, and is nowhere when it is over.

mod crashes;
mod file;
mod retired;

/// A number from the environment, where the few of a usual run are not enough.
fn wanted(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}
