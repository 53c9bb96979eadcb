//! A steward that shows two trees to two nodes: they tell each other, and keep what convicts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Lab, story, wait};

const DEADLINE: Duration = Duration::from_secs(120);
/// Code of `meshctl audit`.
const TAMPERED: i32 = 3;

#[test]
fn two_trees_of_one_size_convict_the_steward_on_the_nodes_that_were_shown_them() {
    story("fork", |lab| shown_two_trees(lab, 1, 1));
}

#[test]
fn two_trees_of_different_sizes_do_so_as_soon_as_the_log_is_asked_how_it_grew() {
    story("fork-sizes", |lab| shown_two_trees(lab, 1, 3));
}

/// Shows b one tree and c another, each longer than what both have seen by so many leaves.
fn shown_two_trees(lab: &Lab, to_b: u32, to_c: u32) -> Result<()> {
    let [a, b, c] = lab.hosts(["a", "b", "c"])?;
    let mut mesh = lab.mesh("clinics", &[&a, &b, &c])?;
    mesh.everyone_reaches_all()?;
    let org =
        a.ctl(&["status"])?.ok()?["mesh"]["organisations"][0]["id"].as_str().context("an id")?.to_owned();
    for host in [&b, &c] {
        wait::until(DEADLINE, "the newest checkpoint is kept", || kept(host, &org) == newest(&a))?;
    }
    mesh.member_mut("c")?.daemon.stop()?;
    mesh.member_mut("a")?.daemon.stop()?;
    let backup = a.dir().join("backup");
    copy(&a.state_dir(), &backup)?;

    mesh.member_mut("a")?.daemon = a.meshd("")?;
    grow(&a, to_b)?;
    wait::until(DEADLINE, "b keeps the one tree", || kept(&b, &org) == newest(&a))?;
    mesh.member_mut("b")?.daemon.stop()?;
    mesh.member_mut("a")?.daemon.kill()?;
    fs::remove_dir_all(a.state_dir())?;
    copy(&backup, &a.state_dir())?;

    mesh.member_mut("a")?.daemon = a.meshd("")?;
    mesh.member_mut("c")?.daemon = c.meshd("")?;
    grow(&a, to_c)?;
    wait::until(DEADLINE, "c keeps the other tree", || kept(&c, &org) == newest(&a))?;
    ensure!(kept(&b, &org) != kept(&c, &org), "both have seen one tree");
    ensure!([&b, &c].into_iter().all(|host| !evidence(host, &org).exists()), "nobody knows of it yet");

    mesh.member_mut("b")?.daemon = b.meshd("")?;
    let met = Instant::now();
    for host in [&b, &c] {
        wait::until(DEADLINE, "there is evidence", || evidence(host, &org).exists())?;
        println!("{} has evidence after {:.1} s", host.name(), met.elapsed().as_secs_f64());
        let warnings = host.ctl(&["status"])?.ok()?["warnings"].to_string();
        ensure!(warnings.contains("log-forked"), "{}: {warnings}", host.name());
        let code = split_view(host, &[&evidence(host, &org), &a.state_dir().join("steward/log")])?;
        ensure!(code == TAMPERED, "split-view at {} ended with {code}", host.name());
    }
    // Whoever it was that had the log written twice: nobody is cut off.
    mesh.everyone_reaches_all()
}

/// Appends leaves to the log of a steward.
fn grow(steward: &Host, leaves: u32) -> Result<()> {
    (0..leaves).try_for_each(|_| steward.ctl(&["invite"])?.ok().map(drop))
}

/// Size and root of the checkpoint that a node keeps of an organisation's log.
fn kept(host: &Host, org: &str) -> Option<String> {
    tree(&host.state_dir().join("checkpoints").join(org))
}

/// Those of the newest checkpoint of a steward's log.
fn newest(steward: &Host) -> Option<String> {
    tree(&steward.state_dir().join("steward/log/checkpoint"))
}

fn tree(note: &Path) -> Option<String> {
    let note = fs::read_to_string(note).ok()?;
    let lines: Vec<&str> = note.lines().skip(1).take(2).collect();
    Some(lines.join(" "))
}

fn evidence(host: &Host, org: &str) -> PathBuf {
    host.state_dir().join("evidence").join(org)
}

fn split_view(host: &Host, files: &[&Path]) -> Result<i32> {
    let out = host.dir().join("shown");
    let mut line = vec!["audit", "split-view", "--out", text(&out)?];
    for file in files {
        line.push(text(file)?);
    }
    Ok(host.ctl(&line)?.code)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().context("a name")?);
        if path.is_dir() { copy(&path, &to)? } else { fs::copy(&path, &to).map(drop)? }
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
