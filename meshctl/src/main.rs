//! meshctl: talks to meshd over its unix socket, and does offline what needs an organisation's root key.
//!
//! `cli` says what may be typed; each verb is a file under `command`. Data goes to standard output, talk to standard
//! error; a failure is an error, its causes and a hint, and ends with one of the exit codes of `meshd_api::Exit`.

mod armour;
mod cli;
mod command;
mod duration;
mod failure;
mod file;
mod founding;
mod interface;
mod name;
mod output;
mod passphrase;
mod place;
mod prefix;
mod root_key;
mod size;
mod subnet;
mod table;
mod time;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
