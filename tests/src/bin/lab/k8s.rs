//! Kubernetes on lab machines: a control plane and two nodes whose pods are attached by meshd.

mod control;
mod keys;
mod node;
mod programs;
mod story;

use anyhow::{Context, Result};
use mesh_lab::Lab;

use crate::{cargo, packages};
use programs::Programs;

/// Runs a cluster and tries what it promises; false if something does not hold.
pub fn run() -> Result<bool> {
    mesh_lab::possible()?;
    packages::install()?;
    let programs = Programs::install()?;
    cargo::build()?;
    let lab = Lab::new("k8s")?;
    let mut checks = Checks::default();
    let told = story::tell(&lab, &programs, &mut checks);
    if told.is_err() || checks.failed > 0 {
        lab.failed();
        println!("logs: {}", lab.logs().display());
    }
    if let Err(error) = told {
        println!("FAIL the story could not go on: {error:#}");
        checks.failed += 1;
    }
    println!("{} passed, {} failed", checks.passed, checks.failed);
    Ok(checks.failed == 0)
}

/// Counts what holds and what does not.
#[derive(Debug, Default)]
struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    /// Checks one thing and says whether it holds; the text is what was found.
    fn check(&mut self, what: &str, holds: impl FnOnce() -> Result<String>) -> bool {
        let start = std::time::Instant::now();
        let found = holds().with_context(|| what.to_owned());
        let took = start.elapsed().as_secs_f32();
        let is_held = found.is_ok();
        match found {
            Ok(found) => {
                self.passed += 1;
                println!("PASS {what} ({took:.1} s) {found}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {error:#}");
            }
        }
        is_held
    }
}
