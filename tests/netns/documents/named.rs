//! Tests that a document names: they exist, and no test of a listed bug or mistake is missing there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A row of a table whose last column names tests.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// What the table lists: the first cell of its head.
    pub kind: String,
    /// The first cell.
    pub subject: String,
    /// The tests.
    pub tests: Vec<String>,
}

impl Row {
    /// How the names of this row's own tests begin, if its subject is a number.
    pub fn prefix(&self) -> Option<String> {
        let number: u8 = self.subject.parse().ok()?;
        Some(format!("{}{number:02}_", self.kind))
    }
}

/// The rows of all tables whose last column is `tests`.
pub fn rows(text: &str) -> Vec<Row> {
    let (mut rows, mut kind) = (Vec::new(), None);
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        kind = match (&cells[..], kind) {
            (["", first, .., "tests", ""], _) => Some((*first).to_owned()),
            (["", first, .., last, ""], Some(kind)) => {
                let tests = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
                if !first.starts_with("---") {
                    rows.push(Row { kind: kind.clone(), subject: (*first).to_owned(), tests });
                }
                Some(kind)
            }
            _ => None,
        };
    }
    rows
}

/// Names of all tests in the sources below a directory.
pub fn tests_below(root: &Path) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path: PathBuf = entry.expect("an entry").path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if hidden || path == root.join("target") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                collect(&fs::read_to_string(&path).expect("a source"), &mut found);
            }
        }
    }
    found
}

fn collect(source: &str, found: &mut BTreeSet<String>) {
    let (mut is_test, mut in_list) = (false, false);
    for line in source.lines().map(str::trim) {
        let listed = line.strip_prefix("in_both_suites!(");
        in_list |= listed.is_some();
        if in_list {
            let names = listed.unwrap_or(line).trim_end_matches(");").split(',').map(str::trim);
            found.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            in_list = !line.ends_with(");");
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
            if is_test {
                found.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
}
