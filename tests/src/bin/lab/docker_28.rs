//! Docker 28 beside the one that Debian installs: its own test run, on demand.
//!
//! The programs are those of Debian's next release, unpacked and not installed. `runc` is the installed one: a newer
//! one needs a newer C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use mesh_lab::DOCKER_ROOT_VARIABLE;

use crate::cargo;

/// What the test run is called.
pub const NAME: &str = "docker-28";

const PACKAGES: [&str; 3] = ["docker.io", "docker-cli", "containerd"];

const SOURCE: &str =
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main\n";

/// Tests with real containers of Docker.
const TESTS: [&str; 3] = ["docker", "docker_network", "containers"];

/// Runs these tests; false if one fails.
pub fn run() -> Result<bool> {
    let root = install()?;
    let root = root.to_str().context("the path of the repository is no text")?;
    let mut line = vec!["nextest", "run", "--release", "--jobs", "2", "-p", "mesh-lab", "--no-fail-fast"];
    line.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    Ok(cargo::shown(&line, &[(DOCKER_ROOT_VARIABLE, root)])?.succeeded)
}

/// Gives the root of the programs. Fetches them where they are missing: 60 MB, once.
fn install() -> Result<PathBuf> {
    let dir = mesh_lab::repository()?.join("target/lab-peers").join(NAME);
    let root = dir.join("root");
    if root.join("usr/sbin/dockerd").exists() {
        return Ok(root);
    }
    // Unpacked whole or not there.
    let unpacked = dir.join("root.new");
    let apt = dir.join("apt");
    for part in ["etc/apt/apt.conf.d", "etc/apt/preferences.d", "lists/partial", "archives/partial"] {
        create(&apt.join(part))?;
    }
    create(&unpacked)?;
    write(&apt.join("etc/apt/sources.list"), SOURCE)?;
    write(&apt.join("status"), "")?;
    println!("fetching {}", PACKAGES.join(" "));
    apt_get(&apt, &["update", "--quiet"])?;
    let mut line = vec!["download", "--quiet"];
    line.extend(PACKAGES);
    apt_get(&apt, &line)?;
    for file in fs::read_dir(&apt).with_context(|| format!("list {}", apt.display()))? {
        let file = file.context("list packages")?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg").arg("--extract").arg(&file).arg(&unpacked))?;
        }
    }
    fs::rename(&unpacked, &root).with_context(|| format!("move {}", unpacked.display()))?;
    fs::remove_dir_all(&apt).with_context(|| format!("remove {}", apt.display()))?;
    Ok(root)
}

/// apt with nothing of this machine's but its keys.
fn apt_get(dir: &Path, arguments: &[&str]) -> Result<()> {
    let option = |key: &str, path: &str| format!("{key}={}", dir.join(path).display());
    let mut command = Command::new("apt-get");
    for option in [
        option("Dir::Etc", "etc/apt"),
        option("Dir::State::Lists", "lists"),
        option("Dir::State::status", "status"),
        option("Dir::Cache", "."),
        "Acquire::Languages=none".to_owned(),
        // The user that apt fetches as may not enter this directory.
        "APT::Sandbox::User=root".to_owned(),
    ] {
        command.args(["-o", &option]);
    }
    succeed(command.args(arguments).current_dir(dir))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
