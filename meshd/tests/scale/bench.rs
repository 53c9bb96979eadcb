//! One node with as many peers as wanted, in a process of its own: `cargo lab bench peers`.

mod crowd;
mod node;
mod run;
#[path = "../rig/space.rs"]
mod space;

use std::process::{Command, Stdio};

use crowd::Crowd;
use node::Node;
use space::Space;

/// Times that one more peer comes and goes.
const CHANGES: u32 = 20;

/// Called with a number of peers it prints a line for each number: name, value, unit, which limit, limit.
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("node") => node::serve(std::io::stdin(), std::io::stdout()),
        Some(count) => measure(count.parse().expect("a number of peers")),
        None => eprintln!("usage: peers COUNT"),
    }
}

fn measure(peers: u32) {
    let (Some(here), Some(there)) = (Space::new(), Space::new()) else { std::process::exit(1) };
    crowd::link(&here, &there);
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.arg("node").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = here.inside(|| command.spawn()).expect("the node starts");
    let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut node = Node::new(input, output);
    let mut crowd = Crowd::new(&there, peers + 1);
    let seen = run::run(&mut node, &mut crowd, peers, CHANGES);
    // The end of its input ends it.
    drop(node);
    child.wait().expect("the node ends");

    eprintln!("{} of {} peers connected, {:?} answered", seen.connected, seen.peers, seen.answered);
    eprintln!("echoes lost: {} of {}", seen.stream.lost(), seen.stream.sent());
    eprintln!("dropped: {}", seen.drops);
    seen.numbers.iter().for_each(|number| println!("{number}"));
}
