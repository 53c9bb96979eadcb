//! `lab`: shows, tests and measures meshd on one machine. `cargo lab` runs it.

mod bench;
mod cargo;
mod debian;
mod demo;
mod docker_28;
mod fuzz;
mod k8s;
mod later;
mod packages;
mod peers;
mod test_run;
mod walls;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Show, test and measure meshd on one machine.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Lab {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show it all: three hosts form a mesh, carry real work, and outlive their registry.
    Demo {
        /// Leave the hosts up until Ctrl-C, and say how to enter them.
        #[arg(long)]
        keep: bool,
    },
    /// Measure; never fails because of a number.
    Bench(bench::Options),
    /// Run every test and check, or the tests whose names contain NAME; `docker-28` runs those of Docker with Docker 28.
    Test {
        /// Part of the names of tests.
        name: Option<String>,
    },
    /// Prove that packages depend on each other, and code is cut, only as designed.
    Walls,
    /// Do what continuous integration does.
    Ci,
    /// Remove what labs of killed processes left.
    Sweep,
    /// Run Kubernetes on three machines, with pods attached by meshd. Builds it the first time.
    K8s,
    /// Feed mutated input to every decoder, guided by what it reaches.
    Fuzz {
        /// Which targets; all if none is given.
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        /// Seconds for each target.
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
}

fn main() -> ExitCode {
    match run(Lab::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a verb; false if what it checked does not hold.
fn run(verb: Verb) -> Result<bool> {
    std::env::set_current_dir(mesh_lab::repository()?).context("enter the repository")?;
    match verb {
        Verb::Demo { keep } => demo::run(keep).map(|()| true),
        Verb::Bench(options) => bench::run(&options).map(|()| true),
        Verb::Test { name } => test_run::run(name.as_deref()),
        Verb::Ci => test_run::run(None),
        Verb::Walls => {
            let breaches = walls::breaches()?;
            breaches.iter().for_each(|breach| println!("{breach}"));
            println!("{} breaches", breaches.len());
            Ok(breaches.is_empty())
        }
        Verb::Sweep => {
            let swept = mesh_lab::sweep()?;
            println!("{} dead labs removed", swept.len());
            Ok(true)
        }
        Verb::K8s => k8s::run(),
        Verb::Fuzz { targets, seconds } => fuzz::verb(&targets, seconds),
    }
}
