//! A network namespace without a name.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace; it ends with the last thread, process and socket in it.
pub struct Space(File);

impl Space {
    /// `None`, with a word why, where namespaces or devices cannot be made.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: needs root and /dev/net/tun");
            return None;
        }
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace is made");
            // Links would otherwise not carry IPv6 until an address is known to be unique, after a second.
            for scope in ["all", "default"] {
                let setting = format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad");
                std::fs::write(setting, "0").expect("a setting is changed");
            }
            File::open("/proc/thread-self/ns/net").expect("the namespace is opened")
        });
        let space = Self(file.join().expect("the namespace is made"));
        space.ip("link set lo up");
        Some(space)
    }

    /// Runs `act` on a thread that lives in the namespace.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace is entered");
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
        let output = self.inside(|| Command::new(program).args(words.split_whitespace()).output());
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {words}: {said}");
    }

    /// Where another process finds it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}
