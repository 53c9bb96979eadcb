//! Network namespaces without names, and two of them with a link between.
//!
//! They vanish with the process, so nothing stays behind and any number of tests may run at once. Needs root and
//! /dev/net/tun.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

/// Longest wait for anything; far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A network namespace; it ends with the last thread, process and socket in it.
pub struct Space {
    file: File,
}

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

impl Space {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a namespace");
            File::open("/proc/thread-self/ns/net").expect("open the namespace")
        });
        let space = Self { file: file.join().expect("the namespace is made") };
        space.ip("link set lo up");
        // Nobody else could have an address.
        for scope in ["all", "default"] {
            space.set(&format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0");
        }
        space
    }

    /// Runs `act` on a thread that lives in the namespace.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) {
        self.run("ip", words);
    }

    /// Runs a program with these words; it has to succeed.
    pub fn run(&self, program: &str, words: &str) {
        let output = self.try_run(program, words);
        assert!(output.status.success(), "{program} {words}: {}", said(&output));
    }

    /// Runs a program with these words, and returns what it said.
    pub fn output(&self, program: &str, words: &str) -> String {
        said(&self.try_run(program, words))
    }

    fn try_run(&self, program: &str, words: &str) -> Output {
        let output = self
            .inside(|| Command::new(program).args(words.split_whitespace()).stdin(Stdio::null()).output());
        output.unwrap_or_else(|error| panic!("{program}: {error}"))
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

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
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
        let turn = Turn::take()?;
        Some(Self { left: Space::new(), right: Space::new(), _turn: turn })
    }
}

impl Turn {
    /// `None`, with a word why, where namespaces or devices cannot be made.
    pub fn take() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: needs root and /dev/net/tun");
            return None;
        }
        Some(Self { _guard: TURN.lock().unwrap_or_else(PoisonError::into_inner) })
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

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
