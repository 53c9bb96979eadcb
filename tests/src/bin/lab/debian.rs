//! Packages of another release of Debian than this machine's: fetched by apt with lists of their own, and unpacked
//! without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Release whose packages are newer than those of a stable Debian.
pub const NEWEST: &str = "sid";

/// Unpacks packages of the newest release into `root` of a directory, with nothing of what they depend on; returns
/// the packages.
pub fn unpack(packages: &[&str], dir: &Path) -> Result<Vec<PathBuf>> {
    println!("fetching {} of Debian {NEWEST}, once", packages.join(", "));
    let lists = mesh_lab::target_dir()?.join("debian");
    for part in ["lists/partial", "cache/archives/partial"] {
        create(&lists.join(part))?;
    }
    let (fetched, root) = (dir.join("deb"), dir.join("root"));
    create(&fetched)?;
    create(&root)?;
    let (list, status) = (lists.join("sources.list"), lists.join("status"));
    let source = format!("deb {} {NEWEST} main\n", mirror()?);
    fs::write(&list, source).with_context(|| format!("write {}", list.display()))?;
    fs::write(&status, "").with_context(|| format!("write {}", status.display()))?;
    let options = [
        format!("Dir::State::Lists={}", lists.join("lists").display()),
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache={}", lists.join("cache").display()),
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        // Nobody but root may enter the directory.
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
    ];
    let apt_get = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["-o", option]);
        }
        run(command.arg("--quiet").args(words).current_dir(&fetched))
    };
    apt_get(&["update"])?;
    apt_get(&[&["download"], packages].concat())?;
    let entries = fs::read_dir(&fetched).with_context(|| format!("list {}", fetched.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let debs: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect();
    for deb in &debs {
        run(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&root))?;
    }
    Ok(debs)
}

/// The mirror that the system itself uses.
pub fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]);
    command.args(["Identifier: Packages", "Component: main", "Origin: Debian"]);
    let text = run(&mut command)?;
    // Updates and security have a hyphen in their names, and mirrors of their own.
    let found =
        text.lines().filter_map(|line| line.split_once(' ')).find(|(_, release)| !release.contains('-'));
    Ok(found.context("find the mirror of this Debian; run `apt-get update`")?.0.to_owned())
}

/// Runs a command to its end and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))
}
