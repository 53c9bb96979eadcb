//! Where cargo puts things.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The repository.
pub fn repository() -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(tests.parent().context("find the repository")?.to_owned())
}

/// Where the running program's profile puts programs: `target/release`.
pub fn program_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the own program")?;
    let dir = own.parent().context("find the directory of the own program")?;
    // Tests lie one directory deeper than programs.
    let dir = if dir.ends_with("deps") { dir.parent().context("find the target directory")? } else { dir };
    Ok(dir.to_owned())
}

/// The target directory.
pub fn target_dir() -> Result<PathBuf> {
    Ok(program_dir()?.parent().context("find the target directory")?.to_owned())
}

/// A program of this workspace, built before.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = program_dir()?.join(name);
    if !path.exists() {
        bail!("{} is not built; run `cargo build --release -p {name}`", path.display());
    }
    Ok(path)
}

/// Compiler flags of programs that need nothing of their host but its kernel.
pub const STATIC_FLAGS: &str = "-C target-feature=+crt-static";

/// The target that such programs are built for: this machine's.
pub fn static_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A program of this workspace that needs no libraries, built before.
pub fn static_program(name: &str) -> Result<PathBuf> {
    let target = static_target();
    let path = target_dir()?.join(&target).join("release").join(name);
    if !path.exists() {
        let build = format!("RUSTFLAGS=\"{STATIC_FLAGS}\" cargo build --release -p {name} --target {target}");
        bail!("{} is not built; run `{build}`", path.display());
    }
    Ok(path)
}
