//! Coverage-guided fuzzing of every decoder, on the stable toolchain.
//!
//! The targets are the programs of `tests/fuzz`. The compiler puts LLVM's coverage counters into them and into all
//! they depend on; libFuzzer, built by its crate with the system's C++ compiler, reads the counters. They have a
//! target directory of their own, so that nothing else is ever built with counters.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::packages;

/// Each target with the longest input that is worth trying: a few honest ones end to end.
const TARGETS: [(&str, u32); 17] = [
    ("api", 4096),
    ("audit", 2048),
    ("channel", 4096),
    ("coalescer", 512),
    ("enrol", 8192),
    ("envelope", 4096),
    ("handshake", 512),
    ("join", 2048),
    ("packet", 1500),
    ("record", 4096),
    ("registry", 4096),
    ("roster", 2048),
    ("roster_file", 8192),
    ("splitter", 1500),
    ("text_file", 4096),
    ("token", 512),
    ("transport", 1500),
];

/// Targets that run at a time: cores of the smallest machine this must be quick on.
const AT_A_TIME: usize = 2;

/// Lines of a target's log that are shown beside a finding.
const LOG_LINES_SHOWN: usize = 20;

/// Memory of one target; a decoder that needs more for a few kilobytes has a fault.
const RSS_MIB_MAX: u32 = 512;

/// Time for one input; a decoder that needs more has a fault.
const INPUT_S_MAX: u32 = 5;

/// What the compiler adds for libFuzzer, and the checks that a release build leaves out. One codegen unit, because
/// the linker may drop parts of the counter tables of several.
const RUST_FLAGS: &str = "\
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on --cfg fuzzing";

/// How one target ended.
#[derive(Debug)]
pub struct Outcome {
    /// The target.
    pub target: &'static str,
    /// Inputs tried.
    pub runs: u64,
    /// Edges of the program that some input reached.
    pub coverage: u64,
    /// What stopped it before its time, if something did.
    pub finding: Option<Finding>,
}

/// A fault, or a run that did not come to its end.
#[derive(Debug)]
pub struct Finding {
    /// The input that shows it, if libFuzzer wrote one.
    pub input: Option<PathBuf>,
    /// All that the target said.
    pub log: PathBuf,
    /// What of it tells most.
    pub said: String,
}

/// Runs targets and prints what they did; true if nothing was found.
pub fn verb(targets: &[String], seconds: u32) -> Result<bool> {
    packages::install()?;
    let outcomes = run(targets, seconds)?;
    Ok(outcomes.iter().all(|outcome| outcome.finding.is_none()))
}

/// Builds the targets and runs those named, all if none is; each for some seconds, and prints each when it ends.
pub fn run(targets: &[String], seconds: u32) -> Result<Vec<Outcome>> {
    let chosen = chosen(targets)?;
    if seconds == 0 {
        bail!("a target runs for one second at least");
    }
    let programs = build()?;
    let corpus = mesh_lab::target_dir()?.join("fuzz-corpus");
    let count = chosen.len();
    let (queue, outcomes) = (Mutex::new(VecDeque::from(chosen)), Mutex::new(Vec::with_capacity(count)));
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().map_err(|_| anyhow!("another target's thread panicked"))?.pop_front();
            let Some((target, len_max)) = next else { return Ok(()) };
            let outcome = one(target, len_max, seconds, &programs, &corpus.join(target))
                .with_context(|| format!("run the fuzz target {target}"))?;
            print(&outcome);
            outcomes.lock().map_err(|_| anyhow!("another target's thread panicked"))?.push(outcome);
        }
    };
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a target's thread panicked"))??;
        }
        Ok(())
    })?;
    outcomes.into_inner().map_err(|_| anyhow!("a target's thread panicked"))
}

fn chosen(names: &[String]) -> Result<Vec<(&'static str, u32)>> {
    if names.is_empty() {
        return Ok(TARGETS.to_vec());
    }
    let find = |name: &String| TARGETS.into_iter().find(|(target, _)| target == name);
    let all = TARGETS.map(|(target, _)| target).join(", ");
    names
        .iter()
        .map(|name| find(name).with_context(|| format!("{name} is no fuzz target; there are {all}")))
        .collect()
}

/// Builds every target with counters; returns where the programs are.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target_dir = mesh_lab::target_dir()?.join("fuzz");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--jobs",
            "2",
            "--manifest-path",
            "tests/fuzz/Cargo.toml",
            "--target-dir",
        ])
        .arg(&target_dir)
        // With a target named, the flags below do not reach build scripts and macros, which have no libFuzzer.
        .args(["--target", &host])
        .current_dir(mesh_lab::repository()?)
        .env("RUSTFLAGS", RUST_FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build; the compiler's message is above");
    }
    Ok(target_dir.join(host).join("release"))
}

/// The machine that the compiler builds for by default.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("ask rustc for the host")?;
    let text = String::from_utf8(output.stdout).context("ask rustc for the host")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name the host")
}

