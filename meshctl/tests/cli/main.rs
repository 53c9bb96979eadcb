//! meshctl as it is called: what it prints, what it asks of the daemon, how it ends.

mod audit;
mod canned;
mod daemon;
mod endpoint;
mod failures;
#[path = "../../../meshd/audit/tests/audit/fixtures.rs"]
mod fixtures;
mod founding;
mod help;
#[expect(dead_code, reason = "the tests of the library use the rest")]
#[path = "../../../meshd/audit/tests/audit/made.rs"]
mod made;
mod observed;
mod online;
#[path = "../../../meshd/audit/tests/audit/packed.rs"]
mod packed;
mod peer;
mod watched;

use std::path::Path;
use std::process::{Command, Output};

use daemon::Daemon;

/// What a run printed and how it ended.
#[derive(Debug)]
struct Run {
    stdout: String,
    stderr: String,
    code: i32,
}

impl Run {
    /// All of it as one text, to be held against a snapshot.
    fn to_text(&self) -> String {
        format!("{}--- standard error\n{}--- exit code {}", self.stdout, self.stderr, self.code)
    }
}

/// Runs meshctl in a directory.
fn meshctl_in(dir: &Path, args: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .args(args)
        .current_dir(dir)
        .env_remove("MESHD_SOCKET")
        .output()
        .expect("meshctl runs");
    let Output { status, stdout, stderr } = output;
    Run {
        stdout: String::from_utf8(stdout).expect("text"),
        stderr: String::from_utf8(stderr).expect("text"),
        code: status.code().expect("an exit code"),
    }
}

/// Runs meshctl with a daemon that gives canned answers.
fn meshctl(daemon: &Daemon, args: &[&str]) -> Run {
    let socket = daemon.socket().display().to_string();
    let mut all = vec!["--socket", &socket];
    all.extend_from_slice(args);
    meshctl_in(daemon.dir(), &all)
}
