//! Programs of other people that tests talk to and benchmarks measure, and that no package brings.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::cargo;

/// A program of a crate.
#[derive(Debug, Clone, Copy)]
pub struct CrateProgram {
    /// Name of the crate.
    pub name: &'static str,
    /// Its release: exactly this one, so that every run talks to the same program.
    pub version: &'static str,
    /// Name of the program in it.
    pub program: &'static str,
}

/// The one that tests need.
pub const BORINGTUN: CrateProgram =
    CrateProgram { name: "boringtun-cli", version: "0.7.1", program: "boringtun-cli" };

impl CrateProgram {
    /// Gives the path of the program. Compiles it where it is missing: half a minute, once.
    pub fn install(self) -> Result<PathBuf> {
        // The tests look there too.
        let root = mesh_lab::repository()?.join("target/lab-peers");
        let path = root.join("bin").join(self.program);
        if path.exists() {
            return Ok(path);
        }
        let exact = format!("{}@{}", self.name, self.version);
        // Profiles and features differ from ours: what is built for it must not replace what is built for us.
        let build = root.join("build");
        let line = ["install", "--locked", "--jobs", "2", "--root", &root.to_string_lossy(), &exact];
        if !cargo::shown(&line, &[("CARGO_TARGET_DIR", &build.to_string_lossy())])?.succeeded {
            bail!("{exact} did not build; the compiler's message is above");
        }
        ensure!(path.exists(), "the crate {} has no program {}", self.name, self.program);
        Ok(path)
    }
}
