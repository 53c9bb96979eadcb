//! Where the programs of other systems come from; a cache below the target directory keeps them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::system::Found;
use crate::peers::CrateProgram;
use crate::{debian, packages};

/// A program of Debian's newest release, unpacked into the cache and never installed; those in Go run on older ones.
pub fn debian(package: &str, program: &str) -> Result<Found> {
    let dir = cache()?.join("debian").join(package);
    let (path, version) = (dir.join("root").join(program), dir.join("version"));
    if !path.exists() || !version.exists() {
        download(package, &dir).with_context(|| format!("get the package {package}"))?;
    }
    ensure!(path.exists(), "the package {package} has no {program}");
    let version = fs::read_to_string(&version).with_context(|| format!("read {}", version.display()))?;
    Ok(Found { path, version: version.trim().to_owned() })
}

/// A program of a crate, compiled if it is not there.
pub fn compiled(program: CrateProgram) -> Result<Found> {
    Ok(Found { path: program.install()?, version: program.version.to_owned() })
}

/// A program of a Debian package, installed if it is not there.
pub fn installed(package: &'static str, program: &str) -> Result<Found> {
    packages::install_all(&[(program, package)])?;
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat", "${Version}", package]);
    Ok(Found { path: PathBuf::from(program), version: debian::run(&mut command)? })
}

fn download(package: &str, dir: &Path) -> Result<()> {
    let debs = debian::unpack(&[package], dir)?;
    let deb = debs.first().context("find the downloaded package")?;
    let version = debian::run(Command::new("dpkg-deb").arg("--field").arg(deb).arg("Version"))?;
    fs::write(dir.join("version"), version).context("note the version of a package")
}

fn cache() -> Result<PathBuf> {
    let dir = mesh_lab::target_dir()?.join("bench-peers");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}
