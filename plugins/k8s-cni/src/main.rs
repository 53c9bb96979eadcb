//! meshd-cni: the CNI plugin of meshd. A runtime runs it for each attachment; it asks meshd and tells the answer.
//!
//! It holds no state and owns nothing on the host. `environment` and `configuration` read what the runtime says, each
//! verb is a file under `command`, `daemon` asks meshd within the verb's deadline, `outcome` writes the result as the
//! version asked for has it, and `failure` the error. Standard output carries what CNI defines and nothing else.
//!
//! With arguments it is a command for people: `install` puts the plugin and its configuration where runtimes look.

mod arguments;
mod command;
mod configuration;
mod daemon;
mod deadline;
mod document;
mod environment;
mod failure;
mod input;
mod install;
mod outcome;
mod talk;
mod verb;
mod version;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.is_empty() { command::run() } else { install::run(&words) }
}
