//! What is wrong gets the verdict and the words that it must get.

use std::path::Path;

use meshd_audit::{Bundle, BundleError, BundleLog, LogSource, audit};
use meshd_trust::log::Severity;
use meshd_wire::MeshId;

use crate::fixtures::{Fixture, all, files};
use crate::made::{codes, terms};

#[test]
fn every_fixture_gets_its_verdict() {
    for Fixture { name, mesh, bytes, exit, codes } in all() {
        let codes: Vec<String> = codes.into_iter().map(str::to_owned).collect();
        assert_eq!(verdict(&bytes, mesh), (exit, codes), "{name}");
    }
}

/// For another verifier: `cargo test -p meshd-audit write_fixtures -- --ignored` writes to `target/audit-fixtures`.
#[test]
#[ignore = "writes files for others; run on demand"]
#[expect(clippy::disallowed_methods, reason = "another verifier reads them from files")]
fn write_fixtures() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/audit-fixtures");
    std::fs::create_dir_all(&dir).expect("a directory");
    fixtures(&dir);
}

#[test]
fn fixtures_are_written_with_their_index() {
    let dir = tempfile::tempdir().expect("a directory");
    fixtures(dir.path());
    assert!(dir.path().join("index.json").is_file() && dir.path().join("clean.bundle").is_file());
}

/// Writes all fixtures into a directory, with `index.json`, which says what is expected of each.
#[expect(clippy::disallowed_methods, reason = "another verifier reads them from files")]
pub fn fixtures(dir: &Path) {
    for (name, bytes) in files() {
        std::fs::write(dir.join(name), bytes).expect("written");
    }
}

/// What this verifier says: the exit code and the codes of all findings.
pub fn verdict(bytes: &[u8], mesh: MeshId) -> (u8, Vec<String>) {
    let said = || -> Result<_, BundleError> {
        let bundle = Bundle::read(&bytes)?;
        let chain = bundle.chain(Some(mesh))?;
        let logs = bundle.logs();
        let sources: Vec<LogSource<'_>> = logs.iter().map(BundleLog::source).collect();
        Ok(audit(chain, &sources, &terms(bundle.made().0), &mut |_, _| {})?)
    };
    match said() {
        Ok(report) => (report.verdict.code(), codes(&report)),
        Err(error) if error.severity() == Some(Severity::Tampering) => (3, vec![]),
        Err(_) => (1, vec![]),
    }
}
