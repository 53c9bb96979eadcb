//! What these tests look at: how something was refused, and what was there before and after.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh_lab::{Host, Output, Process, Reply, wait};
use serde_json::{Value, json};

/// Generous: a loaded machine is no defect.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Fails unless meshctl ended with this code, one error line, and all these words.
pub fn refused(reply: &Reply, code: i32, words: &[&str]) -> Result<()> {
    reply.refused(code)?;
    said(&reply.output, words)
}

/// Fails unless meshd ended with this code, one error line, and all these words.
pub fn ended(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let errors = output.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    if output.code != code || errors != 1 || output.stderr.contains("panicked") {
        bail!(
            "meshd was to end with {code} and one error line; it ended with {}: {}",
            output.code,
            output.stderr
        );
    }
    said(output, words)
}

fn said(output: &Output, words: &[&str]) -> Result<()> {
    match words.iter().find(|word| !output.stderr.contains(**word)) {
        Some(word) => bail!("`{}` did not say {word:?}: {}", output.command, output.stderr),
        None => Ok(()),
    }
}

/// Everything in a state directory but the lock, which names whoever opened it last.
pub fn files(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name != "lock") {
                found.insert(path.clone(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// As [`files`], without databases: those note that they were opened.
pub fn plain_files(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = files(dir)?;
    found.retain(|path, _| path.extension().is_none_or(|extension| extension != "redb"));
    Ok(found)
}

/// Puts files back as they were.
pub fn restore(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for (path, bytes) in files {
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        written.with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Fails unless the host belongs to no mesh, has no overlay device and keeps nothing of an attempt.
pub fn is_outside(host: &Host) -> Result<()> {
    let status = host.ctl(&["status"])?.ok()?;
    assert_eq!(status["membership"], "outside", "{status}");
    let kept: Vec<PathBuf> = files(&host.state_dir())?.into_keys().collect();
    assert!(kept.is_empty(), "{kept:?}");
    assert!(!has_device(host)?, "a device is left");
    Ok(())
}

/// Whether the host has an overlay device.
pub fn has_device(host: &Host) -> Result<bool> {
    Ok(host.run(&["ip", "link", "show", "meshd0"])?.code == 0)
}

/// Who the host is in which mesh.
pub fn identity(host: &Host) -> Result<Value> {
    let status = host.ctl(&["status"])?.ok()?;
    Ok(json!([status["membership"], status["node"], status["mesh"]["id"], status["mesh"]["name"]]))
}

/// Starts a daemon by a command line of its own, and waits until it answers.
pub fn started(host: &Host, command: Command) -> Result<Process> {
    let process = Process::start(command, host.namespace(), &host.log("meshd"))?;
    wait::until(DEADLINE, "the daemon answers", || host.ctl(&["status"]).is_ok_and(|reply| reply.code == 0))?;
    Ok(process)
}

/// Puts another program with arguments before a command.
pub fn by(words: &[&str], command: &Command) -> Result<Command> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    Ok(outer)
}

/// Value of a warning's code, if the host shows it.
pub fn warns(host: &Host, code: &str) -> bool {
    let status = host.ctl(&["status"]).map(|reply| reply.json).unwrap_or_default();
    let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().any(|warning| warning["code"] == code)
}
