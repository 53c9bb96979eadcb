//! What is done with the node and its peers, and what is seen.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Stream};
use crate::node::{Node, Usage};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Initiations under way during a burst: far fewer than what a node takes for load.
const UNDER_WAY_MAX: usize = 128;
/// Echoes under way: a device's queue holds 128 packets, and answers of the kernel fill it at once.
const ASKED_MAX: usize = 64;
/// Time in which probes of the paths come to their end.
const SETTLING: Duration = Duration::from_secs(2);

/// What was seen of a node with many peers.
#[derive(Debug)]
pub struct Seen {
    /// Peers that were given.
    pub peers: usize,
    /// Peers that the node and the peers themselves hold for connected.
    pub connected: usize,
    /// Peers that got an answer on their first session, and on the one that replaced it.
    pub answered: [usize; 2],
    /// Echoes beside the changes, and what became of them.
    pub stream: Stream,
    /// What the node dropped, by reason.
    pub drops: String,
    /// The numbers of a benchmark.
    pub numbers: Vec<Number>,
}

/// A number and what is wanted.
#[derive(Debug)]
pub struct Number {
    name: String,
    value: f64,
    unit: &'static str,
    /// Whether the limit is the least or the most that is wanted.
    is_least: bool,
    limit: f64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, is_least, limit } = self;
        let kind = if *is_least { "least" } else { "most" };
        write!(f, "{name}\t{value}\t{unit}\t{kind}\t{limit}")
    }
}

/// Connects all peers but the last, renews their sessions, and lets the last come and go so many times.
pub fn run(node: &mut Node, crowd: &mut Crowd, peers: u32, changes: u32) -> Seen {
    let count = peers as usize;
    let mut numbers = Vec::new();
    let empty = node.usage();
    numbers.push(at_most("memory without peers", empty.rss_mb, "MB", 20.0));

    let start = Instant::now();
    let set = beside(crowd, || node.set_peers(peers));
    crowd.run(PATIENCE, |crowd| crowd.established(1) >= count);
    numbers.push(at_most("all peers given at once", ms(set), "ms", 1000.0));
    numbers.push(at_most("all peers connected after", start.elapsed().as_secs_f64(), "s", 4.0));
    crowd.run(SETTLING, |_| false);
    let connected = crowd.established(1).min(node.peers_up() as usize);
    let first = all_answer(crowd, peers, 1);
    let called = node.usage();
    numbers.push(per_core("handshakes begun", count, (empty, called)));
    numbers.push(at_most("memory with all peers active", called.rss_mb, "MB", 90.0));

    let kept = crowd.prepare(peers);
    let (start, mut next) = (Instant::now(), 0);
    crowd.run(PATIENCE, |crowd| {
        while next < kept.len() && next - crowd.kept().min(next) < UNDER_WAY_MAX {
            crowd.send_kept(&kept[next]);
            next += 1;
        }
        crowd.kept() >= count
    });
    let rate = crowd.kept() as f64 / start.elapsed().as_secs_f64();
    numbers.push(at_least("handshakes answered", rate, "1/s", 4500.0));
    crowd.take_kept();
    crowd.run(SETTLING, |_| false);
    let second = all_answer(crowd, peers, 2);
    let answered = node.usage();
    numbers.push(per_core("handshakes answered and confirmed", count, (called, answered)));
    numbers.push(at_most("memory with two sessions for each peer", answered.rss_mb, "MB", 90.0));

    let (mut added, mut removed, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    crowd.start_stream();
    for _ in 0..changes {
        let before = crowd.established_by(peers);
        let start = Instant::now();
        added.push(beside(crowd, || node.set_peers(peers + 1)));
        crowd.run(PATIENCE, |crowd| crowd.established_by(peers) > before);
        joined.push(start.elapsed());
        removed.push(beside(crowd, || node.set_peers(peers)));
    }
    let stream = crowd.end_stream(SETTLING);
    for (what, mut times) in [("added", added), ("removed", removed)] {
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied().unwrap_or_default();
        numbers.push(at_most(&format!("one peer {what}, median of {changes}"), ms(middle), "ms", 50.0));
        let slowest = times.last().copied().unwrap_or_default();
        numbers.push(at_most(&format!("one peer {what}, slowest"), ms(slowest), "ms", 50.0));
    }
    let slowest = joined.into_iter().max().unwrap_or_default();
    numbers.push(at_most(
        "the added peer connected after, with its intended delay",
        ms(slowest),
        "ms",
        1000.0,
    ));
    let what = format!("echoes of another peer lost, of {}", stream.sent());
    numbers.push(at_most(&what, stream.lost() as f64, "", 0.0));
    numbers.push(at_most("slowest of these echoes", ms(stream.slowest()), "ms", 50.0));
    numbers.push(at_most("memory after these changes", node.usage().rss_mb, "MB", 90.0));
    Seen { peers: count, connected, answered: [first, second], stream, drops: node.drops(), numbers }
}

/// Lets every peer ask for an echo; returns how many have got so many answers then.
fn all_answer(crowd: &mut Crowd, peers: u32, times: u32) -> usize {
    let mut asked = 0;
    crowd.run(PATIENCE, |crowd| {
        let answered = crowd.answered(times);
        while asked < peers && asked as usize - answered < ASKED_MAX {
            crowd.ask(asked);
            asked += 1;
        }
        answered >= peers as usize
    });
    crowd.answered(times)
}

/// Does something while the peers live on.
fn beside<T: Send>(crowd: &mut Crowd, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(act);
        crowd.run(PATIENCE, |_| thread.is_finished());
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn per_core(name: &str, count: usize, (before, after): (Usage, Usage)) -> Number {
    let spent = after.engine.saturating_sub(before.engine).as_secs_f64();
    at_least(&format!("{name}, each second of a core"), count as f64 / spent, "1/s", 4500.0)
}

fn at_most(name: &str, value: f64, unit: &'static str, limit: f64) -> Number {
    Number { name: name.to_owned(), value, unit, is_least: false, limit }
}

fn at_least(name: &str, value: f64, unit: &'static str, limit: f64) -> Number {
    Number { name: name.to_owned(), value, unit, is_least: true, limit }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
