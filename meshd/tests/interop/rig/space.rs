//! A network namespace without a name.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Output, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

use super::wait_for;

/// A network namespace; it ends with the last thread, process and socket in it.
pub struct Space {
    file: File,
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

    /// Waits until the kernel has put all addresses into use, which it does in its own time.
    pub fn settle(&self) {
        wait_for("the addresses to be usable", || self.output("ip", "-6 address show tentative").is_empty());
    }

    /// Writes a setting of the kernel.
    pub fn set(&self, path: &str, value: &str) {
        self.inside(|| std::fs::write(path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// Joins two namespaces by a link with a device in each.
pub fn link((one, here): (&Space, &str), (other, there): (&Space, &str)) {
    one.ip(&format!("link add {here} type veth peer name {there} netns {}", other.path()));
    one.ip(&format!("link set {here} up"));
    other.ip(&format!("link set {there} up"));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
