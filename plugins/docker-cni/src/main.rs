//! meshd-docker: Docker's network and IPAM driver `meshd`. Docker asks over a unix socket; it asks meshd and answers.
//!
//! It holds no state and owns nothing on the host: networks and endpoints live in meshd, because Docker tells of a
//! network once and never again. Each noun that Docker calls is a file under `call`, `meshd` asks the daemon within a
//! call's time, `failure` makes one line of what went wrong.
//!
//! ```text
//! network create   RequestPool      the subnet is judged            GetNetworks
//!                  RequestAddress   the gateway: the pool's .1
//!                  CreateNetwork    the network is known            PutNetwork
//! run, connect     RequestAddress   an address is claimed           Claim
//!                  CreateEndpoint   the link is made                Attach
//!                  Join             its name and routes are told    Describe
//! stop, disconnect Leave
//!                  DeleteEndpoint   the link goes                   Detach
//!                  ReleaseAddress   the address goes back           Release
//! network rm       DeleteNetwork    the network is forgotten        RemoveNetwork
//! ```
//!
//! The link is made in CreateEndpoint, not in Join, because only CreateEndpoint names the addresses. Docker calls Join
//! right behind it, or DeleteEndpoint if anything failed in between; if Docker dies in between, the end meant for the
//! container stays on the host, and meshd removes such a link by itself. A call that comes twice finds its own work:
//! the endpoint's id names it. Leave does nothing: Docker takes the link out of the container after it and calls
//! DeleteEndpoint then, so that nothing is pulled away under its hands.
//!
//! Docker tells a plugin no name of a container and no label. `follower` learns them from Docker's own API, through
//! `engine`, and tells meshd; it is no part of any call.
//!
//! Tasks: one acceptor, one task a connection, one that follows Docker.

mod body;
mod call;
mod engine;
mod failure;
mod follower;
mod meshd;
mod network_options;
mod options;
mod pool_id;
#[cfg(test)]
mod sample;
mod server;
mod socket;
mod talk;

use std::process::ExitCode;

use meshd_api::Exit;
use options::{HELP, Order};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match Order::parse(&words) {
        Ok(Order::Help) => talk::answer(HELP),
        Ok(Order::Version) => talk::answer(concat!("meshd-docker ", env!("CARGO_PKG_VERSION"))),
        Ok(Order::Serve(serve)) => server::run(&serve),
        Err(wrong) => {
            talk::aside(&format!("{wrong}; see meshd-docker --help"));
            return Exit::Usage.code().into();
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            talk::aside(&format!("error: {}", failure.line()));
            Exit::Failed.code().into()
        }
    }
}
