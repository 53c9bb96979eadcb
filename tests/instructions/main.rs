//! Runs one piece of the packet path at a time, so that callgrind counts its instructions:
//! `cargo lab bench instructions` does, without what the ciphers take.

mod handshake;
mod measured;
mod packet;
mod session;

use std::process::ExitCode;

/// A piece of the packet path.
struct Case {
    name: &'static str,
    /// What it handles: the count is divided by this.
    units: u32,
    unit: &'static str,
    /// Instructions a unit may take.
    limit: u32,
    /// Sets the scene, warms up and runs the piece once inside of [`measured::measured`].
    run: fn(),
    /// The cipher's function, whose instructions do not count.
    pause: &'static str,
}

/// Where sealing enters the cipher.
const SEAL: &str = "*EVP_AEAD_CTX_seal_scatter";
/// Where opening enters the cipher.
const OPEN: &str = "*EVP_AEAD_CTX_open_gather";
/// A piece without a cipher.
const NONE: &str = "";

fn cases() -> Vec<Case> {
    session::CASES.into_iter().chain(packet::CASES).chain(handshake::CASES).collect()
}

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1).filter(|name| name != "--bench") else {
        for Case { name, units, unit, limit, run: _, pause } in cases() {
            println!("{name}\t{units}\t{unit}\t{limit}\t{pause}");
        }
        return ExitCode::SUCCESS;
    };
    match cases().iter().find(|case| case.name == name) {
        Some(case) => {
            (case.run)();
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("there is no case {name}");
            ExitCode::FAILURE
        }
    }
}
