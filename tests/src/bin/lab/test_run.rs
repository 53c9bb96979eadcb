//! Every test and check, and the plain line at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{bench, cargo, docker_28, fuzz, later, packages, peers, walls};

/// Seconds that each decoder is fed mutated input.
const FUZZ_S: u32 = 30;

/// What was counted.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Names and reasons.
    skipped: Vec<(String, String)>,
}

impl Tally {
    fn check(&mut self, name: &str, holds: bool) {
        println!("{name}: {}", if holds { "passed" } else { "FAILED" });
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Prints what was skipped and why, then the closing line; true if nothing failed.
    fn close(self) -> bool {
        let Self { passed, failed, skipped } = self;
        for (name, why) in &skipped {
            println!("skipped: {name}: {why}");
        }
        println!("{passed} passed, {failed} failed, {} skipped", skipped.len());
        failed == 0
    }
}

/// Runs every test and check, or the tests whose names contain a text; true if nothing failed.
pub fn run(name: Option<&str>) -> Result<bool> {
    mesh_lab::possible()?;
    packages::install()?;
    peers::BORINGTUN.install()?;
    later::install_containerd()?;
    mesh_lab::sweep()?;
    cargo::build()?;
    if name == Some(docker_28::NAME) {
        return docker_28::run();
    }
    let mut tally = Tally::default();
    tests(name, &mut tally)?;
    if name.is_none() {
        tally.check("format", cargo::shown(&["fmt", "--all", "--check"], &[])?.succeeded);
        let clippy = [
            "clippy",
            "--release",
            "--jobs",
            "2",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ];
        tally.check("clippy", cargo::shown(&clippy, &[])?.succeeded);
        let breaches = walls::breaches()?;
        breaches.iter().for_each(|breach| println!("{breach}"));
        tally.check("walls", breaches.is_empty());
        match bench::instructions::breaches() {
            Ok(breaches) => {
                breaches.iter().for_each(|breach| println!("{breach}"));
                tally.check("instructions", breaches.is_empty());
            }
            Err(error) => {
                println!("instructions: {error:#}");
                tally.check("instructions", false);
            }
        }
        match fuzz::run(&[], FUZZ_S) {
            Ok(outcomes) => {
                for outcome in outcomes {
                    tally.check(&format!("fuzz {}", outcome.target), outcome.finding.is_none());
                }
            }
            Err(error) => {
                println!("fuzz: {error:#}");
                tally.check("fuzz", false);
            }
        }
        if cargo::has("deny") {
            let line = ["deny", "check", "bans", "licenses", "sources"];
            tally.check("deny", cargo::shown(&line, &[])?.succeeded);
        } else {
            tally.skipped.push(("deny".to_owned(), "cargo-deny is not installed".to_owned()));
        }
    }
    Ok(tally.close())
}

fn tests(name: Option<&str>, tally: &mut Tally) -> Result<()> {
    if !nextest_installed()? {
        println!(
            "cargo-nextest is missing and can't be installed: `cargo test` runs instead, one program at a time"
        );
        return plain_tests(name, tally);
    }
    let mut line = vec!["nextest", "run", "--release", "--jobs", "2", "--workspace", "--no-fail-fast"];
    line.extend(name);
    let call = cargo::shown(&line, &[])?;
    let summary = call.stderr.lines().rev().find(|line| line.contains("Summary [")).unwrap_or_default();
    let count = |word: &str| number_before(summary, word);
    let failed = count("failed") + count("timed out") + count("exec failed");
    tally.passed += count("passed");
    tally.failed += failed;
    if !call.succeeded && failed == 0 {
        // A build error, or no test of this name.
        tally.failed += 1;
        println!("the tests did not run to their end");
    }
    if name.is_none() && count("skipped") > 0 {
        tally.skipped.extend(ignored()?);
    }
    Ok(())
}

fn plain_tests(name: Option<&str>, tally: &mut Tally) -> Result<()> {
    let mut line = vec![
        "test",
        "--release",
        "--jobs",
        "2",
        "--workspace",
        "--no-fail-fast",
        "--lib",
        "--bins",
        "--tests",
    ];
    line.extend(name);
    line.extend(["--", "--test-threads", "2"]);
    // The counts of `cargo test` are spread over its programs; whether all succeeded is its exit code.
    tally.check("cargo test", cargo::shown(&line, &[])?.succeeded);
    if name.is_none() {
        tally.skipped.extend(reasons()?);
    }
    Ok(())
}

/// Whether cargo-nextest is there, after an attempt to install it.
fn nextest_installed() -> Result<bool> {
    if cargo::has("nextest") {
        return Ok(true);
    }
    println!("installing cargo-nextest");
    Ok(cargo::shown(&["install", "cargo-nextest", "--locked"], &[])?.succeeded)
}

/// Tests that are marked as ignored, with the reason that stands in the source.
fn ignored() -> Result<Vec<(String, String)>> {
    let line = ["nextest", "list", "--release", "--workspace", "--message-format", "json"];
    let list: serde_json::Value =
        serde_json::from_str(&cargo::output(&line)?).context("read the list of tests")?;
    let reasons = reasons()?;
    let mut found = Vec::new();
    for suite in list["rust-suites"].as_object().into_iter().flat_map(serde_json::Map::values) {
        for (test, properties) in suite["testcases"].as_object().into_iter().flatten() {
            if properties["ignored"] == true {
                let function = test.rsplit("::").next().unwrap_or(test);
                let why = reasons.get(function).cloned().unwrap_or_else(|| "no reason is given".to_owned());
                found.push((test.clone(), why));
            }
        }
    }
    Ok(found)
}

/// Reasons of ignored tests, by the name of the function.
fn reasons() -> Result<BTreeMap<String, String>> {
    let mut reasons = BTreeMap::new();
    for path in walls::sources()? {
        collect_reasons(&path, &mut reasons)?;
    }
    Ok(reasons)
}

fn collect_reasons(path: &Path, reasons: &mut BTreeMap<String, String>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut reason = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[ignore = \"") {
            reason = Some(rest.trim_end_matches("\"]").to_owned());
        } else if let (Some(name), Some(why)) = (function_name(line), reason.clone()) {
            reasons.insert(name.to_owned(), why);
            reason = None;
        }
    }
    Ok(())
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// The number before a word, as in `3 passed`.
fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(&format!(" {word}")).next().filter(|before| before.len() < line.len());
    let digits = before.and_then(|before| before.rsplit(|letter: char| !letter.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{function_name, number_before};

    #[test]
    fn counts_are_read_from_the_summary() {
        let line = "     Summary [   0.5s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped";
        assert_eq!(number_before(line, "passed"), 10);
        assert_eq!(number_before(line, "failed"), 2);
        assert_eq!(number_before(line, "skipped"), 3);
        assert_eq!(number_before(line, "timed out"), 0);
    }

    #[test]
    fn the_name_of_a_test_is_found() {
        assert_eq!(function_name("fn a_test() {"), Some("a_test"));
        assert_eq!(function_name("async fn other() -> Result<()> {"), Some("other"));
        assert_eq!(function_name("let fn_name = 1;"), None);
    }
}
