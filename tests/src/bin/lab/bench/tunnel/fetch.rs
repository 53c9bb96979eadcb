//! Where the programs of other systems come from; a cache below the target directory keeps them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::system::Found;
use crate::packages;
use crate::peers::CrateProgram;

/// Release whose packages are newer than those of a stable Debian; programs in Go run on older releases too.
const NEWEST: &str = "sid";

/// A program of Debian's newest release, unpacked into the cache and never installed.
pub fn debian(package: &str, program: &str) -> Result<Found> {
    let dir = cache()?.join("debian").join(package);
    let (path, version) = (dir.join("root").join(program), dir.join("version"));
    if !path.exists() || !version.exists() {
        download(package, &dir).with_context(|| format!("get the package {package} of {NEWEST}"))?;
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
    Ok(Found { path: PathBuf::from(program), version: run(command)? })
}

fn download(package: &str, dir: &Path) -> Result<()> {
    let apt = cache()?.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part)).with_context(|| format!("create {}", apt.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    // The same mirror as the system's own packages, another release.
    let (list, status) = (apt.join("sources.list"), apt.join("status"));
    let source = format!("deb {} {NEWEST} main\n", mirror()?);
    fs::write(&list, source).with_context(|| format!("write {}", list.display()))?;
    fs::write(&status, "").with_context(|| format!("write {}", status.display()))?;
    let options = [
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
    ];
    let apt_get = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["-o", option]);
        }
        command.arg("--quiet").args(words).current_dir(dir);
        run(command)
    };
    eprintln!("fetching {package} of {NEWEST}, once");
    apt_get(&["update"])?;
    apt_get(&["download", package])?;
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut debs = files.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let deb = debs.next().context("find the downloaded package")?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(&deb).arg(dir.join("root"));
    run(unpack)?;
    let mut version = Command::new("dpkg-deb");
    version.arg("--field").arg(&deb).arg("Version");
    fs::write(dir.join("version"), run(version)?).context("note the version of a package")
}

/// The mirror that the system itself uses.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    command.args(["Identifier: Packages", "Component: main", "Origin: Debian"]);
    let text = run(command)?;
    // Updates and security have a hyphen in their names, and mirrors of their own.
    let found =
        text.lines().filter_map(|line| line.split_once(' ')).find(|(_, release)| !release.contains('-'));
    Ok(found.context("find the mirror of this Debian; run `apt-get update`")?.0.to_owned())
}

fn cache() -> Result<PathBuf> {
    let dir = mesh_lab::target_dir()?.join("bench-peers");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// Runs a command to its end and returns what it printed.
fn run(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
