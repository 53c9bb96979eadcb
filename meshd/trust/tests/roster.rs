//! What a roster believes, what it refuses, and what it remembers.

#[path = "roster/honest.rs"]
mod honest;
#[path = "roster/meadow.rs"]
mod meadow;
