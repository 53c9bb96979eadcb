//! The plugins behind this one, and the versions that all of them speak.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::deadline::Deadline;
use crate::failure::{Code, Failure};
use crate::verb::Verb;

/// Versions worth naming, oldest first: what runtimes in use speak.
const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// A runtime that knows only one version takes the first key, and containerd 1.6 fails with a later one there.
const FIRST_MAX: &str = "1.0.0";

/// Where runtimes begin to ask for the status.
const STATUS_SINCE: &str = "1.1.0";

/// Longest time a plugin takes to tell its versions; it only prints them.
const TELL_TIME_MAX: Duration = Duration::from_secs(10);

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What follows in a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Their parts of the configuration.
    pub plugins: Vec<Value>,
    /// Versions that all speak, oldest first.
    pub versions: Vec<&'static str>,
    /// What people should know of it, one line each.
    pub remarks: Vec<String>,
}

impl Chain {
    /// The reference plugins, where nobody can be asked.
    pub fn usual() -> Self {
        let plugins = followers().map(|(_, plugin)| plugin).into();
        Self { plugins, versions: VERSIONS.into(), remarks: Vec::new() }
    }

    /// Those of them that are in a directory. One version is spoken to a whole chain, so a plugin that is older than
    /// the version named would fail every container.
    pub fn in_dir(dir: &Path) -> Result<Self, Failure> {
        let mut chain = Self { plugins: Vec::new(), versions: VERSIONS.into(), remarks: Vec::new() };
        for (name, plugin) in followers() {
            let path = dir.join(name);
            if !path.exists() {
                chain.remarks.push(format!("{} is missing and left out", path.display()));
                continue;
            }
            let spoken = versions_of(&path)?;
            let is_old =
                chain.versions.contains(&STATUS_SINCE) && !spoken.iter().any(|one| one == STATUS_SINCE);
            if is_old {
                let old = format!("{} does not speak CNI {STATUS_SINCE}", path.display());
                chain.remarks.push(format!("{old}: runtimes will not ask whether meshd is ready"));
            }
            chain.versions.retain(|version| spoken.iter().any(|one| one == version));
            chain.plugins.push(plugin);
        }
        if chain.versions.is_empty() {
            let none =
                format!("the plugins in {} have no version of CNI in common with this one", dir.display());
            return Err(Failure::new(Code::Version, none).with(format!("wanted are {}", VERSIONS.join(", "))));
        }
        Ok(chain)
    }

    /// The version for who knows only one.
    pub fn first_version(&self) -> &'static str {
        let fitting = self.versions.iter().rev().find(|version| **version <= FIRST_MAX);
        fitting.or(self.versions.first()).copied().unwrap_or(FIRST_MAX)
    }
}

fn followers() -> [(&'static str, Value); 2] {
    [
        ("portmap", json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true})),
        ("bandwidth", json!({"type": "bandwidth", "capabilities": {"bandwidth": true}})),
    ]
}

/// What a plugin says that it speaks.
fn versions_of(path: &Path) -> Result<Vec<String>, Failure> {
    let silent = || Failure::new(Code::Faulty, format!("{} does not tell its versions", path.display()));
    let output = ask(path).map_err(|error| silent().because(&error))?;
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|error| silent().because(&error))?;
    let versions = told.get("supportedVersions").and_then(Value::as_array).ok_or_else(silent)?;
    Ok(versions.iter().filter_map(|version| version.as_str().map(str::to_owned)).collect())
}

fn ask(path: &Path) -> io::Result<Output> {
    let mut command = Command::new(path);
    command.env_clear().env("CNI_COMMAND", Verb::Version.word());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read has said all without.
        let _unread = writeln!(stdin, "{}", json!({"cniVersion": FIRST_MAX}));
    }
    let end = Deadline::after(TELL_TIME_MAX);
    while child.try_wait()?.is_none() {
        if end.left().is_zero() {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(LOOK_EVERY);
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_only_one_version_gets_none_that_older_runtimes_refuse() {
        for (versions, first) in [
            (&["0.4.0", "1.0.0", "1.1.0"][..], "1.0.0"),
            (&["0.4.0", "1.0.0"], "1.0.0"),
            (&["0.4.0"], "0.4.0"),
            (&["1.1.0"], "1.1.0"),
        ] {
            let chain = Chain { versions: versions.into(), ..Chain::usual() };
            assert_eq!(chain.first_version(), first, "{versions:?}");
        }
    }
}
