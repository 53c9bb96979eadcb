//! Many nodes that say again and again what became of their keys: `cargo lab bench audit`.
//!
//! Each node is what a steward sees of one: it joins with a token, and says over connections of its own that it
//! announced, used and destroyed a key, one statement after the proof of the other.

mod node;

use std::env;
use std::io::{self, BufRead};
use std::time::{Duration, Instant, UNIX_EPOCH};

use meshd_wire::JoinToken;
use node::Node;
use tokio::task::JoinSet;

/// Pace of a node: a steward takes 8 leaves a second of each node of a laboratory mesh.
const STATEMENT_EVERY: Duration = Duration::from_millis(134);

/// Called with a number of seconds, and tokens on standard input, prints a line for each leaf: when it was proven, in
/// seconds since 1970, and milliseconds that the node waited for it.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let seconds = env::args().skip(1).find_map(|argument| argument.parse().ok());
    let Some(seconds) = seconds else { return eprintln!("usage: statements SECONDS < TOKENS") };
    let mut nodes = Vec::new();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let token: JoinToken = line.expect("tokens").parse().expect("a token");
        nodes.push(Node::join(&token, number).await);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut running = JoinSet::new();
    let count = u32::try_from(nodes.len()).expect("few");
    for (mut node, number) in nodes.into_iter().zip(0..) {
        running.spawn(async move {
            tokio::time::sleep(STATEMENT_EVERY * number / count).await;
            let mut proven = Vec::new();
            while Instant::now() < end {
                node.converse(end, STATEMENT_EVERY, &mut proven).await;
            }
            proven
        });
    }
    while let Some(proven) = running.join_next().await {
        for (at, waited) in proven.expect("a node ends") {
            let at = at.duration_since(UNIX_EPOCH).expect("after 1970");
            println!("{:.3} {:.3}", at.as_secs_f64(), waited.as_secs_f64() * 1e3);
        }
    }
}