/// Runs one target to its end.
fn one(target: &'static str, len_max: u32, seconds: u32, programs: &Path, dir: &Path) -> Result<Outcome> {
    // `kept`: inputs that reached something new, kept for the next run. `found`: inputs that showed a fault; they
    // are tried again before anything else.
    let [seeds, kept, found] = ["seeds", "kept", "found"].map(|name| dir.join(name));
    match fs::remove_dir_all(&seeds) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("remove old seeds");
        }
        Ok(()) | Err(_) => {}
    }
    for part in [&seeds, &kept, &found] {
        fs::create_dir_all(part).with_context(|| format!("create {}", part.display()))?;
    }
    let log_path = dir.join("log");
    let log = File::create(&log_path).with_context(|| format!("create {}", log_path.display()))?;
    let mut artifacts = OsString::from("-artifact_prefix=");
    artifacts.push(&found);
    artifacts.push("/");
    let status = Command::new(programs.join(target))
        .args([&kept, &seeds, &found])
        .arg(artifacts)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={len_max}"))
        .arg(format!("-rss_limit_mb={RSS_MIB_MAX}"))
        .arg(format!("-timeout={INPUT_S_MAX}"))
        .arg("-print_final_stats=1")
        // The target writes its honest inputs here before it reads them.
        .env("MESHD_FUZZ_SEEDS", &seeds)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("open the log twice")?)
        .stderr(log)
        .status()
        .with_context(|| format!("start {target}"))?;
    let log = String::from_utf8_lossy(&fs::read(&log_path).context("read the log")?).into_owned();
    let finding = (!status.success()).then(|| Finding {
        input: log.lines().rev().find_map(artifact),
        said: said(&log),
        log: log_path,
    });
    Ok(Outcome { target, runs: runs(&log), coverage: coverage(&log), finding })
}

fn print(outcome: &Outcome) {
    let Outcome { target, runs, coverage, finding } = outcome;
    println!(
        "fuzz {target}: {runs} inputs, {coverage} edges: {}",
        if finding.is_none() { "passed" } else { "FAILED" }
    );
    let Some(Finding { input, log, said }) = finding else { return };
    println!("{said}");
    match input {
        Some(input) => println!("fuzz {target}: the input is {}", input.display()),
        None => println!("fuzz {target}: no input was written"),
    }
    println!("fuzz {target}: the whole log is {}", log.display());
}

/// The file that a line of libFuzzer's names, as in `…; Test unit written to found/crash-1`.
fn artifact(line: &str) -> Option<PathBuf> {
    line.split_once("Test unit written to ").map(|(_, path)| path.trim().into())
}

/// Inputs tried: the number of the last status line, `#4711 DONE cov: …`, which also a crash leaves behind.
fn runs(log: &str) -> u64 {
    let number = |line: &str| line.strip_prefix('#')?.split_ascii_whitespace().next()?.parse().ok();
    let last = log.lines().rev().find_map(number);
    let stated = log.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    stated.and_then(|number| number.trim().parse().ok()).or(last).unwrap_or(0)
}

/// Edges reached, from the last status line.
fn coverage(log: &str) -> u64 {
    let number = |line: &str| line.split_once(" cov: ")?.1.split_ascii_whitespace().next()?.parse().ok();
    log.lines().rev().find_map(number).unwrap_or(0)
}

/// The message of a panic, or the last lines where nothing panicked.
fn said(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.len().saturating_sub(LOG_LINES_SHOWN);
    let from = lines.iter().position(|line| line.contains("panicked at ")).unwrap_or(last);
    lines
        .into_iter()
        .skip(from)
        .take(LOG_LINES_SHOWN)
        .take_while(|line| !line.starts_with("stack backtrace:"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::{TARGETS, artifact, chosen, coverage, runs, said};

    #[test]
    fn every_program_of_the_fuzz_crate_is_a_target() {
        let sources = mesh_lab::repository().expect("a repository").join("tests/fuzz/src/bin");
        let programs: BTreeSet<String> = fs::read_dir(sources)
            .expect("sources of the targets")
            .map(|entry| {
                entry.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(programs, TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect());
    }

    #[test]
    fn an_unknown_target_is_refused_and_none_means_all() {
        assert_eq!(chosen(&[]).expect("targets").len(), TARGETS.len());
        assert_eq!(chosen(&["roster".to_owned()]).expect("a target").len(), 1);
        assert!(chosen(&["roster".to_owned(), "rooster".to_owned()]).is_err());
    }

    #[test]
    fn numbers_are_read_from_the_log() {
        let log = "#2\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 28Mb\n\
                   #44366\tDONE   cov: 3220 ft: 6002 corp: 446/21Kb lim: 559 exec/s: 7394 rss: 31Mb\n\
                   stat::number_of_executed_units: 44366\n";
        assert_eq!((runs(log), coverage(log)), (44_366, 3220));
        assert_eq!((runs("#7\tNEW    cov: 3 ft: 1"), coverage("#7\tNEW    cov: 3 ft: 1")), (7, 3));
        assert_eq!((runs("killed"), coverage("killed")), (0, 0));
    }

    #[test]
    fn the_input_that_shows_a_fault_is_named() {
        let line = "artifact_prefix='found/'; Test unit written to found/crash-1";
        assert_eq!(artifact(line), Some("found/crash-1".into()));
        assert_eq!(artifact("SUMMARY: libFuzzer: deadly signal"), None);
    }

    #[test]
    fn a_panic_is_shown_without_what_is_around_it() {
        let log =
            "#1\tNEW\nthread '<unnamed>' (1) panicked at a.rs:1:1:\nthe message\nstack backtrace:\n 0: f";
        assert_eq!(said(log), "thread '<unnamed>' (1) panicked at a.rs:1:1:\nthe message");
        assert_eq!(said("out of memory"), "out of memory");
    }
}
