//! The commands on the lab.
fn main() {}
