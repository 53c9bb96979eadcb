//! Damaged and foreign files in the state directory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, story};
use serde_json::{Value, json};

use crate::exit::FAILED;
use crate::watch::{ended, files, identity, restore};

/// Files that exist twice, and the places of a flipped byte: in the head, in the checksum, in the content or, where
/// that is shorter, at its end.
const PAIRS: [&str; 5] = ["membership", "roster", "steward/keys", "externals", "handshakes"];
const PLACES: [usize; 5] = [0, 9, 30, 48, 90];

/// Databases, which exist once, and how many places of each are tried.
const DATABASES: [&str; 2] = ["registry.redb", "steward/book.redb"];
const PLACES_TRIED: usize = 24;

#[test]
fn one_damaged_copy_changes_nothing() {
    story("one-copy", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        a.ctl(&["peer", "add-external", "phone"])?.ok()?;
        let before = kept(&a)?;
        mesh.member_mut("a")?.daemon.stop()?;
        let sound = files(&a.state_dir())?;
        for name in PAIRS {
            for copy in ["a", "b"] {
                let path = a.state_dir().join(format!("{name}.{copy}"));
                for at in PLACES {
                    flip(&path, at)?;
                    let mut daemon = a.meshd("")?;
                    assert_eq!(kept(&a)?, before, "{} at {at}", path.display());
                    daemon.stop()?;
                    restore(&sound)?;
                }
                fs::write(&path, "")?;
                let mut daemon = a.meshd("")?;
                assert_eq!(kept(&a)?, before, "{} empty", path.display());
                assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
                daemon.stop()?;
                restore(&sound)?;
            }
        }
        Ok(())
    });
}

#[test]
fn two_damaged_copies_are_refused_and_kept() {
    story("two-copies", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        a.ctl(&["peer", "add-external", "phone"])?.ok()?;
        let before = kept(&a)?;
        mesh.member_mut("a")?.daemon.stop()?;
        let sound = files(&a.state_dir())?;
        for name in PAIRS {
            for at in PLACES {
                for copy in ["a", "b"] {
                    flip(&a.state_dir().join(format!("{name}.{copy}")), at)?;
                }
                unchanged_by_a_refused_start(
                    &a,
                    &[&format!("both copies of {}/{name}", a.state_dir().display())],
                )?;
                restore(&sound)?;
            }
        }
        let _daemon = a.meshd("")?;
        assert_eq!(kept(&a)?, before);
        Ok(())
    });
}

#[test]
fn a_damaged_database_is_refused_or_harmless() {
    story("databases", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        mesh.token()?;
        let before = identity(&a)?;
        mesh.member_mut("a")?.daemon.kill()?;
        let sound = files(&a.state_dir())?;
        for name in DATABASES {
            let path = a.state_dir().join(name);
            let len = usize::try_from(fs::metadata(&path)?.len())?;
            for at in (0..len).step_by(len / PLACES_TRIED) {
                // Heads of pages hold more of what matters than their middles.
                flip(&path, at / 4096 * 4096 + at % 13)?;
                match a.meshd("") {
                    Ok(mut daemon) => {
                        assert_eq!(identity(&a)?, before, "{name} at {at}");
                        assert!(!daemon.log().contains("panicked"), "{name} at {at}: {}", daemon.log());
                        daemon.stop()?;
                    }
                    Err(_) => ended(&a.meshd_ends("")?, FAILED, &["cause: ", &path.display().to_string()])?,
                }
                restore(&sound)?;
            }
        }
        let _daemon = a.meshd("")?;
        assert_eq!(identity(&a)?, before);
        Ok(())
    });
}

#[test]
fn records_of_another_mesh_are_refused_at_the_start() {
    story("foreign-roster", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let mut other = lab.mesh("labs", &[&b])?;
        let before = identity(&a)?;
        mesh.member_mut("a")?.daemon.stop()?;
        other.member_mut("b")?.daemon.stop()?;
        let sound = files(&a.state_dir())?;
        for (name, words) in [("roster", "it belongs to mesh"), ("membership", "it belongs to mesh")] {
            for copy in ["a", "b"] {
                let file = format!("{name}.{copy}");
                fs::copy(b.state_dir().join(&file), a.state_dir().join(&file))?;
            }
            unchanged_by_a_refused_start(&a, &["the roster", words])?;
            restore(&sound)?;
        }
        for copy in ["a", "b"] {
            fs::remove_file(a.state_dir().join(format!("roster.{copy}")))?;
        }
        unchanged_by_a_refused_start(&a, &["the roster is missing"])?;
        restore(&sound)?;
        let _daemon = a.meshd("")?;
        assert_eq!(identity(&a)?, before);
        Ok(())
    });
}

fn unchanged_by_a_refused_start(host: &Host, words: &[&str]) -> Result<()> {
    let before = files(&host.state_dir())?;
    ended(&host.meshd_ends("")?, FAILED, words)?;
    assert!(files(&host.state_dir())? == before, "a refused start has changed a file");
    Ok(())
}

/// Who the host is, and which externals it serves by which addresses.
fn kept(host: &Host) -> Result<Value> {
    let list = host.ctl(&["peer", "list-external"])?.ok()?;
    let externals = list["externals"].as_array().context("a list without externals")?;
    let externals: Vec<Value> =
        externals.iter().map(|row| json!([row["name"], row["addr4"], row["addr6"]])).collect();
    ensure!(externals.len() == 1 && externals[0][1].is_string(), "{externals:?}");
    Ok(json!([identity(host)?, externals]))
}

fn flip(path: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let at = at.min(bytes.len().saturating_sub(1));
    let byte = bytes.get_mut(at).with_context(|| format!("{} is empty", path.display()))?;
    *byte ^= 0x55;
    Ok(fs::write(path, bytes)?)
}
