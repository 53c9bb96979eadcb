//! Programs of other people that tests talk to and that no package brings.

use std::path::Path;

use anyhow::{Result, bail};

use crate::cargo;

/// Where they are installed; the tests look there.
const ROOT: &str = "target/lab-peers";

/// Compiles what is missing; half a minute, once.
pub fn install() -> Result<()> {
    if Path::new(ROOT).join("bin/boringtun-cli").exists() {
        return Ok(());
    }
    let line = ["install", "--locked", "--jobs", "2", "--root", ROOT, "boringtun-cli", "--version", "0.7.1"];
    // Profiles and features differ from ours: what is built for it must not replace what is built for us.
    let build = Path::new(ROOT).join("build");
    if !cargo::shown(&line, &[("CARGO_TARGET_DIR", &build.to_string_lossy())])?.succeeded {
        bail!("boringtun-cli did not build; the compiler's message is above");
    }
    Ok(())
}
