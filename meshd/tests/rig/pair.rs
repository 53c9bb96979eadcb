//! Two network namespaces with a link between, and what is done in them.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::space::Space;

/// Longest wait for anything; far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Two namespaces with one link between them.
pub struct Pair {
    pub left: Space,
    pub right: Space,
    _turn: Turn,
}

/// The right to run: one test at a time in a process, as a program started by another test holds this test's sockets
/// and devices for the moment between fork and exec.
pub struct Turn {
    _guard: MutexGuard<'static, ()>,
}

impl Pair {
    /// Host 1 and host 2 of 192.168.77.0/24 and 2001:db8:77::/64; `None`, with a word why, where they can't be made.
    pub fn new() -> Option<Self> {
        let pair = Self::unlinked()?;
        link((&pair.left, "uplink"), (&pair.right, "uplink"));
        for (space, host) in [(&pair.left, 1), (&pair.right, 2)] {
            space.ip(&format!("address add 192.168.77.{host}/24 dev uplink"));
            space.ip(&format!("address add 2001:db8:77::{host}/64 dev uplink nodad"));
        }
        pair.left.settle();
        pair.right.settle();
        Some(pair)
    }

    /// The same without the link.
    pub fn unlinked() -> Option<Self> {
        let turn = Turn::take();
        Some(Self { left: Space::new()?, right: Space::new()?, _turn: turn })
    }
}

impl Turn {
    /// Waits for it.
    pub fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Self { _guard: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Space {
    /// Runs a program with these words, and returns what it said.
    pub fn output(&self, program: &str, words: &str) -> String {
        let output = self.inside(|| Command::new(program).args(words.split_whitespace()).output());
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Waits until the kernel takes packets for all its addresses: those of IPv6 get their routes in its own time.
    pub fn settle(&self) {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        wait_for("the addresses to be usable", || {
            // Of the thread: a process may have threads in several namespaces.
            let files = ["/proc/thread-self/net/if_inet6", "/proc/thread-self/net/ipv6_route"];
            let [addresses, routes] = self.inside(|| files.map(read));
            let is_local =
                |address: &str| routes.lines().any(|route| route.starts_with(&format!("{address} 80 ")));
            addresses.lines().filter_map(|line| line.split(' ').next()).all(is_local)
        });
    }

    /// Writes a setting of the kernel.
    pub fn set(&self, path: &str, value: &str) {
        self.inside(|| std::fs::write(path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// Joins two namespaces by a link with a device in each.
pub fn link((one, here): (&Space, &str), (other, there): (&Space, &str)) {
    one.ip(&format!("link add {here} type veth peer name {there} netns {}", other.path()));
    one.ip(&format!("link set {here} up"));
    other.ip(&format!("link set {there} up"));
}

pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
