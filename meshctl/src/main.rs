//! meshctl: talks to meshd over its unix socket, and does offline what needs an organisation's root key.
//!
//! `cli` says what may be typed; each verb is a file under `command`. Data goes to standard output, talk to standard
//! error; a failure is an error, its causes and a hint, and ends with one of the exit codes of `meshd_api::Exit`.

mod armour;
mod audit_page;
mod bundle_file;
mod cli;
mod command;
mod duration;
mod failure;
mod file;
mod founding;
mod interface;
mod journal;
mod log_dir;
mod name;
mod output;
mod passphrase;
mod place;
mod prefix;
mod progress;
mod root_key;
mod size;
mod subnet;
mod table;
mod time;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        // Of the codes of an audit, that of a wrong call would mean findings.
        Err(error) if error.use_stderr() && command::audit::is_meant(std::env::args().skip(1)) => {
            output::talk(error.to_string().trim_end());
            return ExitCode::from(command::audit::FAILED);
        }
        Err(error) => error.exit(),
    };
    match command::run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
