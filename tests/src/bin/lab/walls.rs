//! The walls of the house: who may depend on whom, where `unsafe` may stand, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo;

/// A package, which packages of ours it may reach, and whether it must stay free of IO.
struct Wall {
    package: &'static str,
    may_reach: &'static [&'static str],
    pure: bool,
}

/// The arrows of the architecture; a package that is not here may not exist.
const WALLS: [Wall; 14] = [
    Wall { package: "meshd-wire", may_reach: &[], pure: true },
    Wall { package: "meshd-trust", may_reach: &["meshd-wire"], pure: true },
    Wall { package: "meshd-audit", may_reach: &["meshd-wire", "meshd-trust"], pure: true },
    Wall { package: "meshd-tunnel", may_reach: &[], pure: true },
    Wall { package: "meshd-core", may_reach: &[], pure: true },
    Wall { package: "meshd-api", may_reach: &[], pure: false },
    Wall { package: "meshd-cni", may_reach: &["meshd-api"], pure: false },
    Wall { package: "meshd-k8s", may_reach: &["meshd-api"], pure: false },
    Wall { package: "meshd-docker", may_reach: &["meshd-api"], pure: false },
    Wall { package: "meshd-stand-in", may_reach: &["meshd-api"], pure: false },
    Wall { package: "meshd-registry", may_reach: &[], pure: false },
    Wall {
        package: "meshctl",
        may_reach: &["meshd-api", "meshd-audit", "meshd-trust", "meshd-wire"],
        pure: false,
    },
    Wall {
        package: "meshd",
        may_reach: &[
            "meshd-wire",
            "meshd-trust",
            "meshd-tunnel",
            "meshd-core",
            "meshd-api",
            "meshd-registry",
        ],
        pure: false,
    },
    Wall { package: "mesh-lab", may_reach: &[], pure: false },
];

/// Crates that do IO; a pure package reaches none of them.
const IO_CRATES: [&str; 7] = ["tokio", "async-std", "mio", "socket2", "hyper", "tonic", "rtnetlink"];

/// Where `unsafe` may stand.
const UNSAFE_ALLOWED: [&str; 5] =
    ["meshd/src/io/", "meshd/src/io.rs", "meshd/src/os/", "meshd/src/os.rs", "tests/src/os.rs"];

/// Lines of a file before its tests; more need a cut by noun.
const LINES_MAX: usize = 600;

/// Everything that stands where it must not.
pub fn breaches() -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    let members = members()?;
    for member in &members {
        match WALLS.iter().find(|wall| wall.package == member) {
            Some(wall) => dependencies(wall, &members, &mut breaches)?,
            None => breaches.push(format!("{member}: a package without a wall")),
        }
    }
    for path in sources()? {
        source(&path, &mut breaches)?;
    }
    Ok(breaches)
}

fn dependencies(wall: &Wall, members: &[String], breaches: &mut Vec<String>) -> Result<()> {
    let line = [
        "tree",
        "--offline",
        "-p",
        wall.package,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = cargo::output(&line)?;
    let mut reached: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    reached.sort_unstable();
    reached.dedup();
    for name in reached {
        let ours = members.iter().any(|member| member == name) && name != wall.package;
        if ours && !wall.may_reach.contains(&name) {
            breaches.push(format!("{}: depends on {name}", wall.package));
        }
        if wall.pure && IO_CRATES.contains(&name) {
            breaches.push(format!("{}: must stay free of IO but reaches {name}", wall.package));
        }
    }
    Ok(())
}

fn members() -> Result<Vec<String>> {
    let text = cargo::output(&["metadata", "--offline", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("read the metadata of the workspace")?;
    let packages = metadata["packages"].as_array().context("find the packages of the workspace")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str()).map(str::to_owned).collect())
}

/// Every Rust source of the repository.
pub fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(".")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry.context("read a directory")?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if hidden || path == Path::new("./target") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(".").unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn source(path: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    if path.ends_with("mod.rs") {
        breaches.push(format!("{shown}: `foo.rs` and `foo/` instead of mod.rs"));
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().count();
    // A suite of tests is as long as what it tests.
    let suite = path.iter().skip(1).any(|part| part == "tests" || part == "netns");
    if !suite && lines > LINES_MAX {
        breaches.push(format!("{shown}: {lines} lines before its tests, {LINES_MAX} are the most"));
    }
    let uses_unsafe = text.lines().any(|line| {
        let line = line.trim_start();
        !line.starts_with("//")
            && ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "]
                .iter()
                .any(|word| starts_word(line, word))
    });
    if uses_unsafe && !UNSAFE_ALLOWED.iter().any(|allowed| shown.starts_with(allowed)) {
        breaches.push(format!("{shown}: unsafe outside {}", UNSAFE_ALLOWED.join(", ")));
    }
    Ok(())
}

/// Whether the line holds this text outside of a string literal.
fn starts_word(line: &str, word: &str) -> bool {
    line.find(word)
        .is_some_and(|at| line.get(..at).is_some_and(|before| before.matches('"').count() % 2 == 0))
}
