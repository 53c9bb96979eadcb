//! What tests run of a Debian to come, beside this one's: fetched by apt into a root of its own, and unpacked without
//! being installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::Containerd;

/// The release under way; what is in it next week may be newer, and still has to get along with us.
const SOURCE: &str =
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main\n";

/// Its first line of versions that asks plugins for their status is 2.
const CONTAINERD_MAJOR_MIN: u32 = 2;

/// Fetches and unpacks containerd where it is missing: half a minute, once.
pub fn install_containerd() -> Result<()> {
    let dir = Containerd::later_dir()?;
    if dir.exists() {
        return Ok(());
    }
    println!("fetching containerd of Debian sid");
    // Whole or not at all: it gets its name when it is complete.
    let new = dir.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))?;
    }
    // Plugins that know the status come with the runtime that asks for it.
    fetch(&new, &["containerd", "containernetworking-plugins"]).context("fetch containerd of Debian sid")?;
    let version = run(Command::new(new.join("root/usr/bin/containerd")).arg("--version"))?;
    let major =
        version.split_whitespace().filter_map(|word| word.split('.').next()?.parse::<u32>().ok()).next();
    ensure!(major >= Some(CONTAINERD_MAJOR_MIN), "this is no containerd {CONTAINERD_MAJOR_MIN}: {version}");
    fs::rename(new.join("root"), &dir).with_context(|| format!("name {}", dir.display()))?;
    fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))
}

/// Unpacks packages into `root` of a directory; what apt needs for that lies beside it.
fn fetch(dir: &Path, packages: &[&str]) -> Result<()> {
    for part in ["state/lists/partial", "cache/archives/partial", "deb", "root"] {
        let part = dir.join(part);
        fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    }
    let source = dir.join("source.list");
    fs::write(&source, SOURCE).with_context(|| format!("write {}", source.display()))?;
    let apt = |words: &[&str]| {
        let place = |key: &str, part: &str| format!("--option=Dir::{key}={}", dir.join(part).display());
        let mut command = Command::new("apt-get");
        command.current_dir(dir.join("deb")).arg("--quiet").arg("--option=Dir::Etc::SourceParts=/dev/null");
        command.arg("--option=Dir::State::Status=/dev/null").arg("--option=Acquire::Languages=none");
        // Nobody but root may enter the directory.
        command.arg("--option=APT::Sandbox::User=root");
        command.args([
            place("Etc::SourceList", "source.list"),
            place("State", "state"),
            place("Cache", "cache"),
        ]);
        run(command.args(words))
    };
    apt(&["update"])?;
    apt(&[&["download"], packages].concat())?;
    for deb in fs::read_dir(dir.join("deb")).context("list what was fetched")? {
        let deb = deb.context("list what was fetched")?.path();
        run(Command::new("dpkg").arg("--extract").arg(deb).arg(dir.join("root")))?;
    }
    Ok(())
}

/// The standard output of a command that must succeed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
