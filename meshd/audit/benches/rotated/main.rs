//! A log of as many leaves as wanted, as nodes that rotate their keys fill it: `cargo lab bench audit`.
//!
//! Every record is signed, every tile written, and the last tree signed; nothing is kept in memory but one tile.

#![expect(clippy::disallowed_methods, reason = "a log is a directory of files")]

mod life;
mod mesh;
mod written;

use std::env;
use std::path::Path;

use life::{TICK_S, steps};
use mesh::Mesh;
use written::Written;

/// Called with a directory, a number of leaves and the time of the last of them, prints the id of the mesh.
fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [dir, leaves, end] = &arguments[..] else { return eprintln!("usage: rotated DIR LEAVES END") };
    let leaves: usize = leaves.parse().expect("a number of leaves");
    let end: u64 = end.parse().expect("seconds since 1970");

    let after_founding = || steps().take(leaves.saturating_sub(Mesh::FOUNDING_LEAVES));
    let last = after_founding().last().map_or(0, |(tick, _)| tick);
    let start = end - last * TICK_S;
    let mut mesh = Mesh::found(start);
    let mut log = Written::new(Path::new(dir));
    mesh.founding().into_iter().for_each(|row| log.append(row));
    for (tick, step) in after_founding() {
        log.append(mesh.leaf(start + tick * TICK_S, step));
    }
    log.finish(&mesh);
    println!("{}", mesh.id);
}
